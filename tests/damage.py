"""Faults of the kinds that disks, networks and editors bring to files, and what is asked of all that reads them."""

import random

import numpy as np

from keras_sae.errors import InputError


def damaged(content, rng):
    """Bytes with a fault."""
    at = rng.randrange(len(content))
    length = rng.randrange(1, 65)
    kinds = {
        "cut off": content[:at],
        "a bit": content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :],
        "a hole": content[:at] + content[at + length :],
        "zeros": content[:at] + bytes(length) + content[at + length :],
        "more": content[:at] + rng.randbytes(length) + content[at:],
        "near the end": content[: -(at % 300) - 1] + bytes([content[-(at % 300) - 1] ^ 0xFF]) + content[-(at % 300) :],
        "twice": content + content,
        "nothing": b"",
    }
    return kinds[rng.choice(list(kinds))]


def check_damage(directory, name, result, times, seed=1):
    """Damage a file in many ways: `result` gives the same arrays, or refuses it in one line."""
    path, rng = directory / name, random.Random(f"{name} {seed}")
    content, expected = path.read_bytes(), result(directory)
    refused = []
    for _ in range(times):
        path.write_bytes(damaged(content, rng))
        try:
            found = result(directory)
        except InputError as error:
            refused.append(str(error))
        else:
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(one, other)
    path.write_bytes(content)
    assert [line for line in refused if "\n" in line or len(line) > 1500] == []
    return len(refused)
