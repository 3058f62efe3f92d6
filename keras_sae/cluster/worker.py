"""What an actor does: it opens its shards, and sums over them, one after the other. Nothing here knows of Ray."""

import contextlib
import copy
import dataclasses
import pathlib
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

import keras_sae

from ..backend import use_threads
from ..data.batches import Chunks, inputs_of, predict_in_chunks, predict_to_file
from ..data.containers import RowSubset, in_memory
from ..data.readers.labels import UNKNOWN
from ..errors import InputError
from ..files import check_space
from ..locks import held
from ..training.order import order_of, rows_of_batch
from ..training.passes import Passes
from .shards import Files, ShardRows, Sums, tree_sum

FOLDER, NEW_SECONDS = "keras_sae-actor-", 60
Trees = list[tuple[int, int]]  # (first shard, number of shards) of subtrees


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the driver knows of a shard. origin: where it is, in words."""

    rows: int
    features: int
    weight: float | None  # of all its examples together
    class_names: tuple[str, ...]
    origin: str


@dataclasses.dataclass(frozen=True)
class Batch:
    """A minibatch of all rows, whose order each actor draws itself.  size: of all but the last.  rows: its own."""

    seed: int
    epoch: int
    index: int
    size: int
    rows: int


@dataclasses.dataclass(frozen=True)
class Packed:
    """A Keras model or layer as it is sent: its configuration and weights, and which of these are trained."""

    config: dict[str, Any]
    weights: list[np.ndarray]
    trained: list[int]

    @classmethod
    def of(cls, model: Any) -> "Packed":
        """Pack a built model or layer. Numbers stand for trained weights: a configuration forgets what is frozen."""
        numbers = {id(variable): number for number, variable in enumerate(model.weights)}
        trained = [numbers[id(variable)] for variable in model.trainable_variables]
        return cls(keras.saving.serialize_keras_object(model), model.get_weights(), trained)

    def unpacked(self) -> Any:
        """Return a model or layer like the one that was packed."""
        model = keras.saving.deserialize_keras_object(copy.deepcopy(self.config))  # which Keras empties
        model.set_weights(self.weights)
        return model


@dataclasses.dataclass(frozen=True)
class Task:
    """What the two rounds over some rows need. labelled: whether the model learns the targets that come with them."""

    rows: str
    labelled: bool
    mean_weight: float | None
    sizes: tuple[int, ...]  # rows of each shard
    chunk_size: int


class Chain:
    """Layers one after the other, as one."""

    def __init__(self, layers: list):
        self.layers = layers
        self.compute_dtype = inputs_of(layers[0])["dtype"]
        self.weights = [weight for layer in layers for weight in layer.weights]

    def __call__(self, x: Any, training: bool = False) -> Any:
        for layer in self.layers:
            x = layer(x, training=training)
        return x

    def compute_output_shape(self, shape: tuple) -> tuple:
        for layer in self.layers:
            shape = layer.compute_output_shape(shape)
        return shape


class _Job(NamedTuple):
    passes: Passes
    chunks: dict[int, Chunks]  # by the numbers of their shards
    sizes: tuple[int, ...]  # rows of all shards
    options: dict[str, Any]  # of Chunks


class Worker:
    """One actor. All that it holds follows from the calls that the driver repeats on an actor in its place."""

    def begin(self, version: str, threads: int, cache: str | None) -> None:
        """Check that this process can work with the driver, and compute on so many threads.

        cache: where it makes a directory for its files, and removes those that were left by actors that were killed.
        """
        if version != keras_sae.__version__:
            raise InputError(
                f"Expected keras_sae {version}, as on the driver, on each machine of the cluster. Received: "
                f"{keras_sae.__version__} on {platform.node()}. Install the same version there."
            )
        use_threads(threads)
        root = pathlib.Path(cache or tempfile.gettempdir())
        with _told():
            root.mkdir(parents=True, exist_ok=True)
            _remove_left(root)
            self.folder = pathlib.Path(tempfile.mkdtemp(prefix=FOLDER, dir=root))
            self._held = held(self.folder, self.folder)
            self._held.__enter__()
        self.rows: dict[str, dict[int, ShardRows]] = {}
        self.jobs: dict[str, _Job] = {}
        self.order: tuple[tuple[int, int, int], np.ndarray] | None = None  # (rows, seed, epoch), and their order

    def open(self, key: str, sources: dict[int, Files | ShardRows]) -> dict[int, Facts]:
        """Read shards, by their numbers."""
        self.rows[key], found = {}, {}
        for shard, source in sources.items():
            with _told():
                rows = self.rows[key][shard] = source.read(self._place(key, shard))
            weight = None if rows.weights is None else float(np.sum(rows.weights, dtype="float64"))
            origin = f"{getattr(source, 'path', f'shard {shard}')} on {platform.node()}"
            found[shard] = Facts(len(rows.x), rows.x.shape[1], weight, rows.class_names, origin)
        return found

    def number_classes(self, key: str, source: str, names: tuple[str, ...]) -> None:
        """Keep the rows `source` with classes numbered alike in all shards, each of which knows but its own."""
        places = {name: place for place, name in enumerate(names)}
        self.rows[key] = {}
        for shard, rows in self.rows[source].items():
            numbers = np.array([*(places[name] for name in rows.class_names), UNKNOWN])  # which is also the last index
            self.rows[key][shard] = dataclasses.replace(rows, y=numbers[rows.y], class_names=names)

    def encode(self, key: str, source: str, below: str, packed: list[Packed], lazily: bool) -> None:
        """Keep what layers make of the rows `source`, in memory if these are, else in files, or compute it each time.

        below: the rows that the last layer takes. They are read if this actor has them.
        """
        layers = [item.unpacked() for item in (packed[-1:] if below in self.rows else packed)]
        chain, rows = Chain(layers), self.rows[below if below in self.rows else source]
        self.rows[key] = {}
        with _told():
            stored = [shard for shard in rows if not in_memory(rows[shard].x) and not lazily]
            widths = {shard: chain.compute_output_shape((None, rows[shard].x.shape[1]))[-1] for shard in stored}
            check_space(self.folder, sum(4 * len(rows[shard].x) * width for shard, width in widths.items()))
            for shard, old in rows.items():
                x: Any = None
                if in_memory(old.x):
                    x = predict_in_chunks(chain, old.x)
                elif lazily:
                    x = RowSubset(old.x, transform=chain)
                else:
                    x = predict_to_file(chain, old.x, self._place(key, shard) / "features.npy")
                self.rows[key][shard] = dataclasses.replace(old, x=x)

    def prepare(self, key: str, packed: Packed, task: Task) -> None:
        """Make a model for rounds over rows."""
        model = packed.unpacked()
        trained = [model.weights[number] for number in packed.trained]
        passes = Passes(model, task.mean_weight, lambda: sum(task.sizes), trained)
        options = {**inputs_of(model), "chunk_size": task.chunk_size, "part": True}
        chunks = {}
        for shard, rows in self.rows[task.rows].items():
            chunks[shard] = Chunks(rows.x, rows.y if task.labelled else None, weights=rows.weights, **options)
            passes.loss.check_targets(chunks[shard].y, model)
        self.jobs[key] = _Job(passes, chunks, task.sizes, options)

    def activations(self, key: str, trees: Trees, batch: Batch | None, values: list, precision: str) -> list:
        """Round 1: return the sums over each subtree of its shards, None for no rows."""
        tensors = [ops.convert_to_tensor(value) for value in values]
        passes = self.jobs[key].passes
        return self._sums(key, trees, batch, lambda chunks: passes.activations(chunks, tensors, precision))

    def losses(
        self,
        key: str,
        trees: Trees,
        batch: Batch | None,
        values: list,
        precision: str,
        rho_hat: list[np.ndarray],
        gradients: bool,
    ) -> list:
        """Round 2: the same of losses and gradients."""
        tensors = [ops.convert_to_tensor(value) for value in values]
        passes = self.jobs[key].passes
        return self._sums(key, trees, batch, lambda c: passes.losses(c, tensors, rho_hat, gradients, precision))

    def _sums(self, key: str, trees: Trees, batch: Batch | None, sums: Callable[[Chunks], Sums]) -> list:
        chunks = self.jobs[key].chunks if batch is None else self._of_batch(key, batch)

        def known(first: int, size: int) -> Sums | None:
            return sums(chunks[first]) if size == 1 and first in chunks else None

        return [tree_sum(first, size, known) for first, size in trees]

    def _of_batch(self, key: str, batch: Batch) -> dict[int, Chunks]:
        """Return the rows of a minibatch that are here, by their shards."""
        job, starts = self.jobs[key], np.cumsum([0, *self.jobs[key].sizes])
        epoch = (int(starts[-1]), batch.seed, batch.epoch)
        if self.order is None or self.order[0] != epoch:
            self.order = epoch, order_of(*epoch)
        rows, found = rows_of_batch(self.order[1], batch.index, batch.size), {}
        for shard, whole in job.chunks.items():
            first, last = np.searchsorted(rows, starts[shard : shard + 2])
            if first < last:
                y, numbers = whole.y, rows[first:last] - starts[shard]
                found[shard] = Chunks(whole.x[numbers], None if y is None else y[numbers], **job.options)
        return found

    def read(self, key: str, shard: int, start: int, stop: int) -> tuple:
        """Return (x, y, weights) of rows of a shard, arrays or None."""
        rows = self.rows[key][shard]
        return tuple(None if a is None else np.asarray(a[start:stop]) for a in (rows.x, rows.y, rows.weights))

    def forget(self, key: str) -> None:
        """Drop rows, and their files, or a job."""
        self.rows.pop(key, None)
        self.jobs.pop(key, None)
        for folder in self.folder.glob(f"{key}-*"):
            shutil.rmtree(folder, ignore_errors=True)

    def end(self) -> None:
        """Remove all files."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _place(self, key: str, shard: int) -> pathlib.Path:
        """Return a directory for the files of a shard."""
        folder = self.folder / f"{key}-{shard}"
        folder.mkdir(exist_ok=True)
        return folder


def _remove_left(root: pathlib.Path) -> None:
    """Remove the directories of actors that are gone: nobody holds them, and they are not just being made."""
    for folder in root.glob(f"{FOLDER}*"):
        with contextlib.suppress(InputError, OSError):
            if time.time() - folder.stat().st_mtime > NEW_SECONDS:
                with held(folder, folder):
                    shutil.rmtree(folder)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Say of an error on which machine it was, in one line."""
    try:
        yield
    except InputError as error:
        raise type(error)(f"{error} (On the machine {platform.node()}.)") from error
    except OSError as error:
        raise InputError(
            f"Expected to read and write files on the machine {platform.node()}. Received: {error.strerror or error}"
            f"{f': {error.filename}' if error.filename else ''}. Free some space there, or let another directory be "
            "the cache."
        ) from error
