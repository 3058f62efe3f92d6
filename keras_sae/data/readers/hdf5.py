"""A reader of HDF5 files."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

from .named_arrays import read_named
from .rows import Rows
from .sources import Source


def read_hdf5(
    source: Source,
    labels: str | None = None,
    feature: str | None = None,
    cache: pathlib.Path | str | None = None,
) -> Rows:
    """Return an array of HDF5 files: the one named `feature`, or x, or the only one that can be meant.

    `labels` is the name of another array. An array in a group is named group/array.
    """
    return read_named(source, opened, labels, feature, cache)


@contextlib.contextmanager
def opened(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Yield the arrays of an HDF5 file by name, which are read when they are sliced."""
    import h5py

    with h5py.File(path, "r") as file:
        found: dict[str, Any] = {}
        file.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)
        yield {name: dataset for name, dataset in found.items() if dataset.shape}
