"""What commands that run a model over whole data sets do alike: their flags, reading, computing, and resuming."""

import argparse
import concurrent.futures
import contextlib
import math
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from keras_sae.cli import Parser, reported, stderr_suppressed
from keras_sae.errors import InputError
from keras_sae.quiet import quiet_start

from ..layout import file_state

if TYPE_CHECKING:  # so that flags are refused before these are loaded
    from keras_sae.data.readers import Rows

    from ..runtimes import Model
    from .columns import Arrays
    from .outputs import Output

HINT = "{:,} rows are done: the same command resumes from there."


def add_flags(parser: Parser, labels: str) -> None:
    """Add the flags that say what is read, how, and where to.  labels: the help of --labels."""
    add = parser.add_argument
    add(
        "--data", metavar="DATA", nargs="+", required=True,
        help="files, directories or patterns of one kind: npy, npz, csv, parquet, tfrecord, h5, mat, "
        "safetensors, images; or tfds:NAME",
    )  # fmt: skip
    add("--labels", help=labels)
    add("--feature", help="of tfrecord and tfds: what to read, where there are several")
    add(
        "--image-size", metavar="N", nargs="+", type=positive, action=Size,
        help="side, or height and width, to resize images to (default: those of the training)",
    )  # fmt: skip
    add(
        "--color", action=argparse.BooleanOptionalAction,
        help="images as red, green and blue, or grey (default: as in training)",
    )  # fmt: skip
    add("--no-header", action="store_true", default=None, help="csv files begin with data, not with names")
    add(
        "--memory", metavar="GB", type=gigabytes, default=4.0,
        help="GB that reading, or a batch of rows, may take of memory at once (default: 4)",
    )  # fmt: skip
    add("--model", help="saved_model, litert, onnx, or a file of that kind (default: the first of these in the export)")
    add("--batch-size", metavar="N", type=positive, default=4096, help="rows at a time (default: 4096)")
    add("--overwrite", action="store_true", help="replace an output that exists, once the new one is complete")


def positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if not number:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, received: {text}")
    return number


def gigabytes(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a finite number of GB above 0, received: {text}")
    return number


class Size(argparse.Action):
    """Take one number or two."""

    def __call__(self, parser, namespace, values, option_string=None):
        if len(values) > 2:
            parser.error(f"argument --image-size: expected one or two numbers, received: {len(values)}")
        setattr(namespace, self.dest, values * 2 if len(values) == 1 else values)


def place(*suffixes: str) -> Callable[[str], pathlib.Path]:
    """Return the type of --out, a path that ends in one of these or in no suffix."""

    def checked(text: str) -> pathlib.Path:
        if pathlib.Path(text).suffix not in ("", *suffixes):
            raise argparse.ArgumentTypeError(
                f"expected a name that ends in {', '.join(suffixes)} or no suffix, received: {text}"
            )
        return pathlib.Path(text)

    return checked


def run(
    program: str, a: argparse.Namespace, work: "Callable[[argparse.Namespace, Output], None]", sparse: bool = False
) -> None:
    """Do the work of a command with the output that its flags name; what ends it early is said in one line.

    sparse: whether rows become lists of what is not 0 in them.
    """
    with quiet_start():  # the readers of data load Keras
        from .outputs import output_at
        from .sparse_parts import SparseParts

    output = SparseParts(a.out, a.labels) if sparse else output_at(a.out, a.labels)
    with reported(program, lambda: HINT.format(output.rows) if output.rows else "Nothing was written."):
        work(a, output)


@contextlib.contextmanager
def read(
    a: argparse.Namespace, output: "Output", model: "Model", known: dict[str, Any], **more: Any
) -> "Iterator[Rows]":
    """Yield the rows of --data, read as the training did, while the output is held for this process.

    known: what a run recorded of its rows.  more: what the output depends on beside the flags of `add_flags`.
    """
    from keras_sae.data import readers

    from . import schema

    flags = schema.given(a)
    expected = schema.options(known, readers.options_of(a.data), a.feature)
    with output.opened(settings(a, model, expected | flags, more), a.overwrite):
        print(f"Reading {', '.join(a.data)} ...", flush=True)
        rows = schema.read(a.data, flags | {"memory": a.memory}, expected, output.cache)
        for note in schema.notes(known, expected, rows):
            print(f"note        {note}", flush=True)
        check_batch(a, rows.x.shape[1])
        model.check_features(rows.x.shape[1], ", ".join(a.data))
        model.scale = schema.pixel_scale(known, rows.value_range)
        yield rows


def check_batch(a: argparse.Namespace, features: int) -> None:
    """Raise InputError if a batch of rows takes too much memory."""
    needed = 8 * a.batch_size * features / 1e9  # the rows, and a copy in float32
    if needed > a.memory:
        raise InputError(
            f"Expected batches of rows that take {a.memory:g} GB of memory at most. Received: --batch-size "
            f"{a.batch_size} of {features:,} features, which take {needed:,.1f} GB. Lower it, or allow --memory "
            f"{math.ceil(needed)}."
        )


def settings(a: argparse.Namespace, model: "Model", options: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Return all that the output depends on, by the names that messages use."""
    from keras_sae.data.readers.directories import WILDCARDS, matches

    from ..runtimes import fingerprint
    from .schema import FLAGS

    values = {name: options.get(name) for name in FLAGS} | {"data": a.data, **more, "batch_size": a.batch_size}
    flags = {f"--{name.replace('_', '-')}": value for name, value in values.items()}
    patterns = {name: matches(pathlib.Path(name))[0] for name in a.data if WILDCARDS.search(name)}
    paths = [path for name in a.data for path in patterns.get(name) or [name]]
    files = {"content of --data": [file_state(path) for path in paths]}
    files |= {"content of --labels": a.labels and file_state(a.labels)}
    return {"model": fingerprint(model.path), "names of columns": options.get("names"), **flags, **files}


def write(
    function: "Callable[[Any], Arrays]", rows: "Rows", output: "Output", batch_size: int, **columns: Any
) -> float:
    """Write what the function gives for rows, (examples, features), to the output. Return the rows a second.

    columns: of `Output.begin`.
    """
    with stderr_suppressed():  # LiteRT says at the first call what it will use
        example = function(rows.x[:1])
    output.begin(example, batch_size, rows, **columns)
    total, done, began = len(rows.x), output.rows, time.monotonic()
    if done:
        print(f"Resuming after {done:,} of {total:,} rows.", flush=True)
    compute(function, rows.x, output, batch_size)
    output.publish()
    return (total - done) / (time.monotonic() - began)


def compute(function: "Callable[[Any], Arrays]", x: Any, output: "Output", batch_size: int) -> None:
    """Compute the rows that are missing; a thread writes a part while the next one is computed."""
    from keras_sae.files import forget
    from keras_sae.monitoring.progress import LINE_SECONDS, progress_bar

    with (
        progress_bar("rows", len(x), output.rows, first_line=LINE_SECONDS) as bar,  # a short job is silent in a script
        concurrent.futures.ThreadPoolExecutor(1) as thread,
    ):
        written = None
        for start in range(output.rows, len(x), output.part_rows):
            stop, batches = min(start + output.part_rows, len(x)), []
            for first in range(start, stop, batch_size):
                batches.append(output.kept(function(x[first : first + batch_size])))
                forget(x)
                bar.update(min(batch_size, stop - first))
            if written:
                written.result()  # raises what went wrong, so that nothing is written after a failure
            written = thread.submit(output.write, batches, start, stop)
        if written:
            written.result()
