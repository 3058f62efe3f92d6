"""What every command shares: a parser, one-line errors, a clean Ctrl-C, a quiet start.

Nothing here imports Keras, so that --help and mistakes answer at once.
"""

import argparse
import contextlib
import difflib
import errno
import io
import pathlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from . import interruption
from .errors import InputError
from .quiet import stderr_suppressed as stderr_suppressed

CONSOLE = "keras-sae"  # the command that an installed library brings
IN_CHECKOUT = (pathlib.Path(__file__).parents[1] / "pyproject.toml").is_file()

_DISK_ERRORS = {  # a disk that is full, or broken; places that cannot be written to, or that others took away
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENXIO, errno.ENODEV),
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.ENOENT, errno.ENOTEMPTY, errno.ESTALE, errno.EMFILE, errno.ENFILE),
}
_MODULE = re.compile(r"\bpython\s+-m\s+(train|export)\b(?:\.(\w+))?")


def _started_as() -> str:
    """Return what this process was started as: "keras-sae", the name after `python -m`, or "" for anything else."""
    arguments = getattr(sys, "argv", None) or [""]
    if pathlib.PurePath(arguments[0]).stem == CONSOLE:
        return CONSOLE
    words = sys.orig_argv[-len(arguments) - 1 :] if len(sys.orig_argv) > len(arguments) else [""]
    return words[1] if words[0] == "-m" else ""


STARTED_AS = _started_as()  # read at once, because the commands change sys.argv


def is_own_command() -> bool:
    """Return whether this process runs a command of ours, which answers --help before it loads Keras."""
    ours = (CONSOLE, "keras_sae", "train", "export") if IN_CHECKOUT else (CONSOLE, "keras_sae")
    return STARTED_AS.split(".")[0] in ours


def spelled(text: str) -> str:
    """Return the text with commands as the user has them: `python -m train.mnist`, or `keras-sae train mnist`.

    A checkout uses the first, unless the console command started this process.
    """
    if IN_CHECKOUT and STARTED_AS not in (CONSOLE, "keras_sae"):
        return text
    return _MODULE.sub(_console_command, text)


def _console_command(found: re.Match[str]) -> str:
    package, name = found.groups()
    words = [name] if package == "export" and name else [package, name]
    return " ".join([CONSOLE, *filter(None, words)])


def with_flags(text: str, options: Sequence[str]) -> str:
    """Return a message of the library with these arguments as flags: image_size=N becomes --image-size N."""

    def flag(found: re.Match[str]) -> str:
        name, value = found.groups()
        words = re.sub(r"[()',]", "", value).split()
        return " ".join([f"--{name.replace('_', '-')}", *(words if value not in ("True", "...") else [])])

    return re.sub(rf"\b({'|'.join(options)})=(\([^)]*\)|'[^']*'|\.\.\.|\w+)", flag, text)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that keeps the line breaks of its description and answers a mistake with one line."""

    def __init__(
        self,
        program: str,
        description: str | None,
        formatter_class: type[argparse.HelpFormatter] = argparse.RawDescriptionHelpFormatter,
    ):
        prog = program if program.startswith(CONSOLE) else f"python -m {program}"
        super().__init__(prog, description=description, formatter_class=formatter_class, allow_abbrev=False)
        self.program = program
        if isinstance(sys.stdout, io.TextIOWrapper):  # names of files need not be valid UTF-8, but can be printed
            sys.stdout.reconfigure(errors="backslashreplace")

    def format_help(self) -> str:
        return spelled(super().format_help())

    def error(self, message: str) -> NoReturn:
        fail(self.program, f"{message}. {self._nearest(message)}See --help.")

    def _nearest(self, message: str) -> str:
        """Return the question whether the nearest name was meant, if argparse's message is about an unknown one."""
        if choice := re.search(r"invalid choice: '(.+)' \(choose from (.+)\)$", message):
            name, known = choice[1], re.findall(r"[\w.-]+", choice[2])
        elif flag := re.search(r"unrecognized arguments: .*?(--[\w-]+)", message):
            name, known = flag[1], list(self._option_string_actions)
        else:
            return ""
        found = difflib.get_close_matches(name, known, n=1)
        return f"Did you mean {found[0]}? " if found else ""


def fail(program: str, message: object) -> NoReturn:
    """Print one line to stderr and exit with status 2."""
    line = spelled(" ".join(str(message).split()))
    # A message may quote a damaged file, or a name that is no text: what no terminal should obey is spelled out.
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    print(f"{program}: error: {line}", file=sys.stderr)
    sys.exit(2)


@contextlib.contextmanager
def reported(program: str, interrupted: Callable[[], str] = lambda: "Nothing was written.") -> Iterator[None]:
    """End the program with one line and status 2 on an InputError, with `interrupted()` and status 130 on Ctrl-C.

    SIGTERM and SIGHUP end it as Ctrl-C does. One line and status 2 also end it if the disk is full, or memory, or a
    file or directory is gone or cannot be written to, which the user can fix.
    """
    try:
        with interruption.interruptible():
            yield
    except InputError as error:
        fail(program, error)
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        name = error.filename or "files"
        fail(program, f"Expected to read and write {name}. Received: {error.strerror}. {interrupted()}")
    except MemoryError as error:
        fail(
            program, f"Expected to need no more memory than there is. Received: {error or 'none left'}. {interrupted()}"
        )
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):  # of a terminal that was closed
            print(f"\n{program}: interrupted. {spelled(interrupted())}", file=sys.stderr)
        sys.exit(interruption.status())
