"""Shards: which actor has which, the fixed tree in which their sums are added up, and what an actor reads them from."""

import dataclasses
import glob
import itertools
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..data.batches import Chunks
from ..data.containers import in_memory
from ..data.readers import files_of, read_rows
from ..data.readers.directories import WILDCARDS
from ..data.readers.sources import IMAGES
from ..errors import InputError
from ..extras import imported
from ..files import write_aside

Sums = list[Any]  # numbers and arrays; those of several shards are added one by one


def assigned(shards: int, actors: int) -> list[range]:
    """Return the shards of each actor: neighbours, and as equal in number as can be."""
    ends = [shards * number // actors for number in range(actors + 1)]
    return [range(*pair) for pair in itertools.pairwise(ends)]


def subtrees(shards: range) -> Iterator[tuple[int, int]]:
    """Yield the largest subtrees (first shard, number of shards) that neighbouring shards fill, from left to right.

    The tree over all shards halves at each level, so that a subtree begins at a multiple of its size, a power of two.
    An actor sends one list of sums for each: for 2^a shards on 2^b actors a single one.
    """
    start = shards.start
    while start < shards.stop:
        size = start & -start or 1 << shards.stop.bit_length()
        while size > shards.stop - start:
            size //= 2
        yield start, size
        start += size


def tree_sum(first: int, size: int, known: Callable[[int, int], Sums | None]) -> Sums | None:
    """Return the sums of a subtree: what is known of it, or else the sum of those of its halves; None for no rows.

    So floating-point numbers are added in one order, whichever subtrees are known from whom: to the same bits.
    """
    found = known(first, size)
    if found is not None or size == 1:
        return found
    left, right = (tree_sum(start, size // 2, known) for start in (first, first + size // 2))
    if left is None or right is None:
        return right if left is None else left
    return [a + b for a, b in zip(left, right, strict=True)]


def sum_over_shards(shards: int, parts: dict[tuple[int, int], Sums]) -> Sums:
    """Return the sums over all shards of those of subtrees, by (first shard, number of shards)."""
    found = tree_sum(0, 1 << (shards - 1).bit_length(), lambda first, size: parts.get((first, size)))
    return found or [0]


@dataclasses.dataclass(frozen=True)
class ShardRows:
    """The rows of one shard: x (rows, features), y and weights (rows, ...) or None; names of its classes."""

    x: Any
    y: Any = None
    weights: Any = None
    class_names: tuple[str, ...] = ()
    on_disk: bool = False  # whether an actor is to keep x there, because it was not in memory where it came from

    def read(self, folder: pathlib.Path) -> "ShardRows":
        """Return the rows as the actor that they were sent to keeps them: as its own, for what was sent takes room."""
        if not self.on_disk:
            return dataclasses.replace(self, x=np.array(self.x))
        path = folder / "sent.npy"
        with write_aside(path) as aside:
            np.save(aside, self.x)
        return dataclasses.replace(self, x=np.load(path, mmap_mode="r"))


@dataclasses.dataclass(frozen=True)
class Files:
    """A shard that its actor reads: a file, or a directory of images; a path or an address that fsspec knows."""

    path: str
    options: dict[str, Any]  # of `read_rows`

    def sent(self) -> "Files":
        """Return what is sent to an actor."""
        return self

    def read(self, folder: pathlib.Path) -> ShardRows:
        """Return the rows; a folder is for those that cannot be mapped as they lie there."""
        rows = read_rows(_fetched(self.path, folder), **self.options, cache=folder, part=True)
        return ShardRows(rows.x, rows.y, None, rows.class_names)


@dataclasses.dataclass(frozen=True)
class Slice:
    """A shard of arrays that the driver has, which are cut when they are sent to an actor."""

    x: Any
    y: Any
    weights: Any
    rows: range

    def sent(self) -> ShardRows:
        """Return what is sent to an actor."""
        rows = slice(self.rows.start, self.rows.stop)
        y, weights = (None if array is None else array[rows] for array in (self.y, self.weights))
        return ShardRows(np.asarray(self.x[rows]), y, weights, on_disk=not in_memory(self.x))


def slices(x: Any, y: Any, weights: Any, shards: int) -> list[Slice]:
    """Return arrays cut into so many shards of neighbouring rows, or one for each row if they are fewer."""
    chunks = Chunks(x, y, weights=weights)  # which checks them
    cuts = assigned(len(chunks.x), min(shards, len(chunks.x)))
    return [Slice(chunks.x, chunks.y, chunks.weights, rows) for rows in cuts]


def files(data: Any, options: dict[str, Any]) -> list[Files]:
    """Return the shards that paths, patterns, directories or addresses name: files in the order of their names.

    A directory of images is one shard, with directories in it that are their classes. Directories and patterns are
    looked up where this runs; another path is that of the machine of the actor that reads it.
    """
    named = [data] if isinstance(data, (str, pathlib.Path)) else data
    return [Files(path, options) for item in named for path in _listed(str(item))]


def is_named(x: Any) -> bool:
    """Return whether x is a path, or several."""
    items = x if isinstance(x, (list, tuple)) else [x]
    return bool(items) and all(isinstance(item, (str, pathlib.Path)) for item in items)


def _listed(item: str) -> list[str]:
    if "://" in item:
        filesystem, path = imported("fsspec.core", "read from such an address").url_to_fs(item)
        found = sorted(filesystem.glob(path)) if WILDCARDS.search(path) else [path]
        if not found:
            raise InputError(f"Expected a pattern that matches files. Received: {item}, which matches none.")
        return [filesystem.unstrip_protocol(path) for path in found]
    if not os.path.isdir(item) and not WILDCARDS.search(item):
        return [os.path.abspath(os.path.expanduser(item))]
    source = files_of(item)
    if source.kind == IMAGES:
        matches = sorted(glob.glob(item)) if WILDCARDS.search(item) else [item]
        return [os.path.abspath(path) for path in matches if os.path.isdir(path)] or [os.path.abspath(item)]
    return [os.path.abspath(path) for path in source.files]


def _fetched(path: str, folder: pathlib.Path) -> str:
    """Return the path of a copy in the folder of what an address names, or a path as it is."""
    if "://" not in path:
        return path
    filesystem, source = imported("fsspec.core", "read from such an address").url_to_fs(path)
    target = folder / pathlib.PurePosixPath(source).name
    filesystem.get(source, str(target), recursive=filesystem.isdir(source))
    return str(target)
