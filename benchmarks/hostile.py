"""Files that are meant to take far more memory than they have bytes, or to hang or to break what reads them.

Each of INPUTS is a function (directory, gigabytes) -> flags of `train.features`: it writes such data into the
directory, which take more than so many GB of memory, if they are believed, or which cannot be read at all.
"""

import gzip
import io
import os
import pathlib
import socket
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np

Flags = list[str]
INPUTS: dict[str, Callable[[pathlib.Path, float], Flags]] = {}


def hostile(make: Callable[[pathlib.Path, float], Flags]) -> Callable[[pathlib.Path, float], Flags]:
    INPUTS[make.__name__.replace("_", " ")] = make
    return make


def pieces(piece: bytes, size: float) -> Iterator[bytes]:
    """Yield about so many bytes of a piece again and again, some at a time."""
    many = piece * (2**16 // len(piece) + 1)
    yield from (many for _ in range(int(size / len(many)) + 1))


def data(path: pathlib.Path, *flags: object) -> Flags:
    return ["--data", str(path), *map(str, flags)]


def text(directory: pathlib.Path, begin: bytes, piece: bytes, size: float, name: str = "x.csv") -> Flags:
    path = directory / name
    with gzip.open(path, "wb", 1) if name.endswith("gz") else open(path, "wb") as file:
        file.write(begin)
        file.writelines(pieces(piece, size))
    return data(directory / name)


@hostile
def csv_of_one_line(directory, gigabytes):
    return text(directory, b"", b"1.5,", 2e7 * gigabytes)


@hostile
def csv_of_one_line_without_names(directory, gigabytes):
    return [*text(directory, b"", b"1.5,", 2e7 * gigabytes), "--no-header"]


@hostile
def csv_of_one_line_packed(directory, gigabytes):
    return text(directory, b"", b"1.5,", 2e8 * gigabytes, "x.csv.gz")


@hostile
def csv_with_a_long_second_line(directory, gigabytes):
    return text(directory, b"a,b\n1,2\n", b"x", 4e6)


@hostile
def csv_of_zeros(directory, gigabytes):
    (directory / "x.csv").touch()
    os.truncate(directory / "x.csv", int(2e9 * gigabytes))
    return data(directory / "x.csv")


@hostile
def csv_of_empty_lines_packed(directory, gigabytes):
    return text(directory, b"", b"\n", 2e8 * gigabytes, "x.csv.gz")


@hostile
def csv_of_many_columns(directory, gigabytes):
    number = int(1.6e5 * gigabytes)
    (directory / "x.csv").write_text(",".join(f"c{i}" for i in range(number)) + "\n" + ("1," * number)[:-1] * 2)
    return data(directory / "x.csv")


def table(directory: pathlib.Path, **columns: object) -> pathlib.Path:
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(columns), directory / "x.parquet")
    return directory / "x.parquet"


@hostile
def parquet_of_wide_lists(directory, gigabytes):
    import pyarrow

    size = int(2e7 * gigabytes)
    lists = pyarrow.ListArray.from_arrays(pyarrow.array([0, size, 2 * size], "int32"), np.zeros(2 * size, "uint8"))
    return data(table(directory, x=lists))


@hostile
def parquet_of_large_groups(directory, gigabytes):
    import pyarrow

    texts = pyarrow.array([str(i) * int(3e5 * gigabytes) for i in range(1000, 2000)], "large_string")
    return data(table(directory, x=np.arange(1000.0), y=texts), "--labels", "y")


@hostile
def parquet_of_many_columns(directory, gigabytes):
    return data(table(directory, **{f"c{i}": [1.0, 2.0] for i in range(int(1.6e5 * gigabytes))}))


def checked(words: bytes) -> bytes:
    """Return CRC-32C, masked as in TFRecord files."""
    crc = 0xFFFFFFFF
    for byte in words:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def record(length: int) -> bytes:
    """Return what is before a record of so many bytes."""
    return struct.pack("<Q", length) + checked(struct.pack("<Q", length))


@hostile
def tfrecord_that_declares_more(directory, gigabytes):
    (directory / "x.tfrecord").write_bytes(record(2**40) + bytes(100))
    return data(directory / "x.tfrecord")


@hostile
def tfrecord_that_unpacks_to_more(directory, gigabytes):
    size = int(3e8 * gigabytes)
    return text(directory, record(size), b"\0", size, "x.tfrecord.gz")


def picture(size: tuple[int, int]) -> bytes:
    """Return a .png file that declares this (width, height), and holds ten bytes."""
    words = struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", words), (b"IDAT", zlib.compress(bytes(10))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def images(directory: pathlib.Path, content: bytes, *flags: object) -> Flags:
    (directory / "images").mkdir()
    for name in ("a", "b"):
        (directory / "images" / f"{name}.png").write_bytes(content)
    return data(directory / "images", *flags)


def plain(shape: tuple[int, int]) -> bytes:
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(np.zeros(shape, "uint8")).save(content, "PNG")
    return content.getvalue()


@hostile
def images_that_declare_more(directory, gigabytes):
    return images(directory, picture((12_000, 12_000)))


@hostile
def images_that_unpack_to_more(directory, gigabytes):
    side = int((1e8 * gigabytes) ** 0.5)
    return images(directory, plain((side, side)))


@hostile
def image_size_of_100000(directory, gigabytes):
    return images(directory, plain((8, 8)), "--image-size", 100_000)


@hostile
def image_size_that_no_number_holds(directory, gigabytes):
    return images(directory, plain((8, 8)), "--image-size", "9" * 30)


@hostile
def a_pipe(directory, gigabytes):
    os.mkfifo(directory / "x.csv")
    return data(directory / "x.csv")


@hostile
def a_device(directory, gigabytes):
    (directory / "x.csv").symlink_to("/dev/zero")
    return data(directory / "x.csv")


@hostile
def a_socket(directory, gigabytes):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(directory / "x.npy"))
    return data(directory / "x.npy")


@hostile
def a_directory_of_pipes(directory, gigabytes):
    (directory / "images").mkdir()
    os.mkfifo(directory / "images" / "a.png")
    return data(directory / "images")
