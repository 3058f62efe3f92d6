"""Files that are whole or absent, whatever happens while they are written."""

import contextlib
import json
import os
import pathlib
import tempfile


def write_json(path, content):
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
        _to_disk(aside)
        os.replace(aside, path)
        if os.name == "posix":  # Windows cannot open folders
            _to_disk(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def _to_disk(path):
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
