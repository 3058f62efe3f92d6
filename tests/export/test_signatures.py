"""The functions that an export offers, as Keras computes them."""

import numpy as np
import pytest
import tensorflow as tf

import keras_sae
from export import signatures
from keras_sae.data.preprocessing import fit_preprocessing


@pytest.fixture(scope="module")
def table():
    """100 rows of two numbers, 0 to 99 and 1,000 to 1,990."""
    return np.arange(100.0)[:, None] * [1, 10] + [0, 1000]


@pytest.fixture(scope="module")
def reconstruct(table, tmp_path_factory):
    stack = keras_sae.StackedAutoencoder([keras_sae.SparseAutoencoder(3)], fit_preprocessing(table))
    stack.build((None, 2))
    run = tmp_path_factory.mktemp("signatures") / "run"
    keras_sae.save(stack, run)
    function = signatures.of_run(run)["reconstruct"].function
    return lambda rows: {name: value.numpy() for name, value in function(tf.constant(rows, tf.float32)).items()}


@pytest.mark.parametrize("column", [0, 1])
@pytest.mark.parametrize("direction", [-1, 1])
def test_the_error_grows_with_the_distance_from_the_training_rows(reconstruct, table, column, direction):
    """By hand: once the distance is many times the range, the error is half its square, in ranges."""
    ranges = np.array([2, 10, 1e2, 1e4, 1e6])
    far = np.tile(table[50], (5, 1))
    far[:, column] += direction * ranges * (99, 990)[column]
    error = reconstruct(far)["error"]
    assert (np.diff([reconstruct(table)["error"].max(), *error]) > 0).all()
    np.testing.assert_allclose(error[2:], ranges[2:] ** 2 / 2, rtol=0.05)


def test_the_error_within_the_range_is_that_of_what_is_learned(reconstruct, table):
    found = reconstruct(table)
    scaled = np.arange(100.0)[:, None] / [99, 99]
    np.testing.assert_allclose(found["error"], ((found["outputs"] - scaled) ** 2).sum(axis=1) / 2, rtol=1e-4)


@pytest.mark.parametrize("kept", ["pretrained.keras", "checkpoints/stack.keras", None])
def test_runs_that_did_not_keep_the_pretrained_stack_have_the_signatures_of_before(kept, table, tmp_path):
    """Those of earlier versions: `encode` is the fine-tuned network, and a stack among the checkpoints reconstructs."""
    stack = keras_sae.StackedAutoencoder([keras_sae.SparseAutoencoder(3)], fit_preprocessing(table))
    stack.build((None, 2))
    classifier = stack.classifier(2)
    encoder = classifier.get_layer("encoder")
    encoder.set_weights([weights + 0.5 for weights in encoder.get_weights()])
    keras_sae.save(classifier, tmp_path / "run")
    if kept:
        stack.save(tmp_path / "run" / kept)
    found = signatures.of_run(tmp_path / "run")
    rows = tf.constant(table, tf.float32)
    new = kept == "pretrained.keras"
    np.testing.assert_allclose(found["encode"].function(rows)["features"], (stack.encode if new else encoder)(rows))
    expected = {"serving_default", "encode", "top", "classify"}
    expected |= {"encode_finetuned"} if new else set()
    expected |= {"reconstruct", "decode", "score"} if kept else set()
    assert set(found) == expected
    if new:
        np.testing.assert_allclose(found["encode_finetuned"].function(rows)["features"], encoder(rows))
    if kept:
        np.testing.assert_allclose(found["reconstruct"].function(rows)["features"], stack.encode(rows))
