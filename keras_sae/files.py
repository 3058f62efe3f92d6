"""Files that are whole or absent, whatever happens while they are written; mapped files that take no memory."""

import contextlib
import json
import mmap
import os
import pathlib
import shutil
import tempfile

from .errors import InputError


def write_json(path, content):
    """Write content as a JSON file, so that the path holds a complete file or none."""
    with write_aside(path) as aside:
        aside.write_text(json.dumps(content, indent=2) + "\n")


@contextlib.contextmanager
def write_aside(path):
    """A temporary path beside `path` (same suffix) that takes its place at the end, or vanishes on an error.

    The content is on the disk before it takes the place of what was there (fsync, rename, fsync of the folder), so that
    a crash leaves the old file or the new one.
    """
    path = pathlib.Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    aside = pathlib.Path(name)
    try:
        yield aside
        aside.chmod(0o644)  # mkstemp makes files for the owner alone
        to_disk(aside)
        os.replace(aside, path)
        if os.name == "posix":  # Windows cannot open folders
            to_disk(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def check_space(folder, needed):
    """Raise InputError where the disk of a folder has fewer bytes left than needed: now, not after hours of work."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"Expected {needed / 1e9:,.1f} GB of room on the disk of {folder}. Received: {free / 1e9:,.1f} GB "
            "free. Free some space, or name a folder on another disk."
        )


def to_disk(path):
    """Wait until the content of a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def forget(x):
    """Take the pages of a memory-mapped array out of this process's memory; they stay in the system's file cache.

    Those of a copy-on-write map (mmap_mode="c") stay: what was changed in it is nowhere else.
    """
    base = x
    while base is not None and not isinstance(base, mmap.mmap):
        if getattr(base, "mode", None) == "c":
            return
        base = getattr(base, "base", None)
    if base is not None and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
