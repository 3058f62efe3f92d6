"""The error for what a user can mend, and how command lines report it."""

import contextlib
import errno
import sys

_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)


class InputError(ValueError):
    """A file, folder or setting cannot be used. The message says what was expected, what was received and the cure.

    Command lines print it as one line; anything else is a fault of ours and shows its stack trace.
    """


class DivergedError(InputError, FloatingPointError):
    """The objective or the weights became NaN or infinite. The message says where, and what to lower."""


@contextlib.contextmanager
def reported(program, interrupted):
    """End the program with one line and status 2 on an InputError, with `interrupted()` and status 130 on Ctrl-C.

    A disk that is full, or a folder that cannot be written to, is the user's to mend as well.
    """
    try:
        yield
    except InputError as error:
        _fail(program, error)
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            raise
        _fail(
            program,
            f"Expected to read and write {error.filename or 'files'}. Received: {error.strerror}. {interrupted()}",
        )
    except KeyboardInterrupt:
        print(f"\n{program}: interrupted. {interrupted()}", file=sys.stderr)
        sys.exit(130)


def _fail(program, message):
    print(f"{program}: error: {' '.join(str(message).split())}", file=sys.stderr)
    sys.exit(2)
