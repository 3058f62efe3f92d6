"""Files that may be damaged, or made by somebody who means harm: what they declare is believed only as far as they go.

An archive is looked at before anything of it is used: whether it is whole, whether it stays within its directory, and
whether it takes about as much memory as it has bytes.
"""

import contextlib
import math
import os
import pathlib
import struct
import typing
import zipfile
from collections.abc import Iterator

from .errors import InputError

if typing.TYPE_CHECKING:
    import numpy as np

PLAIN_BYTES = 64 * 2**20  # that an archive may unpack to whatever its own size is
LARGEST_EXPANSION = 100  # of larger ones; inputs with many zeros reach 50
LONGEST_HEADER = 10_000  # bytes of an array, as NumPy has it
_LONGEST = 400  # characters of a cause; Keras adds the whole config of a layer to some


@contextlib.contextmanager
def reading(path: str | os.PathLike[str], expected: str, cure: str = "") -> Iterator[None]:
    """Raise InputError, with the file and the cause in one line, for whatever the block raises while it reads a file.

    What reads a file of others raises errors of every kind, if the file is damaged. So the block should hold no more
    than that reading: in all other places an error that nobody expects is a fault of ours, and shows its trace.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        cause = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        cause = f"{cause}." if len(cause) <= _LONGEST else f"{cause[:_LONGEST]} ..."
        raise InputError(
            f"Expected {expected}. Received: {path}, which cannot be read: {cause} {cure}".strip()
        ) from error


def check_zip(path: str | os.PathLike[str]) -> None:
    """Raise an error unless a zip archive is whole, has no names outside of it, and does not unpack to far more."""
    size = pathlib.Path(path).stat().st_size
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        for member in members:
            name = pathlib.PureWindowsPath(member.filename)  # which knows both kinds of separators, and drives
            if name.anchor or ".." in name.parts:
                raise ValueError(f"it holds the name {member.filename!r}, which lies outside of it")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{member.filename!r} is packed in a way that nothing here writes")
        if len({member.filename for member in members}) < len(members):
            raise ValueError("it holds a name twice")
        if sum(member.compress_size for member in members) > size:
            raise ValueError("it declares more than it holds")
        unpacked = sum(member.file_size for member in members)
        if expands_too_far(size, unpacked):
            raise ValueError(f"it has {size:,} bytes and would unpack to {unpacked:,}")
        if damaged := archive.testzip():
            raise ValueError(f"{damaged!r} in it is damaged: its checksum is another")


def expands_too_far(size: int, unpacked: int) -> bool:
    """Return whether an archive of so many bytes is refused, because it would unpack to so many."""
    return unpacked > max(PLAIN_BYTES, LARGEST_EXPANSION * size)


def read_arrays(path: str | os.PathLike[str]) -> "dict[str, np.ndarray]":
    """Return the arrays of a .npz file by their names, in its order. Call it inside `reading`."""
    check_zip(path)
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            arrays[member.filename.removesuffix(".npy")] = archive_array(archive, member)
    return arrays


def archive_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> "np.ndarray":
    """Return an array of an open .npz file. Raise an error unless it is as large as it says."""
    from numpy.lib import format as npy

    with archive.open(member) as file:
        _check_array(file, member)
    with archive.open(member) as file:
        return npy.read_array(file, allow_pickle=False)


def mapped_arrays(path: str | os.PathLike[str]) -> "dict[str, np.ndarray]":
    """Return the arrays of a .npz file by their names, matrices mapped if they are not packed. Call it in `reading`."""
    import numpy as np

    check_zip(path)
    arrays: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as file:
                shape, fortran, dtype = _check_array(file, member)
                start = file.tell()
            name = member.filename.removesuffix(".npy")
            if len(shape) > 1 and member.compress_type == zipfile.ZIP_STORED:
                begin = _begin(path, member) + start
                arrays[name] = np.memmap(path, dtype, "r", begin, shape, "F" if fortran else "C")
            else:
                arrays[name] = archive_array(archive, member)
    return arrays


def _begin(path: str | os.PathLike[str], member: zipfile.ZipInfo) -> int:
    """Return where the content of a member begins, after a header of 30 bytes, its name, and what else is noted."""
    with open(path, "rb") as file:
        file.seek(member.header_offset + 26)
        return member.header_offset + 30 + sum(struct.unpack("<HH", file.read(4)))


def _check_array(file: typing.IO[bytes], member: zipfile.ZipInfo) -> "tuple[tuple[int, ...], bool, np.dtype]":
    """Return (shape, whether columns come first, dtype) of an array.

    Raise an error unless it is as large as its header says: NumPy takes that memory before it reads.
    """
    shape, fortran, dtype = array_header(file, f"{member.filename!r} in it")
    if dtype.hasobject:
        raise ValueError(f"{member.filename!r} in it holds Python objects, which are not read (allow_pickle=False)")
    declared, held = math.prod(shape) * dtype.itemsize, member.file_size - file.tell()
    if declared != held or min(shape, default=0) < 0:
        raise ValueError(f"{member.filename!r} in it declares {declared:,} bytes and holds {held:,}")
    return shape, fortran, dtype


def array_header(file: typing.IO[bytes], what: str = "it") -> "tuple[tuple[int, ...], bool, np.dtype]":
    """Return (shape, whether columns come first, dtype) of an open .npy file, which stands at its first number then.

    Raise an error if it is damaged, or declares a long header: NumPy takes that memory before it reads.
    """
    from numpy.lib import format as npy

    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{what} is an array of version {version}")
    begin = file.tell()
    if (length := int.from_bytes(file.read(2 * version[0]), "little")) > LONGEST_HEADER:
        raise ValueError(f"{what} declares a header of {length:,} bytes")
    file.seek(begin)
    return (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(file)
