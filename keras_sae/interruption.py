"""Ctrl-C, and the signals that end a process as it does: SIGTERM of schedulers, SIGHUP of a terminal that is closed."""

import contextlib
import signal
import threading
import types
from collections.abc import Iterator
from typing import Any

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

_received: list[int] = []  # those that came since `interruptible` began


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let each of these signals raise KeyboardInterrupt within the block, unless the process was told to ignore it."""
    _received.clear()
    before = {}
    if threading.current_thread() is threading.main_thread():  # others may not ask for signals
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:  # as of `command &` and nohup
                before[number] = signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: types.FrameType | None) -> None:
    again = bool(_received)
    _received.append(number)
    if not again or number == signal.SIGINT:  # a scheduler may ask twice while all is being tidied up
        raise KeyboardInterrupt


def check(*_: Any) -> None:
    """Raise KeyboardInterrupt if a signal came: Python drops the error in finalizers and callbacks from C."""
    if _received:
        raise KeyboardInterrupt


def status() -> int:
    """Return the exit status of a process that was interrupted, as shells have it: 130 after Ctrl-C."""
    return 128 + (_received[0] if _received else signal.SIGINT)
