"""keras_sae.data.fingerprints: the same data are known again, others are named."""

import dataclasses
import hashlib

import numpy as np
import pytest

from keras_sae.data import fingerprints, readers
from keras_sae.data.readers import rows as rows_module
from keras_sae.errors import InputError
from tests.keras_sae.conftest import raises

X = np.arange(12, dtype="float32").reshape(4, 3)


def test_by_hand():
    expected = hashlib.sha256(b"<f4 (3,)" + X.tobytes()).hexdigest()
    assert fingerprints.of(rows=X) == {"rows": expected}
    assert fingerprints.of(rows=np.asfortranarray(X)) == {"rows": expected}
    assert fingerprints.of(names=["a"]) == {"names": hashlib.sha256(b'["a"]').hexdigest()}
    others = (X[::-1], X.reshape(3, 4), X.astype("float64"), X.view("int32"))
    assert len({fingerprints.of(x=other)["x"] for other in others} | {expected}) == 5


def test_what_is_another_is_named():
    one = fingerprints.of(rows=X, labels=X[:, 0], columns=["a"])
    fingerprints.check(one, one, "the run")
    fingerprints.check({}, one, "a run of an earlier version")
    with raises(InputError, "Expected the data that the run had. Received: other rows, columns. Give it the same, or"):
        fingerprints.check(one, fingerprints.of(rows=X + 1, labels=X[:, 0], columns=["b"]), "the run")
    with raises(InputError, "Received: other test labels."):
        fingerprints.check(one, one | {"test_labels": "a"}, "the run")


@pytest.fixture
def table(tmp_path):
    def write(text, name="x.csv"):
        (tmp_path / name).write_text(text)
        return readers.read_rows(tmp_path / name, labels="k").fingerprint()

    return write


TABLE = "a,b,k\n1,2,x\n3,4,y\n5,6,x\n"


@pytest.mark.parametrize(
    ("text", "others"),
    [
        (TABLE, []),
        (TABLE.replace("4", "7"), ["rows"]),
        (TABLE.replace("4", "4.0"), ["sizes_of_files"]),
        (TABLE.replace("a,b", "b,a"), ["columns"]),
        (TABLE.replace("4,y", "4,x").replace("6,x", "6,y"), ["labels"]),
        (TABLE.replace("y", "z"), ["classes"]),
        ("a,b,k\n3,4,y\n1,2,x\n5,6,x\n", ["rows", "labels"]),
    ],
)
def test_of_rows(text, others, table):
    one, other = table(TABLE), table(text)
    assert list(one) == ["names_of_files", "sizes_of_files", "columns", "rows", "labels", "classes"]
    assert [name for name in one if one[name] != other[name]] == others


def test_names_of_files_and_blocks(table, monkeypatch):
    one = table(TABLE)
    monkeypatch.setattr(rows_module, "CHUNK_BYTES", 8)
    assert table(TABLE) == one
    other = table(TABLE, "y.csv")
    assert [name for name in one if one[name] != other[name]] == ["names_of_files"]


def test_of_images():
    @dataclasses.dataclass
    class Images:
        x_train, y_train, x_test, y_test = X, X[:, 0], X + 1, X[:, 1]

    found = fingerprints.of_images(Images())
    assert list(found) == ["images", "test_images", "labels", "test_labels"]
    assert len(set(found.values())) == 4
