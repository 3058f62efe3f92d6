"""How much memory reading may take: looked at before it is taken, whatever a file declares or unpacks to."""

import contextlib
import contextvars
import math
from collections.abc import Iterator

from ...constraints import check
from ...errors import InputError

GIGABYTES = 4.0
VALUE_BYTES = 64  # of each number in a row while rows are checked: copies as float64 and float32, differences, ...
LABEL_COPIES = 5  # of labels while their classes are found: sorted, numbered, ...

_allowed = contextvars.ContextVar("allowed", default=GIGABYTES)  # for the reading that goes on


@contextlib.contextmanager
def memory(gigabytes: float) -> Iterator[None]:
    """Let the reading within the block take so many GB of memory at once. Raise InputError if that is no number."""
    check("memory", gigabytes)
    before = _allowed.set(gigabytes)
    try:
        yield
    except MemoryError as error:  # what was allowed is more than there is
        raise InputError(
            f"Expected data that can be read in the memory that this process may have. Received: {error or 'data'}, "
            "for which there is none left."
        ) from error
    finally:
        _allowed.reset(before)


def allowed_bytes() -> float:
    """Return how much memory the reading that goes on may take at once."""
    return _allowed.get() * 1e9


def check_memory(needed_bytes: float, what: str) -> None:
    """Raise InputError if so much memory is more than reading may take at once.  what: takes it, for the message."""
    if needed_bytes > allowed_bytes():
        needed = needed_bytes / 1e9
        raise InputError(
            f"Expected data that can be read in {_allowed.get():g} GB of memory. Received: {what}: {needed:,.1f} GB or "
            f"more. If there is so much, allow it: memory={math.ceil(needed)}."
        )
