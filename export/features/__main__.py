"""Compute the features of data of any size with an exported model, into one Parquet or npy file.

EXPORT is the --out of python -m export. The rows stay in their order and are never in memory all at once. In Parquet
each feature is a column, feature_0, feature_1, ..., so that pandas, SQL engines and python -m train.features read them.

  python -m export.features exports/mnist --data digits.npy --out features.parquet
  python -m export.features exports/mnist --data table.csv --labels species --out features.parquet
  python -m export.features exports/mnist --data photos/ --image-size 28 --out features.npy --model onnx

Killed or stopped, the same command goes on where it was: what is done lies in .NAME.parts beside the file until all is.
"""

import argparse
import contextlib
import hashlib
import pathlib
import sys
import time

from keras_sae.cli import Parser, reported, stderr_suppressed

PROGRAM = "export.features"
LABELS = (
    "where the labels are, which are kept: a column of a table, an array of a npz file, the path of another npy file, "
    "'folders' of images; with --out x.npy they go to x.labels.npy"
)


def parse(words):
    parser = Parser(PROGRAM, __doc__)
    add = parser.add_argument
    add("export", metavar="EXPORT", help="folder of an export, or a model: .tflite, .onnx, a SavedModel's folder")
    add("--data", required=True, help="npy, npz, csv, parquet or tfrecord file, folder of images, or tfds:NAME")
    add("--out", metavar="FILE", required=True, help="features.parquet or features.npy, a new file")
    add("--labels", help=LABELS)
    add("--feature", help="of tfrecord and tfds: what to read, where there are several")
    add("--image-size", metavar="N", type=positive, help="resize images to N x N")
    add("--color", action="store_true", help="images as red, green and blue, not grey")
    add("--model", help="saved_model, litert, onnx, or a file of that kind (default: the first of these in EXPORT)")
    add("--signature", default="encode", help="of the model; each of its outputs becomes columns (default: encode)")
    add("--batch-size", metavar="N", type=positive, default=4096, help="rows at a time (default: 4096)")
    add("--overwrite", action="store_true", help="replace a file that is there, once the new one is whole")
    return parser.parse_args(words)


def positive(text):
    number = int(text) if text.isdecimal() else 0
    if not number:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, received: {text}")
    return number


def main():
    arguments = parse(sys.argv[1:])
    job = Job(arguments)
    with reported(PROGRAM, job.cure):
        job.run()


class Job:
    """One call of the command."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.store = None

    def cure(self):
        """What to say when the job was stopped."""
        if self.store is None or not self.store.rows:
            return "Nothing was written."
        return f"{self.store.rows:,} of {self.store.total:,} rows are done: the same command goes on from there."

    def run(self):
        from keras_sae.errors import InputError

        from ..runtimes import open_model
        from .files import SUFFIXES
        from .parts import Parts

        place = pathlib.Path(self.arguments.out)
        if place.suffix not in SUFFIXES:
            raise InputError(f"Expected --out of {' or '.join(SUFFIXES)}. Received: {place}. Rename it.")
        if place.is_dir():
            raise InputError(f"Expected a file to write to. Received: {place}, a folder. Name a file in it.")
        model = open_model(self.arguments.export, self.arguments.model, self.arguments.signature)
        beside = place.with_name(f"{place.stem}.labels.npy")
        has_labels = self.arguments.labels and place.suffix == ".npy"
        parts = Parts(place, record(self.arguments, model), beside if has_labels else None)
        parts.refuse_what_exists(self.arguments.overwrite)
        with parts:
            if parts.whole():
                parts.publish()
                print(f"{place}: an earlier command had computed all of it.")
                return
            self.extract(model, parts)

    def extract(self, model, parts):
        from .files import Store, columns

        rows = self.read(parts.cache)
        model.check_features(rows.x.shape[1], self.arguments.data)
        with stderr_suppressed():  # LiteRT says at the first call what it will use
            example = model(rows.x[:1])
        self.store = store = Store(parts, example, len(rows.x), labels_of(rows, self.arguments.labels, example))
        if store.rows:
            print(f"Going on after {store.rows:,} of {store.total:,} rows.", flush=True)
        done, began = store.rows, time.monotonic()
        try:
            compute(model, rows.x, store, self.arguments.batch_size)
            store.finish()
        except BaseException:
            store.save()
            raise
        finally:
            store.close()
        rate = (store.total - done) / (time.monotonic() - began)
        names = [name for group in columns(store.example).values() for name in group]
        listed = ", ".join(names if len(names) < 4 else [names[0], "...", names[-1]])
        print(f"{parts.place}: {store.total:,} rows of {listed} ({rate:,.0f} rows/s)")

    def read(self, cache):
        from keras_sae.data import readers

        print(f"Reading {self.arguments.data} ...", flush=True)
        a = self.arguments
        return readers.read_rows(a.data, a.labels, a.feature, a.image_size, a.color, cache)


def compute(model, x, store, batch_size):
    """Run the model over the rows that are missing; another thread writes what it gives."""
    from tqdm import tqdm

    from keras_sae.files import forget

    from .files import Behind

    with (
        tqdm(total=len(x), initial=store.rows, unit=" rows", unit_scale=True, disable=None) as bar,
        contextlib.closing(Behind(store.append)) as write,
    ):
        for start in range(store.rows, len(x), batch_size):
            write(model(x[start : start + batch_size]), start)
            forget(x)
            bar.update(min(batch_size, len(x) - start))
        write.wait()


def labels_of(rows, name, example):
    """(name of the column, values of the classes, their numbers (examples,)), or None where there are no labels."""
    from .files import columns, label_values

    if rows.y is None:
        return None
    name = name if rows.feature_names else "label"
    taken = {column for group in columns(example).values() for column in group}
    return f"true_{name}" if name in taken else name, label_values(rows.class_names), rows.y


def record(arguments, model):
    """All that the result depends on, named as a message names it."""
    from ..runtimes import fingerprint

    return {
        "model": fingerprint(model.path),
        "--data": str(pathlib.Path(arguments.data).resolve()),
        "content of --data": state(arguments.data),
        "--labels": arguments.labels,
        "content of --labels": arguments.labels and state(arguments.labels),
        "--feature": arguments.feature,
        "--image-size": arguments.image_size,
        "--color": arguments.color,
        "--signature": arguments.signature,
        "--batch-size": arguments.batch_size,
    }


def state(path):
    """A hash of the names, sizes and times of the files at a path; of the path alone where there are none."""
    path = pathlib.Path(path).expanduser()
    files = sorted(path.rglob("*")) if path.is_dir() else [path] if path.is_file() else []
    found = [(str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr(found).encode()).hexdigest()


if __name__ == "__main__":
    main()
