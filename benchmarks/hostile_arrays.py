"""Hostile files of arrays: npy, npz, also of sparse matrices, mat, HDF5 and safetensors, and labels in them."""

import json
import os
import pathlib
import struct
import zipfile
from collections.abc import Iterator

import numpy as np

from .hostile import Flags, data, hostile

ROWS = np.random.default_rng(0).normal(size=(60, 5))


def header(shape, dtype="<f8") -> bytes:
    words = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    words += b" " * (63 - (10 + len(words)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(words)) + words


def array(path: pathlib.Path, shape, dtype="<f8", whole: bool = False) -> pathlib.Path:
    """Write an .npy file of zeros that are not there, as the system's files may have, or of a header alone."""
    path.write_bytes(header(shape, dtype))
    if whole:
        os.truncate(path, path.stat().st_size + int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize)
    return path


@hostile
def npy_that_declares_more(directory, gigabytes):
    return data(array(directory / "x.npy", (10**10, 100)))


@hostile
def npy_that_declares_more_than_can_be_counted(directory, gigabytes):
    return data(array(directory / "x.npy", (2**33, 2**33)))


@hostile
def npy_with_a_long_header(directory, gigabytes):
    (directory / "x.npy").write_bytes(b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + b"{" * 100)
    return data(directory / "x.npy")


@hostile
def npy_of_wide_rows(directory, gigabytes):
    return data(array(directory / "x.npy", (2, int(2e7 * gigabytes)), "|u1", whole=True))


def labelled(directory: pathlib.Path, labels: object) -> Flags:
    np.save(directory / "x.npy", ROWS)
    return data(directory / "x.npy", "--labels", labels)


@hostile
def labels_that_declare_more(directory, gigabytes):
    return labelled(directory, array(directory / "y.npy", (10**12,)))


@hostile
def labels_of_more_rows(directory, gigabytes):
    return labelled(directory, array(directory / "y.npy", (int(2e8 * gigabytes),), whole=True))


@hostile
def labels_of_long_texts(directory, gigabytes):
    return labelled(directory, array(directory / "y.npy", (60,), f"<U{int(1e6 * gigabytes)}", whole=True))


def archive(directory: pathlib.Path, **members: Iterator[bytes]) -> pathlib.Path:
    with zipfile.ZipFile(directory / "x.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        for name, content in members.items():
            with packed.open(f"{name}.npy", "w", force_zip64=True) as file:
                for piece in content:
                    file.write(piece)
    return directory / "x.npz"


def whole_rows() -> Iterator[bytes]:
    yield header(ROWS.shape)
    yield ROWS.tobytes()


@hostile
def npz_that_declares_more(directory, gigabytes):
    return data(archive(directory, x=iter([header((10**10, 5))])))


@hostile
def npz_labels_that_declare_more(directory, gigabytes):
    return data(archive(directory, x=whole_rows(), y=iter([header((60,), "<U1000000000")])), "--labels", "y")


@hostile
def npz_labels_that_unpack_to_more(directory, gigabytes):
    size = int(3e6 * gigabytes)

    def texts() -> Iterator[bytes]:
        yield header((60,), f"<U{size}")
        yield from (bytes(4 * size) for _ in range(60))

    return data(archive(directory, x=whole_rows(), y=texts()), "--labels", "y")


def sparse(directory: pathlib.Path, **changes: object) -> Flags:
    arrays = {"format": b"csr", "shape": [60, 5], "data": [1.0] * 60, "indices": [0] * 60, "indptr": range(61)}
    np.savez(directory / "x.npz", **{name: np.array(value) for name, value in {**arrays, **changes}.items()})
    return data(directory / "x.npz")


@hostile
def sparse_matrix_of_wide_rows(directory, gigabytes):
    return sparse(directory, shape=[60, 10**12])


@hostile
def sparse_matrix_of_many_rows(directory, gigabytes):
    return sparse(directory, format=b"csc", shape=[10**12, 5], data=[1.0], indices=[0], indptr=[0] + [1] * 5)


@hostile
def sparse_matrix_of_other_places(directory, gigabytes):
    return sparse(directory, indices=[10**6] * 60)


@hostile
def mat_that_unpacks_to_more(directory, gigabytes):
    import scipy.io

    scipy.io.savemat(directory / "x.mat", {"x": np.zeros((2, int(2.5e8 * gigabytes)), "uint8")}, do_compression=True)
    return data(directory / "x.mat")


@hostile
def hdf5_of_wide_rows(directory, gigabytes):
    import h5py

    with h5py.File(directory / "x.h5", "w") as file:
        file.create_dataset("x", (2, int(2e7 * gigabytes)), "u1", chunks=(1, 1000))
    return data(directory / "x.h5")


@hostile
def hdf5_in_large_pieces(directory, gigabytes):
    import h5py

    size = int(1.5e9 * gigabytes)
    with h5py.File(directory / "x.h5", "w") as file:
        file.create_dataset("x", (size, 2), "u1", chunks=(size // 2, 2), compression="gzip")
    return data(directory / "x.h5")


@hostile
def hdf5_labels_of_more_rows(directory, gigabytes):
    import h5py

    with h5py.File(directory / "x.h5", "w") as file:
        file["x"] = ROWS
        file.create_dataset("y", (10**12,), "i8", chunks=(1000,))
    return data(directory / "x.h5", "--labels", "y")


@hostile
def safetensors_labels_of_more_rows(directory, gigabytes):
    size = int(2e9 * gigabytes)
    tensors = {"x": ("F64", [60, 5], [0, 2400]), "y": ("U8", [size], [2400, 2400 + size])}
    names = ("dtype", "shape", "data_offsets")
    words = json.dumps({name: dict(zip(names, tensor, strict=True)) for name, tensor in tensors.items()}).encode()
    (directory / "x.safetensors").write_bytes(struct.pack("<Q", len(words)) + words + ROWS.tobytes())
    os.truncate(directory / "x.safetensors", 8 + len(words) + 2400 + size)
    return data(directory / "x.safetensors", "--labels", "y")


def good(directory: pathlib.Path, *flags: object) -> Flags:
    np.save(directory / "x.npy", ROWS)
    return data(directory / "x.npy", *flags)


@hostile
def units_of_a_billion(directory, gigabytes):
    return good(directory, "--units", 10**9)


@hostile
def units_that_no_number_holds(directory, gigabytes):
    return good(directory, "--units", "9" * 30)


@hostile
def iterations_that_no_number_holds(directory, gigabytes):
    return good(directory, "--optimizer", "adam", "--max-iterations", "9" * 30)


@hostile
def a_pipe_of_labels(directory, gigabytes):
    os.mkfifo(directory / "y.npy")
    return labelled(directory, directory / "y.npy")
