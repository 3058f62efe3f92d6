"""The check of a sample: L0 and variance explained as computed by hand, and the cause that a warning names."""

import warnings

import numpy as np
import pytest

import keras_sae
from keras_sae.errors import InputError
from tests.keras_sae.conftest import raises
from tests.keras_sae.interchange.files import GOLDEN, relu_of, rows, saelens, tensors

FEATURES, UNITS = 32, 96


def sparse_data(k=3, number=400):
    """Rows that are sums of k directions of `UNITS`, and weights that find these."""
    rng = np.random.default_rng(3)
    decoder = rng.standard_normal((UNITS, FEATURES))
    decoder /= np.linalg.norm(decoder, axis=1, keepdims=True)
    codes = np.zeros((number, UNITS))
    for row in codes:
        row[rng.choice(UNITS, k, replace=False)] = rng.uniform(1, 2, k)
    x = codes @ decoder
    weights = {"W_enc": decoder.T, "W_dec": decoder, "b_enc": np.full(UNITS, -0.6), "b_dec": np.zeros(FEATURES)}
    return x.astype("float32"), {name: value.astype("float32") for name, value in weights.items()}


def loaded(directory, sample):
    """Return (model, the one warning or "")."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = keras_sae.load_sae(directory, sample=sample)
    said = [str(one.message) for one in caught if one.category is UserWarning]
    assert len(said) <= 1
    return model, said[0] if said else ""


def test_the_numbers_are_as_by_hand(tmp_path):
    x, weights = sparse_data()
    model, said = loaded(saelens(tmp_path, weights), x)
    codes, outputs = relu_of(weights, x.astype("float64"))
    explained = 1 - ((x - outputs) ** 2).sum() / ((x - x.mean(axis=0)) ** 2).sum()
    assert model.origin["l0"] == pytest.approx((codes > 0).sum(axis=1).mean(), abs=0.02)
    assert model.origin["variance_explained"] == pytest.approx(explained, abs=1e-5)
    assert explained > 0.3
    assert said == ""


@pytest.mark.parametrize(("size", "goal"), [(np.sqrt(FEATURES), "sqrt(features)"), (1, "1")])
def test_activations_that_are_not_normalised(size, goal, tmp_path):
    x, weights = sparse_data()
    scale = size / np.linalg.norm(x, axis=1).mean()  # of the activations that it was trained on
    trained = {**weights, "b_enc": np.float32(scale) * weights["b_enc"]}
    _, said = loaded(saelens(tmp_path, trained), scale * x)
    assert said == ""
    _, said = loaded(tmp_path, x / 100)
    assert f"Likely: the activations are not normalised. Times {100 * scale:.4g}, with a mean length of {goal}" in said


def test_a_top_k_that_was_loaded_as_relu(tmp_path):
    """Of 1,000 units 6 of the first 200 are right, and 800 others are a little active always."""
    rng = np.random.default_rng(0)
    right = np.linalg.qr(rng.standard_normal((200, 200)))[0]
    others = rng.standard_normal((800, 200)) / np.sqrt(200)
    codes = rng.uniform(1, 2, (100, 200)) * (rng.uniform(size=(100, 200)) < 6 / 200)
    weights = {
        "W_enc": np.concatenate([right.T, np.zeros((200, 800))], axis=1),
        "W_dec": np.concatenate([right, others]),
        "b_enc": np.concatenate([np.zeros(200), rng.uniform(0, 0.3, 800)]),
        "b_dec": np.zeros(200),
    }
    weights = {name: value.astype("float32") for name, value in weights.items()}
    _, said = loaded(saelens(tmp_path, weights), codes @ right)
    assert "units are active in an example, and -" in said
    assert "it is a TopK autoencoder whose file does not say so. With the 64 largest codes" in said


def test_an_encoder_that_is_stored_transposed(tmp_path):
    rng = np.random.default_rng(0)
    square = np.linalg.qr(rng.standard_normal((FEATURES, FEATURES)))[0]
    x = rng.exponential(size=(200, FEATURES)) @ square
    right = {"W_enc": square.T, "W_dec": square, "b_enc": np.zeros(FEATURES), "b_dec": np.zeros(FEATURES)}
    right = {name: np.ascontiguousarray(value).astype("float32") for name, value in right.items()}
    _, said = loaded(saelens(tmp_path, {**right, "W_enc": right["W_enc"].T}, architecture="topk", k=16), x)
    assert "the encoder is stored transposed. Turned," in said
    model, said = loaded(saelens(tmp_path, right, architecture="topk", k=16), x)
    assert said == ""
    assert model.origin["l0"] == 16


def test_activations_of_another_layer(tmp_path):
    _, weights = sparse_data()
    other = 5 + np.random.default_rng(9).standard_normal((50, FEATURES))
    model, said = loaded(saelens(tmp_path, weights), other)
    assert "Likely: these are not the activations that it was trained on, but those of another layer, model" in said
    assert model.origin["variance_explained"] < 0


def test_another_l0_than_the_file_says(tmp_path):
    x, weights = sparse_data()
    directory = saelens(
        tmp_path / "a", {**weights, "topk_threshold": np.array(0, "float32")}, architecture="batchtopk", k=1.0
    )
    model, said = loaded(directory, x)
    assert model.origin["l0"] > 2
    assert f"Of the sample {model.origin['l0']:.4g} of 96 units are active in an example, where its file says 1" in said


def test_the_scale_that_a_file_lacks_is_that_of_the_sample(tmp_path):
    x, weights = sparse_data()
    scale = np.sqrt(FEATURES) / np.linalg.norm(x, axis=1).mean()
    trained = {**weights, "b_enc": weights["b_enc"] * np.float32(scale)}
    model, said = loaded(saelens(tmp_path, trained, normalize_activations="expected_average_only_in"), 50 * x)
    assert float(model.output_layer.scale) == pytest.approx(scale / 50)
    assert model.origin["variance_explained"] == pytest.approx(
        loaded(saelens(tmp_path, weights), x)[0].origin["variance_explained"], abs=1e-4
    )
    assert said == ""


def test_a_transcoder_has_targets():
    with np.load(GOLDEN / "saelens_transcoder" / "expected.npz") as expected:
        model, said = loaded(GOLDEN / "saelens_transcoder", (expected["x"], expected["outputs"]))
    assert model.origin["variance_explained"] == pytest.approx(1)
    assert said == ""
    with raises(
        InputError, "Expected `sample` as (inputs, targets) with targets of shape (20, 10). Received: (20, 12)."
    ):
        keras_sae.load_sae(GOLDEN / "saelens_transcoder", sample=rows(12))


def test_a_sample_of_another_width(tmp_path):
    saelens(tmp_path, tensors())
    with raises(
        InputError, "Expected a sample of activations of shape (examples, 6)", "Received: (20, 7). They are of"
    ):
        keras_sae.load_sae(tmp_path, sample=rows(7))
    for sample in (np.ones(6), np.ones((0, 6))):
        with raises(InputError, "Expected a sample of activations of shape (examples, 6)"):
            keras_sae.load_sae(tmp_path, sample=sample)
