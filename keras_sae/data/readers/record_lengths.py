"""The lengths that the records of a TFRecord file declare: TensorFlow takes that memory before it reads, or dies."""

import os
import pathlib
import zlib
from collections.abc import Iterator

_HEAD = 12  # bytes before a record: its length in 8, and their checksum
_END = 4  # after it: its own checksum


def lengths(path: pathlib.Path, packed: bool) -> Iterator[int]:
    """Yield the length of each record, in bytes, up to one that is damaged. Raise EOFError if it is cut off.

    packed: whether the file is, by gzip or zlib. Then it may hold any number of bytes.
    """
    if packed:
        yield from _of_pieces(_unpacked(path))
        return
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        while len(head := file.read(_HEAD)) == _HEAD and _whole(head):
            length = _length(head)
            if file.tell() + length + _END > size:
                raise EOFError
            yield length
            file.seek(length + _END, os.SEEK_CUR)


def _of_pieces(pieces: Iterator[bytes]) -> Iterator[int]:
    """Yield the lengths of the records in bytes that come in pieces."""
    head, skipped = b"", 0
    for piece in pieces:
        at = 0
        while at < len(piece):
            if skipped:
                step = min(skipped, len(piece) - at)
                skipped -= step
            else:
                step = _HEAD - len(head)
                head += piece[at : at + step]
                if len(head) == _HEAD:
                    if not _whole(head):
                        return
                    yield _length(head)
                    head, skipped = b"", _length(head) + _END
            at += step


def _unpacked(path: pathlib.Path) -> Iterator[bytes]:
    """Yield what is packed in a file, a megabyte at most at a time, up to where it is damaged."""
    unpack = zlib.decompressobj(47)  # gzip or zlib
    with open(path, "rb") as file:
        while packed := file.read(2**16):
            while packed:
                try:
                    yield unpack.decompress(packed, 2**20)
                except zlib.error:
                    return
                packed = unpack.unconsumed_tail
                if unpack.eof:  # gzip files may be several, one after the other
                    packed, unpack = unpack.unused_data, zlib.decompressobj(47)


def _length(head: bytes) -> int:
    return int.from_bytes(head[:8], "little")


def _whole(head: bytes) -> bool:
    """Return whether the checksum of a length, CRC-32C, masked as TensorFlow does it, is right."""
    crc = 0xFFFFFFFF
    for byte in head[:8]:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF == int.from_bytes(head[8:], "little")


def _table() -> list[int]:
    table = list(range(256))
    for _ in range(8):
        table = [value >> 1 ^ 0x82F63B78 * (value & 1) for value in table]
    return table


_TABLE = _table()
