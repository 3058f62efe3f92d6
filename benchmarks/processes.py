"""Commands in copies of a process that has loaded the libraries: each begins at once, and with memory of its own."""

import atexit
import json
import os
import pathlib
import resource
import runpy
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

SECONDS = 120  # that a command may take
MORE_BYTES = 2**31  # that the system lets a process take beyond what reading is allowed


class Ended(NamedTuple):
    """How a command ended: its status, what it wrote to stderr, the seconds that it took, and its memory in MB."""

    status: int
    errors: list[str]
    seconds: float
    megabytes: float

    def in_one_line(self) -> bool:
        return self.status == 2 and len(self.errors) == 1


def start(directory: pathlib.Path, *words: object, gigabytes: float | None = None) -> int:
    """Start a command in a copy of this process, with a temporary directory of its own. Return the copy's number.

    gigabytes: what it is allowed: the system gives it little more.
    """
    (directory / "temporary").mkdir(exist_ok=True)
    sys.stdout.flush()
    number = os.fork()
    if number:
        return number
    status: Any = 1
    try:
        os.chdir(directory)
        for descriptor, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(name, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), descriptor)
        tempfile.tempdir = str(directory / "temporary")
        if gigabytes is not None:
            most = int(1024 * kilobytes("VmData:") + 1e9 * gigabytes + MORE_BYTES)
            resource.setrlimit(resource.RLIMIT_DATA, (most, most))
        sys.argv = [*map(str, words)]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as ended:
        status = ended.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    atexit._run_exitfuncs()
    os._exit(status or 0)


def kilobytes(name: str) -> int:
    words = pathlib.Path("/proc/self/status").read_text().split()
    return int(words[words.index(name) + 1])


def end(directory: pathlib.Path, number: int, seconds: float = SECONDS) -> Ended:
    """Wait for a command; kill it after so many seconds."""
    began = time.monotonic()
    while not (found := os.wait4(number, os.WNOHANG))[0]:
        if time.monotonic() - began > seconds:
            os.kill(number, signal.SIGKILL)
            seconds = SECONDS
        time.sleep(0.01)
    stderr = directory / "stderr"
    errors = stderr.read_text(errors="replace").splitlines() if stderr.exists() else []
    return Ended(os.waitstatus_to_exitcode(found[1]), errors, time.monotonic() - began, found[2].ru_maxrss / 1000)


def run(directory: pathlib.Path, *words: object, **options: Any) -> Ended:
    return end(directory, start(directory, *words, **options))


def made(make: Callable[..., list[str]], *arguments: Any) -> list[str]:
    """Return what a function returns that writes an input: in a copy of this process, as it takes memory."""
    receiving, sending = os.pipe()
    if not os.fork():
        os.write(sending, json.dumps(make(*arguments)).encode())
        os._exit(0)
    os.close(sending)
    with open(receiving) as content:
        words = json.loads(content.read())
    os.wait()
    return words
