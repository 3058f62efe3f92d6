"""A Ray cluster as `keras_sae.fit` takes it."""

import pathlib
from typing import Any

import keras_sae

from ..constraints import check
from .actors import Actors, Engine
from .rows import ClusterRows, opened
from .shards import files, is_named, slices

SHARDS = 16  # of arrays


class Cluster:
    """Actors on the machines of a Ray cluster, which own rows and sum over them: training past one machine.

    The objective is the exact one, in two rounds an evaluation. Each actor sums the activations of its rows, the driver
    forms rho_hat, and each sums losses and gradients: in float64, added up in a tree over the shards. It is the same
    tree for any number of actors, and so is the result, to the bit, if each computes on as many threads. An actor that
    dies is replaced by one that reads its shards again and repeats its part.

    Args:
        address: of a Ray cluster, "host:6379", or "ray://host:10001" from outside of it. None starts one on this
            machine, which only processes with a token of this user may join.
        actors: how many; None is as many as there are cores for.
        threads: the cores that each takes.
        shards: into how many arrays are cut; no more actors than that have a part of them.
        cache: a directory on each machine, for features between layers and for rows that cannot be read where they
            lie. None is that for temporary files.
        engine: what runs the actors, if it is not Ray.

    Raises:
        InputError: there is no cluster at the address, no room for the actors, or a machine without this library or
            with another version.
        MissingPackageError: Ray is not installed.

    >>> with keras_sae.Cluster() as cluster:
    ...     history = keras_sae.fit(ae, "parts/*.parquet", cluster=cluster)
    """

    def __init__(
        self,
        address: str | None = None,
        actors: int | None = None,
        threads: int = 1,
        shards: int = SHARDS,
        cache: str | pathlib.Path | None = None,
        engine: Engine | None = None,
    ):
        for name, value in {"actors": actors, "threads": threads, "shards": shards}.items():
            check(name, value)
        if engine is None:
            from .ray_engine import RayEngine

            engine = RayEngine(address, actors, threads)
        begin = keras_sae.__version__, threads, None if cache is None else str(cache)
        self._shards, self._actors = shards, Actors(engine, actors or engine.room(), begin)

    def rows(self, x: Any, y: Any = None, sample_weight: Any = None, **options: Any) -> ClusterRows:
        """Return rows on the actors, which `fit`, `fit_head`, `objective` and `StackedAutoencoder` take for x.

        Args:
            x: a path, a pattern, a directory or an address that fsspec knows, or several. Each file is a shard, each
                directory of images is one. A path without wildcards is that of the machine of the actor that reads it.
                Or an array, which is cut into shards and sent.
            y, sample_weight: with an array, as of `fit`.
            **options: with paths, of `readers.read_rows`: labels, feature, image_size and so on.

        Raises:
            InputError: a shard is missing, empty, damaged or of another width.
            ValueError: arrays do not fit, or options do not fit what x is.
        """
        if isinstance(x, ClusterRows):
            return x
        if not is_named(x):
            if options:
                raise ValueError(f"Expected `{next(iter(options))}` with paths of data. Received: an array.")
            return opened(self._actors, slices(x, y, sample_weight, self._shards))
        if y is not None or sample_weight is not None:
            raise ValueError(
                "Expected `y` and `sample_weight` with an array. Received: paths. Name the `labels` in them."
            )
        return opened(self._actors, files(x, options))

    def close(self) -> None:
        """End the actors, which remove their files, and leave the cluster, or stop one that was started for this."""
        self._actors.close()

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()
