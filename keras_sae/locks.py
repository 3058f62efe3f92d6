"""One process at a time for what is written: locks that the system releases, however their process ends."""

import contextlib
import os
import pathlib
import platform
import shlex
import shutil
import sys
from collections.abc import Iterator

import filelock

from .errors import InputError

LOCK, HOLDER = ".lock", ".locked-by"  # in a directory that is held; the second says by which process


@contextlib.contextmanager
def held(directory: pathlib.Path, place: str | os.PathLike[str], again: bool = False) -> Iterator[None]:
    """Hold a directory, in which `place` is written, for this process. Raise InputError if another one holds it.

    again: whether this process may hold it several times.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"Expected a directory that can be written to. Received: {directory} ({error.strerror}). Nothing was "
            "written."
        ) from error
    lock = filelock.FileLock(directory / LOCK, blocking=False, is_singleton=again, thread_local=False)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        by = ""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            by = f" ({(directory / HOLDER).read_text(encoding='utf-8')[:400]})"
        raise InputError(
            f"Expected one process at a time to write {place}. Received: another that is writing it{by}. Wait for it, "
            "or stop it."
        ) from error
    try:
        (directory / HOLDER).write_text(_description(), encoding="utf-8", errors="backslashreplace")
        yield
    finally:
        if lock.lock_counter == 1:  # this process does not hold it again
            with contextlib.suppress(OSError):  # the directory may be gone
                (directory / HOLDER).unlink()
                (directory / LOCK).unlink()
        lock.release()


def _description() -> str:
    return f"process {os.getpid()} on {platform.node()}: {shlex.join(sys.argv)}"


def remove_abandoned(parent: pathlib.Path, prefix: str) -> None:
    """Remove the directories of this prefix in another whose process was killed, so that nobody holds their lock."""
    for directory in parent.glob(f"{prefix}*"):
        if not (directory / LOCK).is_file():
            continue
        lock = filelock.FileLock(directory / LOCK, blocking=False)
        with contextlib.suppress(filelock.Timeout, OSError), lock:  # it is in use, or another user's
            shutil.rmtree(directory, ignore_errors=True)
