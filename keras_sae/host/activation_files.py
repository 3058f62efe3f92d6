"""What a layer of any Keras model gives for a whole data set, on disk: what sparse autoencoders are trained on."""

import abc
import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from .. import locks
from ..archives import reading
from ..autoencoder import as_single
from ..constraints import check
from ..data.batches import Chunks, inputs_of, write_npy_header
from ..data.containers import is_repeatable, spread
from ..data.fingerprints import of_tensors
from ..data.readers import read_rows
from ..errors import InputError
from ..extras import imported
from ..files import check_space, to_disk, write_aside, write_json
from ..monitoring.progress import progress_bar
from .layer_outputs import as_rows, check_called_once, find_layer, layer_outputs

SAMPLE = 1000  # rows of arrays by which they are known again
BLOCK_BYTES = 2**26  # of rows that are permuted together, of which there are two copies then
COLUMN = "activations"  # of Parquet files


def activations(
    model: keras.Model,
    layer: Any,
    data: Any,
    path: str | os.PathLike[str],
    seed: int | None = 0,
    batch_size: int = 256,
    block_rows: int | None = None,
    verbose: int = 1,
) -> np.ndarray:
    """Write what a layer of a model gives for all of the data to disk, and return it as a memory-mapped array.

        a[i positions + p] = layer(x_i)[p]        (examples * positions, units), before rows are permuted

    An output (examples, units) is a row an example; one with more axes, as of tokens (examples, tokens, units) or of
    places (examples, height, width, channels), is a row a position, masked ones too. The model runs in inference mode,
    and what comes after the layer is not computed.

    With a seed rows are permuted in blocks: block n, of `block_rows` successive rows, and then up to the end of a
    batch, in the order of numpy.random.default_rng((seed, n)).permutation(rows). Blocks stay in their order. So only
    the place of a row within its block is random: data that are sorted should be mixed before, or read at random
    later, as `keras_sae.fit` reads memory-mapped arrays.

    A kill costs one block: the same call resumes, and writes the same bytes, if data sets yield the same batches again:
    of these the first alone is compared, of arrays a thousand rows, evenly spread. What is in the making is beside the
    path, in the directory .NAME.partial; the path holds all rows or nothing.

    Args:
        model: any built keras.Model of one input, also one of a class of its own.
        layer: the name of a layer, or itself, however deep in the model; it has one output, and is called once.
        data: (examples, ...): an array, in memory or memory-mapped, a table, a batched tf.data.Dataset or a PyDataset,
            of which x of (x, y) counts.
        path: where to: x.npy is one file, which is mapped; another name is a directory of files part-00000.parquet,
            ... with one block each, as lists in the column "activations", which are copied to a temporary file when
            they are read (`readers.read_rows`). `train.features --data` reads both.
        seed: of the permutations, or None to keep the order of the data.
        batch_size: examples that are computed together, of arrays.
        block_rows: rows that are permuted together, and lost by a kill at most; by default those of 64 MB.
        verbose: 1 for a progress bar, 0 for none.

    Returns:
        An array (rows, units), float32 at least, for `keras_sae.fit`.

    Raises:
        ValueError: the layer is not in the model, is not called once, or gives something else than rows of numbers.
        InputError: the path exists, was begun with another model, layer or other data, or is being written by another
            process; or the disk has too little room.

    >>> hidden = keras_sae.activations(classifier, "hidden", x_train, "hidden.npy")
    >>> history = keras_sae.fit(keras_sae.SparseAutoencoder(4096, sparsity=TopK(32)), hidden, optimizer="adam")
    """
    check("batch_size", batch_size)
    check("batch_size", 1 if block_rows is None else block_rows, "`block_rows`")
    check("seed", seed or 0)
    layer, output = find_layer(model, layer), _output_at(pathlib.Path(path))
    chunks = _chunks(model, data, batch_size)
    first = next(chunks.read()).x
    example = as_single(as_rows(check_called_once(model, layer, first)))
    row_bytes = example[:1].nbytes
    block_rows = block_rows or max(1, BLOCK_BYTES // row_bytes)
    positions = len(example) // len(first)
    settings = {"layer": layer.name, "seed": seed, "batch_size": batch_size, "block_rows": block_rows}
    settings |= {"weights": of_tensors(model.weights), "first batch": of_tensors([first])}
    settings["rows"] = len(chunks.x) * positions if chunks.is_array else None
    if chunks.is_array:
        settings["data"] = of_tensors([spread(chunks.x, SAMPLE)])
    with output.opened(settings):
        if settings["rows"]:
            check_space(output.directory, (settings["rows"] - output.rows) * row_bytes)
        with progress_bar(layer.name, settings["rows"], output.rows, disable=not verbose) as bar:
            for block, batches in _blocks(model, layer, chunks, output.batches, block_rows):
                if seed is not None:
                    block = block[np.random.default_rng((seed, output.blocks)).permutation(len(block))]
                output.add(block, batches)
                bar.update(len(block))
                del block  # while the next one is computed
        output.publish()
    return output.read()


def _chunks(model: keras.Model, data: Any, batch_size: int) -> Chunks:
    """Return the data as batches for a model. Raise ValueError unless they are its only input and can be read again."""
    inputs = getattr(model, "inputs", None) or [None]
    if len(inputs) > 1 or isinstance(data, dict):
        raise ValueError(f"Expected a model with one input. Received: {model.name} with {len(inputs)}.")
    if not is_repeatable(data):
        raise ValueError(
            f"Expected data that can be read again, and have an end. Received: {type(data).__name__}. Give an array, a "
            "tf.data.Dataset that does not repeat, or a PyDataset."
        )
    return Chunks(data, chunk_size=batch_size, **inputs_of(model))


def _blocks(
    model: keras.Model, layer: keras.layers.Layer, chunks: Chunks, skip: int, block_rows: int
) -> Iterator[tuple[np.ndarray, int]]:
    """Yield (rows of a block, how many batches end with it), without the first `skip` batches."""
    pending: list[np.ndarray] = []
    number = skip
    for number, chunk in enumerate(chunks.read(skip), skip + 1):
        pending.append(as_single(as_rows(layer_outputs(model, layer, chunk.x))))
        if sum(map(len, pending)) >= block_rows:
            yield _joined(pending), number
    if pending:
        yield _joined(pending), number


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """Return the parts as one array, and empty the list, so that they take no memory while that is written."""
    rows = np.concatenate(parts)
    parts.clear()
    return rows


class _Output(abc.ABC):
    """Rows that grow in a directory beside their place. A block that was added is not lost by a kill.

    directory: holds what grows, `path`, and progress.json.  rows, batches, blocks: how many are written.
    """

    def __init__(self, place: pathlib.Path):
        self.place, self.directory = place, place.parent / f".{place.name}.partial"
        self.path = self.directory / place.name
        self.rows = self.batches = self.blocks = 0
        self._progress = self.directory / "progress.json"
        self._settings: dict[str, Any] = {}

    @contextlib.contextmanager
    def opened(self, settings: dict[str, Any]) -> Iterator[None]:
        """Hold the directory for this process, resume what is in it, and keep it only if rows are missing at the end.

        settings: all that the rows depend on, by the names that messages use.
        """
        with locks.held(self.directory, self.place):
            try:
                self._refuse_what_exists()
                self._resume(settings)
                yield
            finally:
                if not self.rows or self.place.exists():
                    shutil.rmtree(self.directory, ignore_errors=True)

    def _refuse_what_exists(self) -> None:
        if self.place.exists():
            raise InputError(
                f"Expected a new place to write to. Received: {self.place}, which exists. Read it with "
                f"{self.reads}, delete it, or name another."
            )

    def _resume(self, settings: dict[str, Any]) -> None:
        if self._progress.exists() and self.path.exists():  # what is in its place already is not resumed
            cure = f"Delete {self.directory} to start anew."
            with reading(self._progress, "what an earlier call has written", cure):
                found = json.loads(self._progress.read_text())
                self.rows, self.batches, self.blocks = (int(found[name]) for name in ("rows", "batches", "blocks"))
                changed = [name for name in settings if found["settings"].get(name) != settings[name]]
            if changed:
                raise InputError(
                    f"Expected the model and the data that {self.directory} was begun with. Received: another "
                    f"{', '.join(changed)}. Give the first again to resume, or delete that directory to start anew."
                )
        self._settings = settings

    def add(self, block: np.ndarray, batches: int) -> None:
        """Write a block of rows, (rows, units), and wait until it is on the disk.  batches: how many are done then."""
        self._write(block)
        self.rows, self.batches, self.blocks = self.rows + len(block), batches, self.blocks + 1
        write_json(
            self._progress,
            {"rows": self.rows, "batches": batches, "blocks": self.blocks, "settings": self._settings},
        )

    def publish(self) -> None:
        """Rename the complete rows to their place."""
        os.replace(self.path, self.place)
        if os.name == "posix":  # Windows cannot open directories
            to_disk(self.place.parent)

    reads = ""  # the call that reads such rows, for messages

    @abc.abstractmethod
    def _write(self, block: np.ndarray) -> None:
        """Write a block behind the rows that are done, and wait until it is on the disk."""

    @abc.abstractmethod
    def read(self) -> np.ndarray:
        """Return the complete rows, mapped."""


class _NpyFile(_Output):
    """An .npy file, which grows at its end."""

    reads = 'numpy.load(path, mmap_mode="r")'

    def _write(self, block: np.ndarray) -> None:
        with open(self.path, "r+b" if self.blocks else "wb") as file:
            write_npy_header(file, (self.rows + len(block), block.shape[1]), block.dtype)
            file.seek(self.rows * block[:1].nbytes, os.SEEK_CUR)
            file.truncate()  # what a kill left behind the last block
            file.write(block.data)
        to_disk(self.path)

    def read(self) -> np.ndarray:
        return np.load(self.place, mmap_mode="r")


class _ParquetParts(_Output):
    """A directory of files part-00000.parquet, ..., each with a block as lists of numbers."""

    reads = "keras_sae.readers.read_rows(path)"

    def _write(self, block: np.ndarray) -> None:
        arrow, parquet = imported("pyarrow"), imported("pyarrow.parquet")
        self.path.mkdir(exist_ok=True)
        rows = arrow.FixedSizeListArray.from_arrays(block.reshape(-1), block.shape[1])
        with write_aside(self.path / f"part-{self.blocks:05}.parquet") as aside:
            parquet.write_table(arrow.table({COLUMN: rows}), aside, use_dictionary=False)

    def publish(self) -> None:
        for file in self.path.glob(".part-*"):  # in the making when a process was killed
            file.unlink()
        super().publish()

    def read(self) -> np.ndarray:
        return read_rows(self.place, feature=COLUMN).x


def _output_at(place: pathlib.Path) -> _Output:
    """Return the output that the name of a place asks for."""
    if place.suffix not in ("", ".npy", ".parquet"):
        raise InputError(
            f"Expected a name that ends in .npy, .parquet or no suffix, the last two of a directory. Received: {place}."
        )
    if place.suffix != ".npy":
        imported("pyarrow.parquet", "write Parquet with")
    return (_NpyFile if place.suffix == ".npy" else _ParquetParts)(place)
