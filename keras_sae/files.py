"""Files that are complete or absent, whatever happens while they are written; mapped files that take no memory."""

import contextlib
import json
import mmap
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

from .errors import InputError

PARTIAL = ".partial"  # in the names of files that are being written


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write content as a JSON file, so that the path holds a complete file or none."""
    with write_aside(path) as aside:
        aside.write_text(as_json(content))


def as_json(content: Any) -> str:
    """Return content as JSON: numbers and arrays of NumPy as numbers and lists, paths as text."""
    return json.dumps(content, indent=2, default=_plain) + "\n"


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"Expected what JSON can hold. Received: {value!r}")


@contextlib.contextmanager
def write_aside(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yield a temporary path beside `path` (same suffix) that replaces it at the end, or is removed on an error.

    The content is on the disk before it replaces the old file (fsync, rename, fsync of the directory), so that a crash
    leaves the old file or the new one.
    """
    path = pathlib.Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=f"{PARTIAL}{path.suffix}")
    os.close(handle)
    aside = pathlib.Path(name)
    try:
        yield aside
        aside.chmod(0o644)  # mkstemp makes files for the owner alone
        to_disk(aside)
        os.replace(aside, path)
        if os.name == "posix":  # Windows cannot open directories
            to_disk(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def remove_partial(directory: str | os.PathLike[str]) -> None:
    """Remove the files that `write_aside` left in a directory because its process was killed."""
    for path in pathlib.Path(directory).glob(f".*-*{PARTIAL}.*"):
        path.unlink(missing_ok=True)


def check_space(folder: str | pathlib.Path, needed: int) -> None:
    """Raise InputError if the disk of a directory has fewer bytes left than needed: now, not after hours of work."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"Expected {needed / 1e9:,.1f} GB of room on the disk of {folder}. Received: {free / 1e9:,.1f} GB "
            "free. Free some space, or name a directory on another disk."
        )


def to_disk(path: str | pathlib.Path) -> None:
    """Wait until the content of a file or directory is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def forget(x: Any) -> None:
    """Take the pages of a memory-mapped array out of this process's memory; they stay in the system's file cache.

    The pages of a copy-on-write map (mmap_mode="c") stay, because its changes are nowhere else.
    """
    base = x
    while base is not None and not isinstance(base, mmap.mmap):
        if getattr(base, "mode", None) == "c":
            return
        base = getattr(base, "base", None)
    if base is not None and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
