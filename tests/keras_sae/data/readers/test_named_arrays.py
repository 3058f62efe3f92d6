"""readers of files that hold several arrays: npz, also of sparse matrices, HDF5 and MATLAB's."""

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse

from keras_sae.data import readers
from keras_sae.errors import InputError
from tests.keras_sae.conftest import raises
from tests.keras_sae.data.readers.conftest import ROWS, check_digits, is_mapped

RANDOM = np.random.default_rng(0)


def write_npz(path, **arrays):
    np.savez(path, **arrays)


def write_h5(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            array = array.astype(object) if array.dtype.kind == "U" else array
            file.create_dataset(name, data=array, dtype=h5py.string_dtype() if array.dtype == object else None)


def write_mat(path, **arrays):
    scipy.io.savemat(
        path, {name: array.astype(object) if array.dtype.kind == "U" else array for name, array in arrays.items()}
    )


def write_mat_7_3(path, **arrays):
    """MATLAB writes the last dimension first, vectors as columns, after 512 bytes of its own."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file[name] = (array[:, None] if array.ndim == 1 else array).T
            file[name].attrs["MATLAB_class"] = np.bytes_("double")
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


WRITERS = {"npz": write_npz, "h5": write_h5, "mat": write_mat, "hdf5": write_h5, "7.3.mat": write_mat_7_3}


@pytest.mark.parametrize("suffix", WRITERS)
def test_arrays_by_name(suffix, images, classes, tmp_path):
    path = tmp_path / f"x.{suffix}"
    others = RANDOM.normal(size=(7, 3))
    WRITERS[suffix](path, train=images, test=others, kind=classes)
    found = readers.read_rows(path, labels="kind", feature="train")
    check_digits(found, images, classes)
    assert (found.image_shape, found.source) == ((28, 28), f"array train in {path}")
    assert found.notes == ("left out: test (7, 3) float64",)
    found = readers.read_rows(path, feature="test")
    np.testing.assert_allclose(found.x, others, rtol=1e-6)
    assert is_mapped(found.x)
    with raises(
        InputError, "Expected an array named x or x_train, or only", "train (40, 28, 28) uint8", "feature=NAME."
    ):
        readers.read_rows(path)
    with raises(InputError, "Expected an array named 'none' in ", "Received: ", "test (7, 3) float64"):
        readers.read_rows(path, feature="none")
    with raises(InputError, "Expected labels named 'none' in "):
        readers.read_rows(path, feature="test", labels="none")
    with raises(InputError, "Expected one label for each of 7 rows. Received: 40 in kind in "):
        readers.read_rows(path, feature="test", labels="kind")


@pytest.mark.parametrize("suffix", ["npz", "h5", "mat"])
def test_text_labels_and_the_array_that_is_meant(suffix, tmp_path):
    x, words = RANDOM.normal(size=(6, 2)).astype("float32"), np.array(list("abcabc"))
    WRITERS[suffix](tmp_path / f"x.{suffix}", data=x, words=words, y=np.arange(6)[:, None] % 2)
    found = readers.read_rows(tmp_path / f"x.{suffix}", labels="words")
    np.testing.assert_array_equal(found.x, x)
    assert (found.class_names, found.y.tolist()) == (("a", "b", "c"), [0, 1, 2, 0, 1, 2])
    assert readers.read_rows(tmp_path / f"x.{suffix}", labels="y").y.tolist() == [0, 1] * 3


@pytest.mark.parametrize("suffix", WRITERS)
def test_several_files_with_arrays(suffix, tmp_path):
    x = RANDOM.normal(size=(6, 2)).astype("float32")
    for part in range(3):
        here = x[2 * part : 2 * part + 2]
        WRITERS[suffix](tmp_path / f"{part}.{suffix}", x=here, y=np.array([part, part]))
    found = readers.read_rows(tmp_path, labels="y")
    np.testing.assert_array_equal(found.x, x)
    assert (found.y.tolist(), found.notes) == ([0, 0, 1, 1, 2, 2], (f"3 files: 0.{suffix}, 1.{suffix}, 2.{suffix}",))
    WRITERS[suffix](tmp_path / f"3.{suffix}", x=np.zeros((2, 3), "float32"), y=np.array([1, 2]))
    with raises(InputError, "Expected arrays of one type and one shape but for the examples. Received: ", "(2, 3) in "):
        readers.read_rows(tmp_path)


def test_arrays_in_groups(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["group/values"] = np.arange(12.0).reshape(3, 2, 2)
        file["group/number"] = 3
    found = readers.read_rows(tmp_path / "x.h5", feature="group/values")
    np.testing.assert_array_equal(found.x, np.arange(12).reshape(3, 4))
    [note] = found.notes
    assert note.startswith("each of the 3 examples of shape (2, 2) became one row of 4 features")


@pytest.mark.parametrize("make", ["csr_array", "csc_array", "coo_array", "bsr_array", "csr_matrix"])
@pytest.mark.parametrize("suffix", ["npz", "mat"])
def test_sparse_matrices(make, suffix, tmp_path):
    dense = RANDOM.normal(size=(ROWS, 500)) * (RANDOM.uniform(size=(ROWS, 500)) < 0.05)
    matrix = getattr(scipy.sparse, make)(dense)
    if suffix == "npz":
        scipy.sparse.save_npz(tmp_path / "x.npz", matrix)
    else:
        scipy.io.savemat(tmp_path / "x.mat", {"x": matrix.tocsc()})
    found = readers.read_rows(tmp_path / f"x.{suffix}")
    np.testing.assert_array_equal(found.x, dense.astype("float32"))
    assert is_mapped(found.x)


def test_labels_of_a_sparse_matrix(tmp_path):
    scipy.sparse.save_npz(tmp_path / "x.npz", scipy.sparse.csr_array(np.eye(4)))
    np.save(tmp_path / "y.npy", np.array(list("abab")))
    assert readers.read_rows(tmp_path / "x.npz", labels=tmp_path / "y.npy").y.tolist() == [0, 1, 0, 1]
    with raises(InputError, "Expected no name of an array", "Received: 'x' for ", "Leave it out."):
        readers.read_rows(tmp_path / "x.npz", feature="x")


# Arrays that cannot be read: (array, what the message says).
WRONG = {
    "NaN": (np.array([[1, 2], [3, np.nan]]), ["Received: nan in column 2, row 2 (counted from 1) of x in "]),
    "complex": (np.zeros((3, 2), complex), ["Expected real numbers. Received: complex numbers in x in "]),
}


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("kind", WRONG)
def test_wrong_arrays(kind, suffix, tmp_path):
    array, parts = WRONG[kind]
    WRITERS[suffix](tmp_path / f"x.{suffix}", x=array)
    with raises(InputError, *parts):
        readers.read_rows(tmp_path / f"x.{suffix}")


def test_labels_that_are_python_objects(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.eye(4), y=np.array(list("abab"), object))
    with raises(InputError, "Received: Python objects in y in ", "Save them as text: y.astype(str)."):
        readers.read_rows(tmp_path / "x.npz", labels="y")


@pytest.mark.parametrize(("dtype", "name"), [("bfloat16", "bfloat16"), ("float8_e4m3fn", "float8")])
def test_numbers_that_numpy_has_no_name_for(dtype, name, tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    np.save(tmp_path / "x.npy", np.eye(4).astype(getattr(ml_dtypes, dtype)))
    with raises(InputError, "real numbers. Received: values of ", f", as {name} is saved) in ", "x.astype('float32')"):
        readers.read_rows(tmp_path / "x.npy")


@pytest.mark.parametrize("suffix", ["h5", "mat", "npz"])
def test_damaged_files(suffix, tmp_path):
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(b"something else " * 40)
    with raises(InputError, "Expected a", f"Received: {path}, which is damaged"):
        readers.read_rows(path)


def test_a_sparse_matrix_of_matlab_7_3(tmp_path):
    """A group of numbers, their rows, and where columns begin; logical ones are bytes, zeros alone have no numbers."""
    x = np.array([[0, 2.5, 0], [0, 0, 0], [1, 0, -3], [0, 4, 0]])
    path = tmp_path / "x.mat"
    write_mat_7_3(path, other=np.zeros(3))

    def write(name, matrix):
        with h5py.File(path, "r+") as file:
            group = file.create_group(name)
            group.attrs["MATLAB_sparse"] = np.uint64(matrix.shape[0])
            parts = {"data": matrix.data, "ir": matrix.indices, "jc": matrix.indptr}
            for part, values in parts.items():
                if len(values):
                    group[part] = values if part == "data" else values.astype("uint64")

    write("a", scipy.sparse.csc_matrix(x))
    write("b", scipy.sparse.csc_matrix(x != 0))
    write("c", scipy.sparse.csc_matrix((2, 3)))
    for name, expected in {"a": x, "b": x != 0, "c": np.zeros((2, 3))}.items():
        np.testing.assert_array_equal(readers.read_rows(path, feature=name).x, expected)
    with h5py.File(path, "r+") as file:
        file["a/ir"][0] = 9
    with raises(InputError, "x.mat"):
        readers.read_rows(path, feature="a")
