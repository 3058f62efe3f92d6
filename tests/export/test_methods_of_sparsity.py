"""Exports of autoencoders with methods of sparsity: the files make the same units active as Keras."""

import numpy as np
import pytest

import keras_sae
from keras_sae.sparsity import Gated, JumpReLU
from tests.export.conftest import export_here, litert, saved_model

pytestmark = pytest.mark.slow
RNG = np.random.default_rng(3)
METHODS = [JumpReLU(3), Gated()]


@pytest.fixture(params=METHODS, ids=lambda method: type(method).__name__)
def model(request):
    """An autoencoder of 6 features with random weights, pre-bias and scale."""
    ae = keras_sae.SparseAutoencoder(8, request.param, input_scale=True, started=True)
    ae.build((None, 6))
    for variable in ae.trainable_variables:
        variable.assign(0.5 * RNG.standard_normal(variable.shape))
    if isinstance(ae.sparsity, JumpReLU):
        ae.sparsity.theta.assign(RNG.uniform(0.1, 1, 8))
    ae.centring.scale.assign(1.7)
    return ae


def away_from_steps(model, x):
    """The rows of which no pre-activation is so near its step that rounding could bring it to the other side."""
    pre = np.asarray(model._both(x)[0])
    method = model.sparsity
    step = method.theta if isinstance(method, JumpReLU) else -method.gate_bias
    return x[np.abs(pre - np.asarray(step)).min(axis=1) > 1e-4]


def test_the_files_give_what_keras_gives(model, tmp_path):
    x = RNG.uniform(size=(60, 6)).astype("float32")
    rows = away_from_steps(model, x)
    assert len(rows) > 50
    formats = ["saved_model", "litert", "onnx"]
    measured = export_here(model, tmp_path / "out", formats=formats, examples=rows, calibration=x)
    assert set(measured) == {"saved_model/1", "encoder.tflite", "encoder.onnx"}
    assert max(values["difference"] for values in measured.values()) < 1e-5
    codes, back = model.transform(rows), model.reconstruct(rows)
    assert 0.1 < (codes != 0).mean() < 0.9
    for call in (saved_model(tmp_path / "out" / "saved_model" / "1"), litert(tmp_path / "out" / "encoder.tflite")):
        found = call("encode", inputs=rows)["features"]
        np.testing.assert_array_equal(found != 0, codes != 0)
        np.testing.assert_allclose(found, codes, atol=1e-5)
        np.testing.assert_allclose(call("reconstruct", inputs=rows)["outputs"], back, atol=1e-5)
    content = (tmp_path / "out" / "encoder.tflite").read_bytes()
    assert b"Flex" not in content
