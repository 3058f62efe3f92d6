"""Features by the actors of a Ray cluster: each reads a file and writes its part, so that no row passes the driver.

The machines share the disks of the data and of the output. Of x-0.parquet, x-1.parquet, ... the parts are
part-00000-00000.parquet, ... of the first file, part-00001-00000.parquet, ... of the second: rows stay in their order.
What is done when the command is stopped is not computed again.
"""

import argparse
import concurrent.futures
import os
import pathlib
import queue
import tempfile
from collections.abc import Iterator
from typing import Any

from keras_sae.backend import use_threads
from keras_sae.cluster.actors import TRIES, ActorDied, Engine
from keras_sae.data import readers
from keras_sae.errors import InputError, NoLabelsError
from keras_sae.files import write_aside
from keras_sae.monitoring.progress import progress_bar

from .. import layout, runtimes, schema as of_export
from . import extraction, keys, outputs, schema, sparse_parts


class Extractor:
    """An actor: the model, and what the features of each file depend on."""

    def begin(self, flags: argparse.Namespace, expected: dict[str, Any]) -> None:
        """Open the model.  expected: how the data are read, unless flags say otherwise."""
        use_threads(1)
        self.flags, self.expected = flags, expected
        self.model = runtimes.open_model(flags.export, flags.model, flags.signature)
        self.known = of_export.schema_of(self.model.path)

    def extract(self, path: str, place: str) -> int:
        """Write the features of a file to a directory, unless it is there. Return the number of rows."""
        a, target = self.flags, pathlib.Path(place)
        if not target.exists():
            output = sparse_parts.SparseParts(target, a.labels) if a.sparse else outputs.output_at(target, a.labels)
            options = schema.given(a) | {"part": True, "memory": a.memory}
            with output.opened({}, overwrite=False), tempfile.TemporaryDirectory() as cache:
                try:
                    rows = schema.read([path], options, self.expected, pathlib.Path(cache))
                except NoLabelsError:  # other files may have some
                    rows = schema.read([path], {**options, "labels": None}, self.expected, pathlib.Path(cache))
                extraction.check_batch(a, rows.x.shape[1])
                self.model.check_features(rows.x.shape[1], path)
                self.model.scale = schema.pixel_scale(self.known, rows.value_range)
                extraction.write(self.model, rows, output, a.batch_size, kept=keys.read_keys([path], a.keys))
        parquet = readers.rows.imported("pyarrow.parquet")
        return sum(parquet.read_metadata(part).num_rows for part in target.glob("*.parquet"))


def extract(a: argparse.Namespace, output: outputs.Output, engine: Engine) -> int:
    """Compute the features of each file, and put the parts in their place. Return the number of rows."""
    model = runtimes.open_model(a.export, a.model, a.signature)
    source = readers.files_of(a.data)
    if source.kind == readers.sources.IMAGES:
        raise InputError(f"Expected files of many rows for --engine ray. Received: images in {source}. Leave it out.")
    files = [os.path.abspath(path) for path in source.files]
    expected = schema.options(of_export.schema_of(model.path), readers.options_of(a.data), a.feature)
    more = {"signature": a.signature, "sparse": a.sparse, "keys": a.keys, "engine": a.engine}
    with output.opened(extraction.settings(a, model, expected | schema.given(a), more), a.overwrite):
        pieces = output.directory.absolute() / "pieces"
        pieces.mkdir(exist_ok=True)
        output.path.mkdir(exist_ok=True)
        total = 0
        with progress_bar("features", len(files)) as bar:
            for rows in _of_files(engine, (absolute(a), expected), files, pieces):
                total += rows
                output.note(total)
                bar.set_postfix_str(f"{total:,} rows", refresh=False)
                bar.update()
        unify(sorted(pieces.glob("*/part-*.parquet")))
        for number in range(len(files)):
            for part in sorted((pieces / f"{number:05}").glob("part-*.parquet")):
                os.replace(part, output.path / f"part-{number:05}-{part.stem.removeprefix('part-')}.parquet")
        output.publish()
    return total


def unify(parts: list[pathlib.Path]) -> None:
    """Give the parts the columns and types of one table.

    Labels and keys may be whole numbers in some files and texts in others, which they become in all then, or missing.
    """
    arrow, parquet = readers.rows.imported("pyarrow"), readers.rows.imported("pyarrow.parquet")
    schemas = [parquet.read_schema(part) for part in parts]
    kinds: dict[str, set] = {}
    for found in schemas:
        for field in found:
            kinds.setdefault(field.name, set()).add(field.type)
    text = arrow.dictionary(arrow.int32(), arrow.string())
    texts = {name for name, found in kinds.items() if len(found) > 1 and found & {text, arrow.string()}}
    changed = [[field.with_type(text) if field.name in texts else field for field in found] for found in schemas]
    whole = arrow.unify_schemas([*map(arrow.schema, changed)], promote_options="permissive")

    def column(table: Any, field: Any) -> Any:
        if field.name not in table.column_names:
            return arrow.nulls(len(table), field.type)
        found = table[field.name]
        return found.cast("string").dictionary_encode() if field.name in texts else found.cast(field.type)

    for part, found in zip(parts, schemas, strict=True):
        if not found.equals(whole):
            table = parquet.read_table(part)
            table = arrow.table([column(table, field) for field in whole], schema=whole)
            with write_aside(part) as aside:
                parquet.write_table(table, aside, use_dictionary=[*texts] or False)


def absolute(a: argparse.Namespace) -> argparse.Namespace:
    """Return the flags with paths that are right in the directories of other processes."""
    paths = {"export": os.path.abspath(a.export), "data": None, "out": None}
    if a.model and a.model not in layout.FORMATS and os.path.exists(a.model):
        paths["model"] = os.path.abspath(a.model)
    if a.labels and a.labels.endswith(".npy"):  # no name of a column
        paths["labels"] = os.path.abspath(a.labels)
    return argparse.Namespace(**{**vars(a), **paths})


def _of_files(engine: Engine, begin: tuple, files: list[str], pieces: pathlib.Path) -> Iterator[int]:
    """Yield the number of rows of a file once its features are written, for each file.

    begin: the arguments of `Extractor.begin`.
    """
    actors = min(engine.room(), len(files))
    free: queue.Queue = queue.Queue()

    def started() -> Any:
        [worker] = engine.start(1)
        engine.result(engine.call(worker, "begin", *begin))
        return worker

    def extracted(number: int, path: str) -> int:
        reason: Exception | None = None
        for _ in range(TRIES):
            worker = free.get()
            try:
                worker = started() if worker is None else worker
                return engine.result(engine.call(worker, "extract", path, str(pieces / f"{number:05}")))
            except ActorDied as error:
                reason, worker = error, None
            finally:
                free.put(worker)
        raise InputError(f"Expected actors that live. Received: one that died {TRIES} times at {path}: {reason}")

    for _ in range(actors):
        free.put(None)
    with concurrent.futures.ThreadPoolExecutor(actors) as pool:
        futures = [pool.submit(extracted, *task) for task in enumerate(files)]
        failed: BaseException | None = None
        for future in concurrent.futures.as_completed(futures):
            if future.cancelled():
                continue
            if future.exception() is None:
                yield future.result()
            elif failed is None:  # those that are at work end, so that nothing of theirs is lost
                failed = future.exception()
                for other in futures:
                    other.cancel()
        if failed is not None:
            raise failed
