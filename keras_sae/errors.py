"""The error for what a user can mend, and how command lines report it."""

import contextlib
import sys


class InputError(ValueError):
    """A file, folder or setting cannot be used. The message says what was expected, what was received and the cure.

    Command lines print it as one line; anything else is a fault of ours and shows its stack trace.
    """


@contextlib.contextmanager
def reported(program, interrupted):
    """End the program with one line and status 2 on an InputError, with `interrupted` and status 130 on Ctrl-C."""
    try:
        yield
    except InputError as error:
        print(f"{program}: error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"\n{program}: interrupted. {interrupted}", file=sys.stderr)
        sys.exit(130)
