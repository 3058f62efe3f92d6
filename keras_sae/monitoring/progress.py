"""Progress on stderr: a bar on a terminal, plain lines in a log file, in which a line cannot be redrawn."""

import sys
from typing import Any

from tqdm import tqdm

LINE_SECONDS = 15  # from one line of a log file to the next, at least

_COUNTS = "{n_fmt}/{total_fmt} [{elapsed}, {remaining} left{postfix}]"


def progress_bar(title: str, total: int, done: int = 0, disable: bool = False, first_line: float = 0) -> tqdm:
    """Return a bar of `total` steps, of which so many were done before: they do not count in the time left.

    A log file has its first line after `first_line` seconds, and none if all was done before.
    """
    options: dict[str, Any] = {"desc": title, "total": total, "initial": done, "disable": disable}
    if sys.stderr.isatty():
        return tqdm(**options, dynamic_ncols=True, bar_format="{desc}:{percentage:4.0f}%|{bar}| " + _COUNTS)
    # With miniters tqdm's own thread leaves the bar alone, which writes lines between those of `update`.
    options |= {"file": _Lines(), "mininterval": LINE_SECONDS, "miniters": 1, "delay": first_line}
    return tqdm(**options, bar_format="{desc}:{percentage:4.0f}% " + _COUNTS)


class _Lines:
    """What tqdm writes to: each state of the bar becomes a line of stderr."""

    last = ""

    def write(self, text: str) -> None:
        line = text.strip("\r\n ")
        if line not in ("", self.last):
            sys.stderr.write(f"{line}\n")
            self.last = line

    def flush(self) -> None:
        sys.stderr.flush()
