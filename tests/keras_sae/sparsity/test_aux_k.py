import keras
import numpy as np
import pytest

import keras_sae
from keras_sae.sparsity import AuxK, TopK
from tests.dictionary_twin import twin_of
from tests.gradients import compare, differences, loss_and_gradients
from tests.keras_sae.conftest import dictionary, raises


def with_dead_units(dead, **options):
    """Return a model in which these units were silent for longer than the window, and are silent now."""
    ae = dictionary(TopK(2, window=100), units=8, input_scale=True, **options)
    ae.encoder.get_layer("hidden").bias.assign(np.where(np.isin(np.arange(8), dead), -4.0, 1.0))
    ae.sparsity.silent.assign(np.isin(np.arange(8), dead) * 1000.0)
    return ae


@pytest.mark.parametrize("k", [2, 4, 3, None])
def test_the_loss_and_every_gradient_are_those_of_the_numpy_version(k, x):
    """Pitfalls: a gradient through the error, a bias that is added twice, a rectifier that stops the encoder's."""
    ae = with_dead_units([1, 4, 6], revive=AuxK(k, weight=0.25))
    twin = twin_of(ae, x)
    assert (twin.parts(twin.start, twin.hidden(twin.start), twin.start)[1] < 0).any()
    compare(ae, x, None if k == 2 else np.linspace(0, 2, len(x)))


def test_the_gradients_of_the_numpy_version_are_central_differences(x):
    """With the error that is to be explained held fixed."""
    twin = twin_of(with_dead_units([1, 4, 6], revive=AuxK(2)), x)
    expected = twin.gradients(twin.start)
    for name in twin.start:
        np.testing.assert_allclose(differences(twin, name), expected[name], rtol=1e-6, atol=1e-7)


def test_without_dead_units_it_is_nothing(x):
    ae, plain = (dictionary(TopK(2, window=100), **options) for options in ({"revive": AuxK()}, {}))
    value, gradients = loss_and_gradients(ae, x)
    expected, same = loss_and_gradients(plain, x)
    assert value == expected
    for ours, theirs in zip(gradients.values(), same.values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_it_is_for_training_alone(x):
    ae = with_dead_units([1, 2], revive=AuxK(weight=10.0))
    ae(x, training=True)
    assert len(ae.losses) == 1
    ae(x)
    assert ae.losses == []


def test_it_alone_moves_dead_units(x):
    moved = []
    for options in ({}, {"revive": AuxK(weight=1.0)}):
        ae = with_dead_units([1, 4, 6], dtype="float32", **options)
        ae.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
        ae.train_on_batch(x)
        hidden = ae.encoder.get_layer("hidden")
        moved.append(np.abs(np.asarray(hidden.bias)[[1, 4, 6]] + 4).max())
    assert moved[0] == 0 < moved[1]


@pytest.mark.slow
def test_it_brings_dead_units_back(compiled):
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


def test_a_saved_model_keeps_it(tmp_path):
    ae = with_dead_units([1], revive=AuxK(5, 0.5))
    ae.save(tmp_path / "ae.keras")
    assert keras.saving.load_model(tmp_path / "ae.keras").revive.get_config() == {"k": 5, "weight": 0.5}
