"""What every command shares: a parser that teaches, one-line errors, a clean Ctrl-C, a quiet start.

Nothing here imports Keras, so that --help and mistakes answer at once.
"""

import argparse
import contextlib
import errno
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import NoReturn

from .errors import InputError

_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that keeps the line breaks of its description and answers a mistake with one line."""

    def __init__(self, program: str, description: str | None, formatter_class=argparse.RawDescriptionHelpFormatter):
        super().__init__(program, description=description, formatter_class=formatter_class, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        fail(self.prog, f"{message}. See --help.")


def fail(program: str, message: object) -> NoReturn:
    """Print one line to stderr and exit with status 2."""
    print(f"{program}: error: {' '.join(str(message).split())}", file=sys.stderr)
    sys.exit(2)


@contextlib.contextmanager
def reported(program: str, interrupted: Callable[[], str] = lambda: "Nothing was written.") -> Iterator[None]:
    """End the program with one line and status 2 on an InputError, with `interrupted()` and status 130 on Ctrl-C.

    A full disk, or a directory that cannot be written to, is the user's to fix as well.
    """
    try:
        yield
    except InputError as error:
        fail(program, error)
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            raise
        name = error.filename or "files"
        fail(program, f"Expected to read and write {name}. Received: {error.strerror}. {interrupted()}")
    except KeyboardInterrupt:
        print(f"\n{program}: interrupted. {interrupted()}", file=sys.stderr)
        sys.exit(130)


@contextlib.contextmanager
def stderr_suppressed() -> Iterator[None]:
    """Hide what TensorFlow and other runtimes print from C++ to stderr; if an exception leaves the block, show it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    with tempfile.TemporaryFile() as hidden:
        stderr = os.dup(2)
        os.dup2(hidden.fileno(), 2)
        try:
            yield
        except Exception as error:
            if not isinstance(error, InputError):
                hidden.seek(0)
                os.write(stderr, hidden.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
