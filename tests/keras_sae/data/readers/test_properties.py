"""readers: rows or an InputError, whatever the values."""

import contextlib
import pathlib
import tempfile

import hypothesis
import hypothesis.extra.numpy as arrays_of
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import strategies

from keras_sae.data import readers
from keras_sae.errors import InputError
from tests.keras_sae.data.readers.conftest import (
    write_csv,
    write_text,
)


def property_test(*arguments, **keywords):
    return lambda function: hypothesis.settings(
        max_examples=30,
        derandomize=True,  # the same examples on every machine
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
    )(hypothesis.given(*arguments, **keywords)(function))


ANY_DTYPE = strategies.one_of(
    arrays_of.boolean_dtypes(),
    arrays_of.integer_dtypes(endianness="?"),
    arrays_of.unsigned_integer_dtypes(endianness="?"),
    arrays_of.floating_dtypes(endianness="?"),
    arrays_of.complex_number_dtypes(),
    arrays_of.unicode_string_dtypes(),
    arrays_of.datetime64_dtypes(),
)
ANY_ARRAY = ANY_DTYPE.flatmap(
    lambda dtype: arrays_of.arrays(dtype, arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)
TABLE_COLUMNS = strategies.integers(0, 5).flatmap(
    lambda number: strategies.dictionaries(
        strategies.text("abc é0", min_size=1, max_size=3),
        strategies.one_of(
            strategies.lists(strategies.integers(-(2**63), 2**63 - 1), min_size=number, max_size=number),
            strategies.lists(strategies.floats(), min_size=number, max_size=number),
            strategies.lists(strategies.booleans(), min_size=number, max_size=number),
            strategies.lists(strategies.none() | strategies.floats(-10, 10), min_size=number, max_size=number),
            strategies.lists(strategies.text(max_size=3), min_size=number, max_size=number),
        ),
        max_size=4,
    )
)


@contextlib.contextmanager
def rows_or_input_error():
    message = "Received"
    try:
        yield
    except InputError as error:
        message = str(error)
    assert "Received" in message
    assert "\n" not in message


def check_equal(found, expected):
    """Rows with these values, which could only be read if they are as they should be."""
    with np.errstate(over="ignore"):
        expected = np.asarray(expected).astype(found.x.dtype)
    assert expected.ndim >= 2
    assert len(expected) >= 1
    assert np.isfinite(found.x).all()
    np.testing.assert_array_equal(found.x, expected.reshape(len(expected), -1))


@property_test(array=ANY_ARRAY, suffix=strategies.sampled_from(["npy", "npz"]), order=strategies.sampled_from("CF"))
def test_any_array(array, suffix, order):
    with tempfile.TemporaryDirectory() as folder, rows_or_input_error():
        path, array = pathlib.Path(folder, f"x.{suffix}"), np.asarray(array, order=order)
        np.save(path, array) if suffix == "npy" else np.savez(path, x=array)
        check_equal(readers.read_rows(path, cache=folder), array)


@property_test(values=ANY_DTYPE.flatmap(lambda dtype: arrays_of.arrays(dtype, 3)))
def test_any_labels(values):
    with tempfile.TemporaryDirectory() as folder, rows_or_input_error():
        path = pathlib.Path(folder, "x.npz")
        np.savez(path, x=np.eye(3), y=values)
        found = readers.read_rows(path, labels="y", cache=folder)
        assert set(found.y) - {-1} == set(range(len(found.class_names)))


@property_test(columns=TABLE_COLUMNS, label=strategies.none() | strategies.sampled_from("abc"))
def test_any_parquet(columns, label):
    with tempfile.TemporaryDirectory() as folder, rows_or_input_error():
        path = pathlib.Path(folder, "x.parquet")
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
        found = readers.read_rows(path, labels=label, cache=folder)
        check_equal(found, np.array([values for name, values in columns.items() if name.strip() != label]).T)


@property_test(columns=TABLE_COLUMNS, label=strategies.none() | strategies.sampled_from("abc"))
def test_any_csv(columns, label):
    with tempfile.TemporaryDirectory() as folder, rows_or_input_error():
        path = write_csv(pathlib.Path(folder, "x.csv"), columns)
        found = readers.read_rows(path, labels=label, cache=folder)
        expected = [values for name, values in columns.items() if name.strip() != label]
        check_equal(found, np.array(expected, "float64").T)


@property_test(text=strategies.text("a1,;\"'\n\r\t .é-\0", max_size=40) | strategies.text(max_size=20))
def test_any_text_as_csv(text):
    with tempfile.TemporaryDirectory() as folder, rows_or_input_error():
        found = readers.read_rows(write_text(pathlib.Path(folder, "x.csv"), text, "utf-8"), cache=folder)
        assert np.isfinite(found.x).all()


@property_test(
    content=strategies.binary(max_size=80), start=strategies.sampled_from([b"", b"\x93NUMPY\x01\x00", b"PK\3\4"])
)
@pytest.mark.parametrize("suffix", ["npy", "npz", "parquet", "csv.gz", "tfrecord", "h5"])
def test_any_bytes(suffix, content, start):
    with tempfile.TemporaryDirectory() as folder, rows_or_input_error():
        path = pathlib.Path(folder, f"x.{suffix}")
        path.write_bytes(start + content)
        readers.read_rows(path, cache=folder)
