"""Find the files that are meant by a path, a directory, a pattern with wildcards, or several of them."""

import collections
import dataclasses
import functools
import os
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from ...errors import InputError
from . import directories

_SHARD = re.compile(r"(.*?)-(\d+)-of-(\d+)(\D.*)?")
_COMPRESSED = {  # the first bytes of a file -> (how it is packed, what unpacks it)
    b"\x1f\x8b\x08": ("gzip", "gunzip"),
    b"BZh": ("bzip2", "bunzip2"),
    b"\xfd7zXZ\x00": ("xz", "unxz"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
    b"PK\x03\x04": ("zip", "unzip"),
}
IMAGES = "images"  # the kind that may have tables beside it
_LFS = b"version https://git-lfs"


@dataclasses.dataclass(frozen=True)
class Source:
    """The files of some data, in the order in which they are read.

    Attributes:
        name: what was named, for messages.
        files: path of a file -> the directory that it was found below.
        kind: the kind of all the files, as `find` calls it.
        notes: what was left out.
    """

    name: str
    files: dict[pathlib.Path, pathlib.Path]
    kind: str
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


def as_text(name: object) -> str:
    """Return a name of a file as text that can be written: bytes in it that are no UTF-8 as \\udcff, say."""
    return str(name).encode("utf-8", "backslashreplace").decode()


def find(named: Sequence[pathlib.Path | str], kinds: dict[str, str], formats: str, part: bool = False) -> Source:
    """Return the files that are named, by paths or patterns.

    Args:
        named: paths of files, which are read in this order; of directories, and patterns with wildcards, whose files
            are read in the order of their names.
        kinds: end of a file's name, a regular expression -> kind of data.
        formats: what can be named, for messages.
        part: whether they may be some of the shards of the data.
    """
    if not named:
        raise InputError(f"Expected files or directories of data. Received: none. Name {formats}.")
    found: dict[pathlib.Path, pathlib.Path] = {}
    left_out: collections.Counter[str] = collections.Counter()
    for item in named:
        explicit = pathlib.Path(item).expanduser()
        paths, more = _listed(explicit, kinds, formats)
        left_out.update(more)
        for path, base in paths.items():
            if _kind(path, kinds) is None:
                if path == explicit:
                    raise InputError(f"Expected a file of data by its suffix. Received: {path}. Name {formats}.")
                left_out[path.suffix.lower().removeprefix(".") or "without a suffix"] += 1
            elif path in found:
                left_out["named twice"] += 1
            else:
                found[path] = base
    found = directories.without_twins(found, left_out)
    files, kind = _of_one_kind(found, kinds, left_out, _some(named), formats)
    if kind != IMAGES and not part:
        _check_shards(files)
    return Source(_some(named), _from_common_directory(files), kind, _notes(files, kind, left_out))


def _listed(
    path: pathlib.Path, kinds: dict[str, str], formats: str
) -> tuple[dict[pathlib.Path, pathlib.Path], collections.Counter[str]]:
    """Return (path of a file -> the directory it was found below, number of what is left out) for what was named."""

    def below(directory: pathlib.Path) -> tuple[dict[pathlib.Path, pathlib.Path], collections.Counter[str]]:
        files, left_out = directories.below(directory, lambda file: _kind(file, kinds) == IMAGES)
        return dict.fromkeys(files, directory), left_out

    if path.is_dir():
        return below(path)
    if path.exists():
        directories.check_regular(path)
        return {path: path.parent}, collections.Counter()
    if not directories.WILDCARDS.search(str(path)):
        raise InputError(
            f"Expected a file or directory of data. Received: {path}, which does not exist. Name {formats}."
        )
    matches, base = directories.matches(path)
    found: dict[pathlib.Path, pathlib.Path] = {}
    left_out: collections.Counter[str] = collections.Counter()
    for match in matches:
        if match.is_dir():
            files, more = ({}, {}) if "**" in path.parts else below(match)
            left_out.update(more)
            found |= dict.fromkeys(files, base)
        else:
            directories.check_regular(match)
            found[match] = base
    if not found:
        raise InputError(f"Expected a pattern that matches files. Received: {path}, which matches none in {base}.")
    return found, left_out


def _kind(path: pathlib.Path, kinds: dict[str, str]) -> str | None:
    return next((kinds[end] for end in kinds if _pattern(end).search(path.name)), None)


@functools.cache
def _pattern(end: str) -> re.Pattern[str]:
    return re.compile(f"(?:{end})$", re.IGNORECASE)


def _of_one_kind(
    found: dict[pathlib.Path, pathlib.Path],
    kinds: dict[str, str],
    left_out: collections.Counter[str],
    name: str,
    formats: str,
) -> tuple[dict[pathlib.Path, pathlib.Path], str]:
    """Return the files and their kind. Images may have tables beside them, which are left out and counted."""
    by_kind: dict[str, dict[pathlib.Path, pathlib.Path]] = {}
    for path, base in found.items():
        by_kind.setdefault(str(_kind(path, kinds)), {})[path] = base
    if set(by_kind) == {IMAGES, "csv"}:
        left_out["csv beside the images"] += len(by_kind.pop("csv"))
    if len(by_kind) == 1:
        [(kind, files)] = by_kind.items()
        return files, kind
    if not by_kind:
        raise InputError(f"Expected data in {name}. Received a directory with: {_counted(left_out)}. Name {formats}.")
    counts = ", ".join(f"{len(files)} {kind}" for kind, files in by_kind.items())
    raise InputError(
        f"Expected data of one kind. Received: {name} with {counts}. Name those that are meant, by a pattern such as "
        f"'{next(iter(found)).parent / '*'}{next(iter(found)).suffix}'."
    )


def _from_common_directory(files: dict[pathlib.Path, pathlib.Path]) -> dict[pathlib.Path, pathlib.Path]:
    """Return the files, those that were named one by one as found below the directory that they have in common."""
    alone = [path for path, base in files.items() if path.parent == base]
    if len(alone) < 2 or len(alone) < len(files):
        return files
    return dict.fromkeys(files, pathlib.Path(os.path.commonpath([path.parent.absolute() for path in alone])))


def _check_shards(files: Iterable[pathlib.Path]) -> None:
    """Raise InputError unless all shards x-00000-of-00003, x-00001-of-00003, ... of some data are among the files."""
    shards: dict[tuple[pathlib.Path, str], set[int]] = {}
    for path in files:
        if found := _SHARD.fullmatch(path.name):
            front, number, total, end = found.groups(default="")
            # Some writers add a hash that differs from shard to shard: x-00000-of-00002-ab12.parquet.
            end = "*" * end.startswith("-") + pathlib.PurePath(f"x{end}").suffix
            shards.setdefault((path.with_name(f"{front}-*-of-{total}{end}"), total), set()).add(int(number))
    for (pattern, total), numbers in shards.items():
        first = int(int(total) in numbers)  # some count from 1
        if missing := sorted(set(range(first, int(total) + first)) - numbers):
            raise InputError(
                f"Expected all {int(total)} shards of the data. Received: {len(numbers)} of them, without number "
                f"{', '.join(map(str, missing[:6]))}{', ...' * (len(missing) > 6)}. Name all, '{pattern}', or rename "
                "the files if a part is meant."
            )


def _notes(files: dict[pathlib.Path, pathlib.Path], kind: str, left_out: collections.Counter[str]) -> tuple[str, ...]:
    """Return notes on what was found and what was left out."""
    notes = []
    if len(files) > 1:
        suffixes = collections.Counter(path.suffix.lower().removeprefix(".") for path in files)
        shown = _counted(suffixes) if kind == IMAGES else _some([path.name for path in files])
        notes.append(f"{len(files):,} files: {shown}")
    if kind != IMAGES and list(files) == sorted(files) != sorted(files, key=_by_number):
        notes.append("files are read in the order of their names, in which 10 comes before 2")
    if +left_out:
        notes.append(f"left out: {_counted(left_out)}")
    partitions = {part for path, base in files.items() for part in path.relative_to(base).parts[:-1] if "=" in part}
    if kind != IMAGES and partitions:
        notes.append(f"left out: the columns in names of directories such as {min(partitions)}")
    return tuple(notes)


def _by_number(path: pathlib.Path) -> list[tuple[str, int]]:
    """Return what sorts paths by the numbers in them."""
    return [(text, int(number or 0)) for text, number in re.findall(r"(\D+)(\d*)", f"/{path}")]


def _counted(counter: collections.Counter[str]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counter.items() if number) or "nothing"


def _some(named: Sequence[Any]) -> str:
    more = f" and {len(named) - 3:,} more" if len(named) > 3 else ""
    return ", ".join(map(str, named[:3])) + more


def check_unpacked(path: pathlib.Path, allowed: Sequence[str] = ()) -> None:
    """Raise InputError if a file is packed, but not in one of the ways `allowed`, or stands for one in Git LFS."""
    with open(path, "rb") as file:
        start = file.read(len(_LFS))
    for beginning, (packed, unpack) in _COMPRESSED.items():
        if start.startswith(beginning) and packed not in allowed:
            raise InputError(
                f"Expected data that are not compressed. Received: {path}, which is packed ({packed}). Unpack it "
                f"first: {unpack}."
            )
    if start.lower().startswith((b"<!doctype html", b"<html")):
        raise InputError(f"Expected data. Received: {path}, which is a web page. Download the file itself.")
    if start == _LFS:
        raise InputError(
            f"Expected data. Received: {path}, which only stands for a file in Git LFS. Fetch that: git lfs pull."
        )
