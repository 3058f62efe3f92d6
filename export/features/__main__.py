"""Compute the features of data of any size with an exported model, into a directory of Parquet files or a file.

EXPORT is the --out of python -m export. The rows stay in their order and are never in memory all at once. A directory,
named x.parquet or without a suffix, holds part-00000.parquet, part-00001.parquet, ..., with a column for each feature,
feature_0, feature_1, ...: pandas, Polars, DuckDB, Spark and python -m train.features read it as one table. A csv file
has the same columns, an npy file the numbers alone. With --sparse, for codes of many units of which few are active, the
columns are feature_indices and feature_values instead, for each row the list of its active units and that of their
values.

  python -m export.features exports/mnist --data digits.npy --out features.parquet
  python -m export.features exports/mnist --data table.csv --labels species --out features.csv
  python -m export.features exports/gpt2 --data activations.npy --sparse --out codes.parquet
  python -m export.features exports/mnist --data photos/ --image-size 28 --out features.npy --model onnx

If it is killed or stopped, the same command resumes: what is done lies in .NAME.partial until the output is complete.
"""

import argparse
import sys

from keras_sae.cli import Parser

from . import extraction

PROGRAM = "export.features"


def parse(words: list[str]) -> argparse.Namespace:
    parser = Parser(PROGRAM, __doc__)
    add = parser.add_argument
    add("export", metavar="EXPORT", help="directory of an export, or a model: .tflite, .onnx, a SavedModel's directory")
    add(
        "--out", metavar="PLACE", required=True, type=extraction.place(".parquet", ".csv", ".npy"),
        help="a new directory for Parquet, or a new .csv or .npy file",
    )  # fmt: skip
    add(
        "--signature",
        default="encode",
        help="of the model, such as encode_finetuned; each output becomes columns (default: encode)",
    )
    add("--keys", metavar="COLUMN", nargs="+", help="columns of Parquet data that are kept beside the features")
    add(
        "--engine", choices=("ray",),
        help="compute on a Ray cluster, each file of rows by an actor: to Parquet, on a disk that all machines share",
    )  # fmt: skip
    add("--cluster", metavar="ADDRESS", help="of the Ray cluster (default: one is started on this machine)")
    add("--sparse", action="store_true", help="Parquet with lists of what is not 0, not a column for each feature")
    extraction.add_flags(
        parser, "column, array or npy file of labels, 'folders' of images: kept; x.labels.npy if --out is x.npy"
    )
    a = parser.parse_args(words)
    if a.sparse and a.out.suffix in (".csv", ".npy"):
        parser.error(f"argument --sparse: expected a new directory for Parquet as --out, received: {a.out}")
    if a.engine and a.out.suffix in (".csv", ".npy"):
        parser.error(f"argument --engine: expected a new directory for Parquet as --out, received: {a.out}")
    if a.keys and a.out.suffix == ".npy":
        parser.error(f"argument --keys: expected a table as --out, for the columns, received: {a.out}")
    if a.cluster and not a.engine:
        parser.error(f"argument --cluster: expected --engine ray beside it, received: {a.cluster} alone")
    return a


def main() -> None:
    a = parse(sys.argv[1:])
    extraction.run(PROGRAM, a, extract_on_ray if a.engine else extract, sparse=a.sparse)


def extract_on_ray(a: argparse.Namespace, output) -> None:
    """Let the actors of a Ray cluster compute what is missing of the output, and put it in its place."""
    from keras_sae.cluster.ray_engine import RayEngine

    from . import on_ray

    engine = RayEngine(a.cluster, None, 1, on_ray.Extractor)
    try:
        print(f"{a.out}: {on_ray.extract(a, output, engine):,} rows")
    finally:
        engine.close()


def extract(a: argparse.Namespace, output) -> None:
    """Read the data, compute what is missing of the output, and put it in its place."""
    from ..runtimes import open_model
    from ..schema import schema_of
    from .keys import read_keys

    model = open_model(a.export, a.model, a.signature)
    more = {"signature": a.signature, "sparse": a.sparse, "keys": a.keys}
    with extraction.read(a, output, model, schema_of(model.path), **more) as rows:
        rate = extraction.write(model, rows, output, a.batch_size, kept=read_keys(a.data, a.keys))
    names = [name for group in output.names.values() for name in group]
    listed = ", ".join(names if len(names) < 4 else [names[0], "...", names[-1]])
    print(f"{a.out}: {len(rows.x):,} rows of {listed} ({rate:,.0f} rows/s)")


if __name__ == "__main__":
    main()
