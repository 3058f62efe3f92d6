import keras
import numpy as np
import pytest

import keras_sae
from keras_sae.sparsity import AuxK, TopK
from tests.keras_sae.conftest import raises
from tests.keras_sae.sparsity.dictionary import FEATURES, autoencoder, forward, loss_and_gradients, of_keras, weights_of


@pytest.fixture
def rows():
    return np.random.default_rng(3).normal(size=(7, FEATURES))


def with_dead_units(dead, **options):
    """Return a model in which these units were silent for longer than the window, and are silent now."""
    ae = autoencoder(TopK(2, window=100), 0.5, **options)
    ae.encoder.get_layer("hidden").bias.assign(np.where(np.isin(np.arange(8), dead), -9.0, 0.0))
    ae.sparsity.silent.assign(np.isin(np.arange(8), dead) * 1000.0)
    return ae


@pytest.mark.parametrize(("k", "dead"), [(2, [1, 4, 6]), (4, [1, 4, 6]), (3, [1, 4, 6]), (None, [1, 4, 6])])
def test_the_loss_and_its_gradients_are_those_of_numpy(rows, k, dead):
    """Pitfalls: a gradient through the error, a bias that is added twice, a rectifier that stops the encoder's."""
    ae = with_dead_units(dead, revive=AuxK(k, weight=0.25))
    weights, k = weights_of(ae), k or 3
    pre, unit = forward(rows, weights, 0.5)
    values = np.maximum(pre, 0)
    codes = np.where((-values).argsort(axis=1).argsort(axis=1) < 2, values, 0)
    error = 0.5 * rows - (codes @ unit + weights["pre_bias"])  # a constant
    is_dead = np.isin(np.arange(8), dead)
    order = np.where(is_dead, pre, -np.inf)
    chosen = is_dead & ((-order).argsort(axis=1).argsort(axis=1) < k)
    alone = np.where(chosen, pre, 0)
    assert (alone < 0).any()
    factor = 0.25 * min(len(dead) / k, 1)
    difference = alone @ unit - error
    more = factor * 0.5 * (difference**2).sum() / len(rows)
    difference *= factor / len(rows)
    value, gradients = loss_and_gradients(
        rows,
        weights,
        codes,
        codes != 0,
        0.5,
        d_pre=chosen * (difference @ unit.T),
        d_unit=alone.T @ difference,
        more=more,
    )
    found, of_model = of_keras(ae, rows)
    assert found == pytest.approx(value, rel=1e-6)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(of_model[name], gradient, rtol=1e-5, atol=1e-8, err_msg=name)


def test_without_dead_units_it_is_nothing(rows):
    ae = autoencoder(TopK(2, window=100), revive=AuxK())
    plain = autoencoder(TopK(2, window=100))
    value, gradients = of_keras(ae, rows)
    expected, same = of_keras(plain, rows)
    assert value == expected
    for name, gradient in gradients.items():
        np.testing.assert_array_equal(gradient, same[name])


def test_it_is_for_training_alone(rows):
    ae = with_dead_units([1, 2], revive=AuxK(weight=10.0))
    assert of_keras(ae, rows, training=True)[0] > 1.5 * of_keras(ae, rows, training=False)[0]


def test_it_brings_dead_units_back():
    x = keras_sae.sample_digits().x_train[:256, 300:400]

    def dead(**options):
        keras.utils.set_random_seed(0)
        ae = keras_sae.SparseAutoencoder(160, TopK(8, window=1000), **options)
        ae.build((None, 100))
        ae.encoder.get_layer("hidden").bias.assign(np.where(np.arange(160) < 80, -1.0, 0.0))
        ae.compile(keras.optimizers.Adam(0.003))
        ae.fit(x, epochs=60, batch_size=32, verbose=0)
        return ae.history.history["dead_units"][-1]

    without, revived = dead(), dead(revive=AuxK(k=40, weight=1.0))
    assert without > 40
    assert revived < without / 2


def test_settings():
    assert AuxK(**AuxK(5, 0.5).get_config()).get_config() == {"k": 5, "weight": 0.5}
    with raises(ValueError, "`k` expects 1 or more active units. Received: 0"):
        AuxK(0)
    with raises(ValueError, "`weight` expects a finite weight of 0 or more. Received: -1"):
        AuxK(weight=-1)
    with raises(ValueError, "`revive` is for methods of keras_sae.sparsity. Received: sparsity="):
        keras_sae.SparseAutoencoder(4, revive=AuxK())


def test_a_saved_model_keeps_it(rows, tmp_path):
    ae = with_dead_units([1], revive=AuxK(5, 0.5))
    ae.save(tmp_path / "ae.keras")
    assert keras.saving.load_model(tmp_path / "ae.keras").revive.get_config() == {"k": 5, "weight": 0.5}
