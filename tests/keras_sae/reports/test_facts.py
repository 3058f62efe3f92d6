"""What a report says, beside numbers that were worked out by hand and beside NumPy."""

import keras
import numpy as np
import pytest

import keras_sae
from keras_sae.errors import InputError
from keras_sae.reports import facts, units as of_units, words
from tests.keras_sae.conftest import autoencoder, raises, two_layers
from tests.keras_sae.reports.conftest import LABELS, ROWS

pytestmark = pytest.mark.usefixtures("compiled")  # many evaluations of one function


def test_the_units_of_a_model_by_hand(by_hand):
    found = facts.measure(by_hand, ROWS, LABELS)
    (layer,) = found.layers
    assert found.rows == 4
    for name, expected in {
        "mean": [0.75, 0.5], "low": [0, 0], "high": [2, 2], "rho_hat": [0.75, 0.5], "zeros": [0.5, 0.75],
        "of_classes": [[1.5, 0], [0, 1]], "shown": [0, 1], "additions": [[2, 0], [0, 1]],
    }.items():  # fmt: skip
        np.testing.assert_array_equal(getattr(layer, name), expected, name)
    assert [layer.top.of(unit) for unit in (0, 1)] == [[(1, 2.0), (0, 1.0)], [(2, 2.0)]]
    assert layer.middling.of(0) == [(0, 1.0), (1, 2.0)]  # nearest to 1, half of its largest
    assert layer.nearest == [[(1, 0.0)], [(0, 0.0)]]
    np.testing.assert_array_equal(layer.counts[[12, 23], 0], [1, 1])  # of 24 bins from 0 to 2: 1 and 2, without zeros
    assert layer.counts.sum(axis=0).tolist() == [2, 1]


def test_what_comes_back_by_hand(by_hand):
    weights = by_hand.get_weights()
    by_hand.set_weights([*weights[:3], np.array([0.0, 1.0])])  # column 1 comes back one too large
    found = facts.measure(by_hand, ROWS)
    assert found.error == 0.5
    assert found.explained[0] == 1
    assert found.explained[1] == pytest.approx(1 - 1 / (3 / 16))  # its variance is 1/4 (1 - 1/4)
    assert found.explained_in_all == pytest.approx(1 - 1 / (3 / 16 + 11 / 16))
    np.testing.assert_allclose(found.deviation**2, [11 / 16, 3 / 16], rtol=1e-6)
    np.testing.assert_array_equal(found.reconstructions["features"], ROWS + np.array([0, 1]))
    assert (found.confusion, found.mistakes, found.labels) == (None, [], None)


def test_the_mistakes_of_a_classifier_by_hand(by_hand, judge):
    found = facts.measure(by_hand, ROWS, np.array([0, 1, 0, 0]), judge)
    np.testing.assert_array_equal(found.confusion, [[2, 1], [1, 0]])  # the last row, a tie, counts as class 0
    assert [(row, guess) for row, guess, _ in found.mistakes] == [(1, 0), (2, 1)]
    np.testing.assert_allclose([p for *_, p in found.mistakes], 1 / (1 + np.exp([-6, -3])), rtol=1e-5)
    assert found.class_names == ["0", "1"]


@pytest.mark.parametrize("make", [autoencoder, two_layers, lambda: autoencoder(tied=True, activation="tanh")])
def test_chunks_of_any_size_tell_the_same_as_all_rows_at_once(make, x, labels, monkeypatch):
    model = make()
    whole = facts.measure(model, x, labels)
    monkeypatch.setattr(facts, "CHUNK_SIZE", 5)
    parts = facts.measure(model, x, labels)
    for one, other in zip(whole.layers, parts.layers, strict=True):
        for name in ("mean", "low", "high", "rho_hat", "of_classes", "counts", "additions"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-9, atol=1e-12, err_msg=name)
        np.testing.assert_array_equal(one.top.rows, other.top.rows)
        np.testing.assert_array_equal(one.middling.rows, other.middling.rows)
    assert whole.error == pytest.approx(parts.error)
    np.testing.assert_array_equal(whole.raw, parts.raw)


def test_units_beside_numpy(x, labels):
    stack = two_layers()
    found = facts.measure(stack, x, labels)
    codes = [np.asarray(stack.autoencoders[0].encode(x)), np.asarray(stack.encode(x))]
    assert [layer.layer.name for layer in found.layers] == ["layer 1", "layer 2"]
    for layer, h in zip(found.layers, codes, strict=True):
        order = np.argsort(-h, axis=0, kind="stable")[: of_units.EXAMPLES]
        np.testing.assert_array_equal(layer.top.rows, order)
        halfway = (h.min(axis=0) + h.max(axis=0)) / 2
        nearest = np.argsort(np.abs(h - halfway), axis=0, kind="stable")[: of_units.EXAMPLES]
        np.testing.assert_array_equal(layer.middling.rows, nearest)
        np.testing.assert_allclose(layer.of_classes[2], h[labels == 2].mean(axis=0))
        for unit in range(h.shape[1]):
            np.testing.assert_array_equal(layer.counts[:, unit], np.histogram(h[:, unit], of_units.BINS)[0])
    assert found.error == pytest.approx(keras_sae.objective(stack, x).parts["reconstruction"])
    assert found.explained_in_all == pytest.approx(keras_sae.evaluate_features(stack, x).explained_variance)


def test_a_data_set_of_batches_gives_the_same_as_an_array(x):
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return x[6 * index : 6 * index + 6]

    ae = autoencoder()
    one, other = facts.measure(ae, x), facts.measure(ae, Batches())
    np.testing.assert_array_equal(one.layers[0].top.rows, other.layers[0].top.rows)
    np.testing.assert_array_equal(one.raw, other.raw)


def test_only_the_units_that_are_used_most_are_looked_at_closely(by_hand, monkeypatch):
    monkeypatch.setattr(of_units, "SHOWN_UNITS", 1)
    (layer,) = facts.measure(by_hand, ROWS).layers
    assert layer.shown.tolist() == [0]
    assert len(layer.mean) == 2
    assert layer.nearest == [[]]


def test_only_the_rows_that_are_shown_are_kept(monkeypatch):
    monkeypatch.setattr(facts, "RECONSTRUCTED", 2)
    rows = np.random.default_rng(0).uniform(size=(500, 6))
    found = facts.measure(autoencoder(), rows)
    shown = {*found.layers[0].top.rows.flat, *found.layers[0].middling.rows.flat, 0, 499}
    assert set(found.kept) == {int(row) for row in shown}
    for row, place in found.kept.items():
        np.testing.assert_array_equal(found.raw[place], rows[row])


def test_upper_units_without_a_slope_look_for_what_the_product_of_the_kernels_says(by_hand):
    stack = keras_sae.StackedAutoencoder([by_hand, keras_sae.SparseAutoencoder(1, None, 0.0, activation="relu")])
    stack.build((None, 2))
    stack.autoencoders[1].set_weights([np.array([[3.0], [2.0]]), np.array([-1.0]), np.zeros((1, 2)), np.zeros(2)])
    _, upper = facts.measure(stack, ROWS).layers
    np.testing.assert_allclose(upper.layer.maximal[:, 0], [3 / 5, 4 / 5])  # (1, 0) 3 + (0, 2) 2, of norm 1


@pytest.mark.parametrize(
    ("y", "parts"),
    [
        (LABELS[:3], ("Expected one label a row", "3 labels of 4 rows")),
        (np.repeat(LABELS, 2), ("Expected one label a row", "8 labels of 4 rows")),
        (LABELS[:, None], ("Expected one label a row, shape (examples,)", "(4, 1)")),
    ],
)
def test_labels_that_do_not_fit(y, parts, by_hand):
    with raises(InputError, *parts):
        facts.measure(by_hand, ROWS, y)


def test_labels_that_a_classifier_does_not_know(by_hand, judge):
    with raises(InputError, "Expected labels as whole numbers from 0 to 1", "2"):
        facts.measure(by_hand, ROWS, np.array([0, 1, 2, 0]), judge)


def test_a_model_without_units(judge):
    with raises(InputError, "Expected an autoencoder, a stack, or a classifier of one"):
        facts.measure(judge, ROWS)


def said(model, x, y=None, names=(), unit=0):
    found = facts.measure(model, x, y)
    return words.sentences(found.layers[0], unit, found, names)


def test_what_a_unit_does_in_words(by_hand):
    assert said(by_hand, ROWS, LABELS, ("width", "height")) == [
        "It is most active if width is high.",
        "It fires most for a: its mean activation there is 1.5, over all rows 0.75.",
        "It is exactly 0 for 50.0% of the rows, and reaches 2.",
    ]
    weights = by_hand.get_weights()
    by_hand.set_weights([np.array([[1.0, 0], [-3.0, 0]]), *weights[1:]])
    # Of the drive 1 sqrt(11) / 4 and 3 sqrt(3) / 4, a share of 0.61 is the second column's.
    assert said(by_hand, ROWS, None, ("width", "height"))[0] == "It is most active if height is low and width is high."


def test_a_class_without_rows_has_no_mean_and_no_unit_fires_for_it(by_hand):
    """Though 0 would be far above what units that go below 0 have on all rows."""
    by_hand.encoder.get_layer("hidden").bias.assign([-9.0, -9.0])
    by_hand.encoder.get_layer("hidden").activation = keras.activations.linear
    found = facts.measure(by_hand, ROWS, np.array([0, 0, 1, 1]), class_names=["a", "b", "absent"])
    assert np.isnan(found.layers[0].of_classes[2]).all()
    assert words.preferred(found.layers[0], 0) == [0]


def test_a_unit_that_is_never_active_is_called_dead(by_hand):
    weights = by_hand.get_weights()
    by_hand.set_weights([weights[0], np.array([0.0, -9.0]), *weights[2:]])
    found = facts.measure(by_hand, ROWS, LABELS)
    assert said(by_hand, ROWS, LABELS, (), 1) == ["It is dead: its activation is 0 on average, whatever the input."]
    assert (found.layers[0].top.of(1), found.layers[0].middling.of(1)) == ([], [])


def test_a_bounded_unit_has_its_target_in_words(x, labels):
    ae = autoencoder()
    (line,) = said(ae, x)
    h = np.asarray(ae.encode(x))[:, 0]
    assert line == (
        f"Its activation goes from {h.min():.3g} to {h.max():.3g}; its mean, rho_hat, is {h.mean():.3g}, where "
        "training aims at rho = 0.05."
    )
    classes = said(ae, x, labels)[0]
    assert classes == "It tells the classes hardly apart: on none of them it is much more active than on all."
