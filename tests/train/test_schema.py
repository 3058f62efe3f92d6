"""What the numbers of data mean: what is cut off, and whether labels are classes."""

import numpy as np
import pytest

from keras_sae.data.preprocessing import fit_preprocessing
from keras_sae.data.readers import Rows
from keras_sae.errors import InputError
from train import schema


def labelled(number, names):
    y = np.arange(number) % len(names)
    return Rows(np.zeros((number, 1)), y, tuple(names))


def test_what_is_measured_of_scaled_rows():
    x = np.array([[0.0, 10.0], [1.0, 10.0], [2.0, 20.0], [2.0, 20.0]])
    scaled = schema.measure(fit_preprocessing(x), x)
    np.testing.assert_allclose(scaled.mean, [0.625, 0.5])
    assert scaled.half_variance == pytest.approx(np.var([0, 0.5, 1, 1]) / 2 + 0.125)
    assert schema.cut_off(scaled, 4, ()) == []
    assert schema.distance(fit_preprocessing(x), x[:1], scaled.mean) == pytest.approx((0.625**2 + 0.25) / 2)


def test_what_is_cut_off_is_named():
    x = np.tile(np.arange(50.0)[:, None], (1, 8))
    x[:, :7] *= 1 + np.arange(7)
    x[:2, :7] = 1e9
    found = schema.measure(fit_preprocessing(x), x)
    said = "values far beyond the others of their column, in training rows, are cut off: "
    assert schema.cut_off(found, 50, list("abcdefgh")) == [f"{said}a (2), b (2), c (2), d (2), e (2), f (2) and 1 more"]
    assert schema.cut_off(found, 50, ()) == [said + ", ".join(f"number {i} (2)" for i in range(6)) + " and 1 more"]


@pytest.mark.parametrize("number", [1, 16, 31])
def test_labels_that_cannot_teach_are_refused(number):
    names = [f"n{i}" for i in range(number)]
    if number == 16:
        assert schema.check_classes(labelled(32, names), "kind") == []
        return
    with pytest.raises(InputError, match=r"only 'n0' in 32 labels \(--labels kind\)|31 different ones in 32 labels"):
        schema.check_classes(labelled(32, names), "kind")


def test_amounts_as_labels_are_asked_about():
    numbers = [str(i) for i in range(214)]
    question = "--labels charges has 214 values, all numbers: is it a class, or an amount?"
    assert schema.check_classes(labelled(2000, numbers), "charges") == [question]
    assert schema.check_classes(labelled(2000, [f"n{i}" for i in numbers]), "charges") == []
    assert schema.check_classes(labelled(2000, numbers[:100]), "charges") == []
    assert schema.check_classes(Rows(np.zeros((2, 1))), None) == []


def table(columns, categories=None):
    return Rows(
        np.array(list(columns.values()), "float32").T,
        feature_names=tuple(columns),
        categories=categories or {},
        source="columns of x.csv",
    )


def test_columns_of_one_value_in_the_training_rows_are_dropped():
    """Whatever they hold in others; a column of texts as a whole or not at all."""
    rows = table(
        {
            "a": [1, 2, 3],
            "b": [5, 5, 6],
            "c=u": [1, 1, 0],
            "c=v": [0, 0, 1],
            "d=w": [0, 1, 1],
            "d=x": [1, 0, 0],
            "d=y": [0] * 3,
        },
        {"c": ("u", "v"), "d": ("w", "x", "y")},
    )
    found, dropped = schema.without_constant(rows, rows.x[:2])
    assert dropped == ["b", "c"]
    assert found.feature_names == ("a", "d=w", "d=x", "d=y")
    assert found.categories == {"d": ("w", "x", "y")}
    np.testing.assert_array_equal(found.x, rows.x[:, [0, 4, 5, 6]])
    assert isinstance(found.x, np.memmap)  # of any size


def test_a_table_that_varies_stays_as_it_is():
    rows = table({"a": [1, 2], "b": [3, 4]})
    assert schema.without_constant(rows, rows.x) == (rows, [])


def test_what_nothing_can_be_dropped_from():
    nameless = Rows(np.eye(2), source="x.npy")
    with pytest.raises(InputError, match=r"Expected a table whose columns.*Received: x\.npy\. Leave --drop out"):
        schema.without_constant(nameless, nameless.x)
    rows = table({"a": [1, 1, 2]})
    with pytest.raises(InputError, match=r"Expected training rows that differ\. Received: columns of x\.csv, whose"):
        schema.without_constant(rows, rows.x[:2])
