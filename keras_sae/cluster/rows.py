"""Rows that lie on actors, and the two rounds of the objective over them."""

import gc
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from keras import ops

from ..autoencoder import Autoencoder
from ..data.batches import CHUNK_SIZE
from ..data.readers.labels import class_numbers
from ..errors import InputError
from ..losses import warn_of_range
from ..training.passes import Passes
from .actors import Actors
from .shards import Files, Slice, Sums, assigned, subtrees, sum_over_shards
from .worker import Batch, Facts, Packed, Task

LOOK_ROWS = 100


class ClusterRows:
    """Rows on the actors of a cluster, as `Cluster.rows` returns them; a data set of batches for whoever reads them.

    class_names: those of the labels 0, 1, 2, ..., if the files have labels.
    """

    def __init__(self, actors: Actors, sizes: tuple[int, ...], features: int, weight: float | None):
        self.actors, self.sizes, self.features = actors, sizes, features
        self.shards = assigned(len(sizes), actors.number)
        self.labelled, self.class_names, self.key = True, tuple[str, ...](), ""
        self._weight = weight
        self._source: ClusterRows | None = None  # the rows that these were made of, which have to stay
        self._layers: list[Packed] = []  # by which

    def __iter__(self) -> Iterator[tuple]:
        return self.batches(CHUNK_SIZE)

    def batches(self, size: int) -> Iterator[tuple]:
        """Yield x, (x, y) or (x, y, weights) of so many rows, or of the last ones of a shard."""
        for number, shards in enumerate(self.shards):
            for shard in shards:
                for start in range(0, self.sizes[shard], size):
                    batch = self.actors.one(number, "read", self.key, shard, start, start + size)
                    x, y, weights = batch if self.labelled else (batch[0], None, batch[2])
                    yield (x, y, weights) if weights is not None else (x,) if y is None else (x, y)

    def num_rows(self) -> int:
        """Return the number of rows on all actors."""
        return sum(self.sizes)

    def num_features(self) -> int:
        """Return the number of features of each row."""
        return self.features

    def mean_weight(self) -> float | None:
        """Return the mean weight of all rows, or None if they have no weights."""
        return self._weight

    def inputs(self) -> "ClusterRows":
        """Return the same rows without their targets."""
        found = self._like(self.features)
        found.key, found.labelled, found._source = self.key, False, self
        return found

    def encoded(self, layer: Any, lazily: bool = False) -> "ClusterRows":
        """Return what a layer or model makes of the rows, which stays on the actors, with their targets and weights.

        lazily: whether of rows in files it is computed anew at each pass, rather than written to others.
        """
        found = self._like(layer.compute_output_shape((None, self.features))[-1])
        found._source, found._layers = self._source or self, [*self._layers, Packed.of(layer)]
        source, below, layers = found._source.key, self.key, self.actors.engine.share(found._layers)
        found.key, _ = self.actors.make(found, "encode", lambda _: (source, below, layers, lazily))
        return found

    def minibatches(self, seed: int, epoch: int, size: int) -> list[Batch]:
        """Return the minibatches of an epoch, as one machine has them."""
        total = self.num_rows()
        return [Batch(seed, epoch, i, size, min(size, total - i * size)) for i in range(-(-total // size))]

    def _like(self, features: int) -> "ClusterRows":
        found = ClusterRows(self.actors, self.sizes, features, self._weight)
        found.class_names, found.labelled, found._layers = self.class_names, self.labelled, self._layers
        return found

    def rounds(self, passes: Passes, chunk_size: int = CHUNK_SIZE) -> "ClusterRounds":
        """Return the rounds of a model over the rows."""
        return ClusterRounds(self, passes, chunk_size)


def opened(actors: Actors, sources: Sequence[Files | Slice]) -> ClusterRows:
    """Return the rows of these shards, in their order, once each actor has opened its own.

    Raises:
        InputError: a shard is missing, empty or of another width.
    """
    shards = assigned(len(sources), actors.number)
    rows = ClusterRows(actors, (0,) * len(sources), 0, None)
    rows.key, found = actors.make(rows, "open", lambda i: ({shard: sources[shard].sent() for shard in shards[i]},))
    facts: list[Facts] = [part[shard] for part in found for shard in sorted(part)]
    for fact in facts:
        if fact.features != facts[0].features:
            raise InputError(
                f"Expected shards of one width. Received: {facts[0].features:,} features in {facts[0].origin}, "
                f"{fact.features:,} in {fact.origin}."
            )
    rows.sizes, rows.features = tuple(fact.rows for fact in facts), facts[0].features
    if facts[0].weight is not None:
        rows._weight = sum(fact.weight or 0.0 for fact in facts) / sum(rows.sizes)
    found_names = sorted({name for fact in facts for name in fact.class_names})
    if found_names:
        names = rows.class_names = class_numbers(np.array(found_names), len(found_names), "the shards")[1]
        source = rows.key  # not the rows themselves, which would stay for ever
        rows.key, _ = actors.make(rows, "number_classes", lambda _: (source, names))
    return rows


class ClusterRounds:
    """The two rounds of a model over the rows of a cluster, or over a minibatch of them.

    batch: which one, or None for all rows.
    """

    def __init__(self, rows: ClusterRows, passes: Passes, chunk_size: int):
        self.rows, self.actors, self.passes = rows, rows.actors, passes
        self.batch: Batch | None = None
        self._values: tuple[Any, Any] = None, None  # of the last round, and what stands for them
        self._trees = [[*subtrees(shards)] for shards in rows.shards]
        self._warn_of_range()
        gc.collect()  # what was compiled refers to itself, and its rows would stay on the actors beside the new ones
        passes.find_sparsities(rows.features)
        model = self.actors.engine.share(Packed.of(passes.model))
        task = Task(rows.key, rows.labelled, rows.mean_weight(), rows.sizes, chunk_size)
        self.key, _ = self.actors.make(self, "prepare", lambda _: (model, task))

    def _warn_of_range(self) -> None:
        """Warn here if the model cannot give the rows back, by some of them: what actors say is not shown."""
        if isinstance(self.passes.model, Autoencoder):
            x, y, *_ = (*next(self.rows.batches(LOOK_ROWS)), None)
            inputs = x.astype(self.passes.model.compute_dtype)
            warn_of_range(self.passes.model, self.passes.model.targets(inputs) if y is None else y)

    def activations(self, values: list, precision: str) -> Sums:
        """Round 1, as of `training.passes.Rounds`."""
        return self._sum("activations", values, precision) if self.passes.sparsities else [0]

    def losses(
        self, values: list, rho_hat: list[np.ndarray], gradients: bool, precision: str, there: bool = False
    ) -> Sums:
        """Round 2, as of `training.passes.Rounds`."""
        rows, *sums = self._sum("losses", values, precision, rho_hat, gradients)
        return [rows, *map(ops.convert_to_tensor, sums)] if there else [rows, *sums]

    def _sum(self, method: str, values: list, *arguments: Any) -> Sums:
        if self._values[0] is not values:
            self._values = values, self.actors.engine.share([ops.convert_to_numpy(value) for value in values])
        shared, key, batch = self._values[1], self.key, self.batch
        found = self.actors.each(method, lambda i: (key, self._trees[i], batch, shared, *arguments))
        parts: dict[tuple[int, int], Sums] = {}
        for trees, results in zip(self._trees, found, strict=True):
            parts |= {tree: sums for tree, sums in zip(trees, results, strict=True) if sums is not None}
        return sum_over_shards(len(self.rows.sizes), parts)
