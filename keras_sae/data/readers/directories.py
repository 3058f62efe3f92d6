"""The files below directories: no link to another directory is followed, and what is no file is never opened."""

import collections
import glob
import os
import pathlib
import re
import stat
from collections.abc import Callable

from ...errors import InputError

WILDCARDS = re.compile(r"[*?[]")
_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket"}


def check_regular(path: pathlib.Path) -> None:
    """Raise InputError if a path is a pipe, a device or a socket: nobody knows whether those ever end."""
    if kind := _KINDS.get(stat.S_IFMT(path.stat().st_mode)):
        raise InputError(
            f"Expected a file, which can be read again. Received: {path}, {kind}. Write what comes from it to a file."
        )


def below(
    directory: pathlib.Path, is_image: Callable[[pathlib.Path], bool]
) -> tuple[list[pathlib.Path], collections.Counter[str]]:
    """Return the files below a directory in the order of their names, and how many of what are left out.

    Hidden files are: data engines take names that begin with _ for hidden, cameras do not. So are links to directories,
    because what they lead to lies in this one anyway, or out of it. A link to a file is that file: many data sets are
    made of links, one for each file.
    """
    files, left_out = [], collections.Counter[str]()
    for folder, folders, names in os.walk(directory, onerror=_raise):
        left_out["hidden"] += sum(name.startswith(".") for name in [*folders, *names])
        folders[:] = [name for name in folders if not name.startswith(".")]
        left_out["links to directories"] += sum(os.path.islink(os.path.join(folder, name)) for name in folders)
        set_aside = any(part.startswith("_") for part in pathlib.Path(folder).relative_to(directory).parts)
        for path in (pathlib.Path(folder, name) for name in names if not name.startswith(".")):
            if (set_aside or path.name.startswith("_")) and not is_image(path):
                left_out["hidden"] += 1
            elif not path.is_file():
                left_out["no files (pipes, devices, broken links)"] += 1
            else:
                files.append(path)
    return sorted(files), left_out


def _raise(error: OSError) -> None:
    """Raise the error that os.walk met, which would otherwise leave out directories that it cannot read."""
    raise error


def matches(pattern: pathlib.Path) -> tuple[list[pathlib.Path], pathlib.Path]:
    """Return what matches a pattern, in the order of the names, and the directory before its first wildcard.

    ** leads through no links to directories, which may go round.
    """
    parts = pattern.parts
    first = next(i for i, part in enumerate(parts) if WILDCARDS.search(part))
    base = pathlib.Path(*parts[:first])
    if "**" not in parts:
        return sorted(map(pathlib.Path, glob.glob(str(pattern)))), base
    found = base.glob(os.path.join(*parts[first:], *(["*"] if parts[-1] == "**" else [])))
    if not any(part.startswith(".") for part in parts[first:]):
        found = (path for path in found if not any(part.startswith(".") for part in path.relative_to(base).parts))
    return sorted(found), base


def without_twins(
    files: dict[pathlib.Path, pathlib.Path], left_out: collections.Counter[str]
) -> dict[pathlib.Path, pathlib.Path]:
    """Return the files without those that are another of them by a second name: links, of which the file itself stays.

    left_out: counts them.
    """
    first: dict[tuple[int, int], pathlib.Path] = {}
    for path in sorted(files, key=pathlib.Path.is_symlink):
        status = path.stat()
        first.setdefault((status.st_dev, status.st_ino), path)
    kept = set(first.values())
    left_out["linked twice"] += len(files) - len(kept)
    return {path: base for path, base in files.items() if path in kept}
