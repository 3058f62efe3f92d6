"""Compute the features of data of any size with an exported model, into a directory of Parquet files or a .npy file.

EXPORT is the --out of python -m export. The rows stay in their order and are never in memory all at once. A directory,
named x.parquet or without a suffix, holds part-00000.parquet, part-00001.parquet, ..., with a column for each feature,
feature_0, feature_1, ...: pandas, Polars, DuckDB, Spark and python -m train.features read it as one table.

  python -m export.features exports/mnist --data digits.npy --out features.parquet
  python -m export.features exports/mnist --data table.csv --labels species --out features.parquet
  python -m export.features exports/mnist --data photos/ --image-size 28 --out features.npy --model onnx

If it is killed or stopped, the same command resumes: what is done lies in .NAME.partial until the output is complete.
"""

import argparse
import concurrent.futures
import glob
import pathlib
import sys
import time
from typing import Any

from keras_sae.cli import Parser, reported, stderr_suppressed
from keras_sae.quiet import quiet_start

from ..layout import file_state

PROGRAM = "export.features"
HINT = "{:,} rows are done: the same command resumes from there."


def parse(words: list[str]) -> argparse.Namespace:
    parser = Parser(PROGRAM, __doc__)
    add = parser.add_argument
    add("export", metavar="EXPORT", help="directory of an export, or a model: .tflite, .onnx, a SavedModel's directory")
    add(
        "--data", metavar="DATA", nargs="+", required=True,
        help="files, directories or patterns of one kind: npy, npz, csv, parquet, tfrecord, h5, mat, images; or "
        "tfds:NAME",
    )  # fmt: skip
    add("--out", metavar="PLACE", required=True, type=place, help="a new directory for Parquet, or a new .npy file")
    add(
        "--labels",
        help="column, array or npy file of labels, 'folders' of images: kept; x.labels.npy if --out is x.npy",
    )
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
    add("--model", help="saved_model, litert, onnx, or a file of that kind (default: the first of these in EXPORT)")
    add(
        "--signature",
        default="encode",
        help="of the model, such as encode_finetuned; each output becomes columns (default: encode)",
    )
    add("--batch-size", metavar="N", type=positive, default=4096, help="rows at a time (default: 4096)")
    add("--overwrite", action="store_true", help="replace an output that exists, once the new one is complete")
    return parser.parse_args(words)


def positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if not number:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, received: {text}")
    return number


class Size(argparse.Action):
    """Take one number or two."""

    def __call__(self, parser, namespace, values, option_string=None):
        if len(values) > 2:
            parser.error(f"argument --image-size: expected one or two numbers, received: {len(values)}")
        setattr(namespace, self.dest, values * 2 if len(values) == 1 else values)


def place(text: str) -> pathlib.Path:
    if pathlib.Path(text).suffix not in ("", ".parquet", ".npy"):
        raise argparse.ArgumentTypeError(f"expected a name that ends in .parquet, .npy or no suffix, received: {text}")
    return pathlib.Path(text)


def main() -> None:
    arguments = parse(sys.argv[1:])
    with quiet_start():  # the readers of data load Keras
        from .outputs import NpyFile, ParquetParts

    output = (NpyFile if arguments.out.suffix == ".npy" else ParquetParts)(arguments.out, arguments.labels)
    with reported(PROGRAM, lambda: HINT.format(output.rows) if output.rows else "Nothing was written."):
        run(arguments, output)


def run(a: argparse.Namespace, output) -> None:
    """Read the data, compute what is missing of the output, and put it in its place."""
    from keras_sae.data import readers

    from ..runtimes import open_model
    from ..schema import schema_of
    from . import schema

    model = open_model(a.export, a.model, a.signature)
    known = schema_of(model.path)
    flags = {name: getattr(a, name) for name in schema.FLAGS if getattr(a, name) is not None}
    expected = schema.options(known, readers.options_of(a.data), a.feature)
    with output.opened(settings(a, model, expected | flags), a.overwrite):
        print(f"Reading {', '.join(a.data)} ...", flush=True)
        rows = schema.read(a.data, flags, expected, output.cache)
        for note in schema.notes(known, expected, rows):
            print(f"note        {note}", flush=True)
        model.check_features(rows.x.shape[1], ", ".join(a.data))
        model.scale = schema.pixel_scale(known, rows.value_range)
        with stderr_suppressed():  # LiteRT says at the first call what it will use
            example = model(rows.x[:1])
        output.begin(example, a.batch_size, rows)
        total, done, began = len(rows.x), output.rows, time.monotonic()
        if done:
            print(f"Resuming after {done:,} of {total:,} rows.", flush=True)
        compute(model, rows.x, output, a.batch_size)
        output.publish()
    rate = (total - done) / (time.monotonic() - began)
    names = [name for group in output.names.values() for name in group]
    listed = ", ".join(names if len(names) < 4 else [names[0], "...", names[-1]])
    print(f"{a.out}: {total:,} rows of {listed} ({rate:,.0f} rows/s)")


def settings(a: argparse.Namespace, model, options: dict[str, Any]) -> dict[str, Any]:
    """Return all that the output depends on, by the names that messages use."""
    from ..runtimes import fingerprint
    from .schema import FLAGS

    values = {name: options.get(name) for name in FLAGS} | {"data": a.data, "signature": a.signature}
    flags = {f"--{name.replace('_', '-')}": value for name, value in (values | {"batch_size": a.batch_size}).items()}
    paths = [path for name in a.data for path in sorted(glob.glob(name, recursive=True)) or [name]]
    files = {"content of --data": [file_state(path) for path in paths]}
    files |= {"content of --labels": a.labels and file_state(a.labels)}
    return {"model": fingerprint(model.path), "names of columns": options.get("names"), **flags, **files}


def compute(model, x, output, batch_size: int) -> None:
    """Run the model over the rows that are missing; a thread writes a part while the next one is computed."""
    from tqdm import tqdm

    from keras_sae.files import forget

    with (
        tqdm(total=len(x), initial=output.rows, unit=" rows", unit_scale=True, disable=None) as bar,
        concurrent.futures.ThreadPoolExecutor(1) as thread,
    ):
        written = None
        for start in range(output.rows, len(x), output.part_rows):
            stop, batches = min(start + output.part_rows, len(x)), []
            for first in range(start, stop, batch_size):
                batches.append(model(x[first : first + batch_size]))
                forget(x)
                bar.update(min(batch_size, stop - first))
            if written:
                written.result()  # raises what went wrong, so that nothing is written after a failure
            written = thread.submit(output.write, batches, start, stop)
        if written:
            written.result()


if __name__ == "__main__":
    main()
