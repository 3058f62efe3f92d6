"""What a training takes of memory, as measured (benchmarks/README.md), beside what is free: before it begins."""

import contextlib
import itertools
import math
import pathlib

from keras_sae.data.batches import CHUNK_SIZE
from keras_sae.errors import InputError

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None

WEIGHT_BYTES = {"lbfgs": 280, "adam": 50}  # of each weight: L-BFGS keeps ten pairs of vectors in float64
VALUE_BYTES = 60  # of each number of the rows that are computed at a time
WORTH_A_NOTE = 1e9


def needed_bytes(rows: int, features: int, units: tuple[int, ...], optimizer: str) -> int:
    """Return how much memory the training of a stack takes, besides a gigabyte for Python and its libraries."""
    widths = [features, *units]
    weights = sum(2 * below * above for below, above in itertools.pairwise(widths))
    return WEIGHT_BYTES[optimizer] * weights + VALUE_BYTES * min(rows, CHUNK_SIZE) * max(widths)


def check(needed: int, allowed_gigabytes: float | None) -> list[str]:
    """Return a note on what a training takes, if that is much. Raise InputError if it is more than there is.

    allowed_gigabytes: what it may take; None is what is free now.
    """
    free = free_bytes() if allowed_gigabytes is None else allowed_gigabytes * 1e9
    less = "fewer --units, smaller images or --optimizer adam take less"
    if needed > free:
        raise InputError(
            f"Expected a training that takes at most the {free / 1e9:,.1f} GB of memory that "
            f"{'are free' if allowed_gigabytes is None else '--memory allows'}. Received: one that takes "
            f"{needed / 1e9:,.1f} GB: {less}; --memory {math.ceil(needed / 1e9)} allows it."
        )
    return [f"training takes about {needed / 1e9:,.1f} GB of memory; {less}"] if needed > WORTH_A_NOTE else []


def free_bytes() -> float:
    """Return how much memory is free: on this machine, in its container, and for this process."""
    free = [math.inf]
    with contextlib.suppress(OSError, ValueError):
        free.append(1024 * _kilobytes("/proc/meminfo", "MemAvailable:"))
    with contextlib.suppress(OSError, ValueError):  # "max" if there is no limit
        free.append(int(pathlib.Path("/sys/fs/cgroup/memory.max").read_text()))
    with contextlib.suppress(OSError, ValueError, AttributeError):
        for limit, taken in ((resource.RLIMIT_DATA, "VmData:"), (resource.RLIMIT_AS, "VmSize:")):
            if (most := resource.getrlimit(limit)[0]) != resource.RLIM_INFINITY:
                free.append(most - 1024 * _kilobytes("/proc/self/status", taken))
    return min(free)


def _kilobytes(path: str, name: str) -> int:
    lines = (line.split() for line in pathlib.Path(path).read_text().splitlines())
    return next(int(words[1]) for words in lines if words[:1] == [name])
