"""What the settings of autoencoders and their training may be: one table for the library and for the commands."""

import math
from collections.abc import Callable
from typing import Any


def _at_least_zero(value: float) -> bool:
    return 0 <= value < math.inf


# Name of a setting -> whether a value is right, and what is expected, to follow "expects".
CONSTRAINTS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "units": (lambda units: min(units if isinstance(units, tuple) else (units,)) >= 1, "1 or more hidden units"),
    "rho": (lambda rho: 0 < rho < 1, "a mean activation between 0 and 1 (exclusive), such as 0.1"),
    "beta": (lambda beta: beta is None or _at_least_zero(beta), "a finite weight of 0 or more"),
    "inactive": (
        lambda value: -math.inf < value < 1,
        "the activation of a unit at rest, below 1: 0 for sigmoid, -1 for tanh",
    ),
    "window": (lambda examples: examples is None or 0 < examples < math.inf, "None, or a number of examples above 0"),
    "weight_decay": (lambda decay: decay is None or _at_least_zero(decay), "a finite number of 0 or more"),
    "epsilon": (lambda value: value is None or 0 < value < math.inf, "a finite variance above 0"),
    "corruption": (lambda share: 0 <= share < 1, "0 or more and below 1: the share of inputs that is set to 0"),
    "max_iterations": (lambda number: 1 <= number <= 10**9, "1 or more, up to 1,000,000,000"),
    "batch_size": (lambda rows: rows >= 1, "1 row or more"),
    "chunk_size": (lambda rows: rows >= 1, "1 row or more"),
    "weight": (_at_least_zero, "a finite weight of 0 or more"),
    "rate": (lambda share: 0 < share <= 1, "a share of the examples, above 0 and at most 1"),
    "actors": (lambda actors: actors is None or actors >= 1, "None, or 1 actor or more"),
    "threads": (lambda threads: threads >= 1, "1 thread or more"),
    "shards": (lambda shards: shards >= 1, "1 shard or more"),
    "times": (lambda times: times >= 1, "1 or more"),
    "every": (lambda epochs: epochs >= 1, "1 epoch or more"),
    "size": (lambda share: 0 < share < math.inf, "a finite number above 0"),
    "target_l0": (lambda l0: l0 is None or 0 < l0 < math.inf, "None, or a number of active units above 0"),
    "threshold": (_at_least_zero, "a finite number of 0 or more"),
    "bandwidth": (lambda width: 0 < width < math.inf, "a finite width above 0"),
    "k": (lambda k: k >= 1, "1 or more active units"),
    "anneal": (lambda examples: 0 < examples < math.inf, "a finite number of examples above 0"),
    "memory": (lambda gigabytes: 0 < gigabytes < math.inf, "a finite number of GB above 0"),
    "seed": (lambda seed: 0 <= seed < 2**32, "a whole number from 0 to 4294967295"),
}


def check(name: str, value: Any, spelled: str | None = None) -> None:
    """Raise ValueError unless the setting `name` may have this value.

    spelled: how the user wrote the setting, such as "--rho"; by default its name.
    """
    right, expected = CONSTRAINTS[name]
    if not right(value):
        raise ValueError(f"{spelled or f'`{name}`'} expects {expected}. Received: {value}")
