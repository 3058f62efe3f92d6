"""Files of other libraries: shapes decide, nothing is left out, and what is wrong is said in one line."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import keras
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_sae
from keras_sae.archives import mapped_arrays
from keras_sae.errors import InputError
from keras_sae.interchange.check import encoder_of
from keras_sae.interchange.detection import find
from keras_sae.interchange.tensors import Matrix
from tests.keras_sae.conftest import raises, relative
from tests.keras_sae.interchange.files import FEATURES, GOLDEN, UNITS, relu_of, rows, saelens, tensors

HIDDEN = tensors()


def test_the_model_is_what_the_formula_says(tmp_path):
    ae = keras_sae.load_sae(saelens(tmp_path))
    codes, outputs = relu_of(HIDDEN, rows())
    assert relative(ae.transform(rows()), codes) < 1e-6
    assert relative(ae.reconstruct(rows()), outputs) < 1e-6


@pytest.mark.parametrize("turned", [["W_enc"], ["W_dec"], ["W_enc", "W_dec"]])
def test_kernels_turn_as_their_shapes_say(turned, tmp_path):
    weights = {name: value.T if name in turned else value for name, value in HIDDEN.items()}
    ae = keras_sae.load_sae(saelens(tmp_path, weights))
    assert relative(ae.transform(rows()), relu_of(HIDDEN, rows())[0]) < 1e-6
    assert relative(ae.reconstruct(rows()), relu_of(HIDDEN, rows())[1]) < 1e-6


def test_square_kernels_are_as_the_format_has_them(tmp_path):
    weights = tensors(FEATURES, FEATURES)
    ours = keras_sae.load_sae(saelens(tmp_path / "saelens", weights, architecture="topk", k=6))
    named = {"encoder.weight": weights["W_enc"].T, "encoder.bias": weights["b_enc"], "W_dec": weights["W_dec"]}
    (tmp_path / "sparsify").mkdir()
    config = {"d_in": FEATURES, "num_latents": 0, "expansion_factor": 1, "k": 6}
    (tmp_path / "sparsify" / "cfg.json").write_text(json.dumps(config))
    contiguous = {name: np.ascontiguousarray(value) for name, value in (named | {"b_dec": weights["b_dec"]}).items()}
    save_file(contiguous, tmp_path / "sparsify" / "sae.safetensors")
    theirs = keras_sae.load_sae(tmp_path / "sparsify")
    for ae in (ours, theirs):
        assert relative(ae.reconstruct(rows()), relu_of(weights, rows())[1]) < 1e-6


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_becomes_float32_exactly_and_is_said(dtype, tmp_path):
    halves = {
        name: value.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype) for name, value in HIDDEN.items()
    }
    saelens(tmp_path, halves)
    with pytest.warns(UserWarning, match=f"Its weights are {dtype}, now float32: exact, but no more precise"):
        ae = keras_sae.load_sae(tmp_path)
    assert ae.origin["dtype"] == dtype
    assert np.array_equal(ae.kernel, halves["W_enc"].astype("float32"))


def test_float64_is_rounded(tmp_path):
    ae = keras_sae.load_sae(saelens(tmp_path, {name: value.astype("float64") for name, value in HIDDEN.items()}))
    assert ae.origin["dtype"] == "float64"
    assert np.array_equal(ae.kernel, HIDDEN["W_enc"])


def test_where_it_is_from(tmp_path):
    saelens(tmp_path, metadata={"sae_lens_version": "6.1.0", "model_name": "gpt2"})
    origin = keras_sae.load_sae(tmp_path).origin
    assert (origin["format"], origin["architecture"], origin["dtype"]) == ("saelens", "standard", "float32")
    assert (origin["address"], origin["revision"], len(origin["sha256"])) == (str(tmp_path), None, 64)
    assert origin["metadata"]["model_name"] == "gpt2"


def test_rates_of_activity_are_a_claim(tmp_path):
    saelens(tmp_path)
    save_file({"sparsity": np.log10(np.full(UNITS, 0.25, "float32"))}, tmp_path / "sparsity.safetensors")
    assert keras_sae.load_sae(tmp_path).origin["claims"]["l0"] == pytest.approx(UNITS / 4)


def test_a_loaded_one_is_saved_loaded_and_trained_on(tmp_path):
    ae = keras_sae.load_sae(saelens(tmp_path / "sae", architecture="topk", k=3))
    keras_sae.save(ae, tmp_path / "run")
    again = keras_sae.load(tmp_path / "run")
    assert relative(again.transform(rows()), ae.transform(rows())) == 0
    before = ae.reconstruction_error(rows()).mean()
    bias = np.array(ae.output_layer.bias)
    assert ae.started
    ae.start(100 + rows())
    assert np.array_equal(ae.output_layer.bias, bias)  # which begins with no data any more
    keras_sae.fit(ae, rows(), optimizer=keras.optimizers.Adam(0.01), iterations=3)
    assert ae.reconstruction_error(rows()).mean() < before


def test_a_transcoder_is_saved_and_loaded(tmp_path):
    model = keras_sae.load_sae(GOLDEN / "saelens_skip_transcoder")
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert relative(again(rows(12)), model(rows(12))) == 0
    assert relative(encoder_of(again)(rows(12)), encoder_of(model)(rows(12))) == 0


def test_rows_that_are_normalised_one_by_one_are_saved_and_loaded(tmp_path):
    model = keras_sae.load_sae(GOLDEN / "saelens_layer_norm")
    keras_sae.save(model, tmp_path / "run")
    again = keras_sae.load(tmp_path / "run")
    assert relative(again(rows(12)), model(rows(12))) == 0
    shifted = model(3 * rows(12) + 1)
    assert relative(shifted, 3 * np.asarray(model(rows(12)) + 0) + 1) < 1e-4


def test_activations_that_were_scaled_have_their_scale(tmp_path):
    config = {"normalize_activations": "expected_average_only_in"}
    saelens(tmp_path, **config)
    with pytest.warns(UserWarning, match="was trained on activations that were scaled to a mean length of sqrt"):
        ae = keras_sae.load_sae(tmp_path)
    assert relative(ae.transform(rows()), relu_of(HIDDEN, rows())[0]) < 1e-6
    (tmp_path / "activation_scaler.json").write_text(json.dumps({"scaling_factor": 0.5}))
    ae = keras_sae.load_sae(tmp_path)
    codes, outputs = relu_of(HIDDEN, 0.5 * rows())
    assert relative(ae.transform(rows()), codes) < 1e-6
    assert relative(ae.reconstruct(rows()), 2 * outputs) < 1e-6


def test_a_threshold_that_was_never_set_is_said(tmp_path):
    config = {"architecture": "batchtopk", "k": 2.0}
    saelens(tmp_path, {**HIDDEN, "topk_threshold": np.array(-1, "float32")}, **config)
    with pytest.warns(UserWarning, match="threshold was never set"):
        ae = keras_sae.load_sae(tmp_path)
    assert relative(ae.transform(rows()), relu_of(HIDDEN, rows())[0]) < 1e-6


def test_thresholds_below_0_let_no_negative_code_pass(tmp_path):
    threshold = np.linspace(-2, 1, UNITS).astype("float32")
    saelens(tmp_path, {**HIDDEN, "threshold": threshold}, architecture="jumprelu")
    codes = keras_sae.load_sae(tmp_path).transform(rows())
    pre = (rows().astype("float64") - HIDDEN["b_dec"]) @ HIDDEN["W_enc"] + HIDDEN["b_enc"]
    assert relative(codes, np.maximum(pre, 0) * (pre > threshold)) < 1e-6


def test_thresholds_of_a_training_are_logarithms(tmp_path):
    threshold = np.linspace(0.1, 1, UNITS).astype("float32")
    saelens(tmp_path, {**HIDDEN, "log_threshold": np.log(threshold)}, architecture="jumprelu")
    assert relative(keras_sae.load_sae(tmp_path).sparsity.theta, threshold) < 1e-6


def test_a_factor_multiplies_rows_and_columns():
    stored = np.arange(6, dtype="float32").reshape(2, 3)
    turned = Matrix(stored, (3, 2), transposed=True)
    assert np.array_equal(np.concatenate(list(turned.blocks())), stored.T)
    scaled = turned.times(np.array([[1.0], [2.0], [3.0]])).times(2.0)
    assert np.array_equal(scaled.rows(1, 3), 2 * stored.T[1:] * [[2], [3]])
    assert np.array_equal(turned.times(np.array([[1.0, 10.0]])).rows(0, 3), stored.T * [1, 10])
    assert np.allclose(turned.lengths(), [3, np.hypot(1, 4), np.hypot(2, 5)])
    assert np.allclose(turned.after(np.array([1.0, 0.0, -1.0])), [-2, -2])


def test_the_name_of_a_repository_tells_a_transcoder(tmp_path):
    """The first edition of Gemma Scope says so nowhere else; a name with more behind it is another thing."""
    for number, (name, kind) in enumerate([
        ("models--google--gemma-scope-2b-pt-transcoders/snapshots/0a1b", keras.Model),
        ("models--google--gemma-scope-2b-pt-res/snapshots/0a1b", keras_sae.SparseAutoencoder),
        ("transcoders-and-more", keras_sae.SparseAutoencoder),
    ]):  # fmt: skip
        directory = tmp_path / str(number) / name / "layer_0" / "width_16k" / "average_l0_3"
        directory.parent.mkdir(parents=True)
        found = keras_sae.load_sae(gemma_scope(directory, tensors()))
        assert isinstance(found, keras_sae.SparseAutoencoder) == (kind is keras_sae.SparseAutoencoder)


def test_a_factor_of_codes_is_1_in_gemma_scope_too(tmp_path):
    keras_sae.load_sae(gemma_scope(tmp_path / "a", tensors(scaling_factor=np.ones(UNITS, "float32"))))
    with raises(InputError, "a scaling_factor from 2 to 2"):
        keras_sae.load_sae(gemma_scope(tmp_path / "b", tensors(scaling_factor=np.full(UNITS, 2, "float32"))))


# What is wrong


def refused(tmp_path, *parts, weights=None, **config):
    saelens(tmp_path, weights, **config)
    with raises(InputError, *parts):
        keras_sae.load_sae(tmp_path)


def test_the_configuration_of_another_library(tmp_path):
    refused(tmp_path, "a configuration of sparsify", num_latents=0, k=3, activation="topk")


def test_a_missing_tensor(tmp_path):
    weights = {name: value for name, value in HIDDEN.items() if name != "W_dec"}
    refused(tmp_path, "Expected the tensor W_dec in", "Received: W_enc, b_dec, b_enc.", weights=weights)


def test_a_missing_threshold_is_not_0(tmp_path):
    refused(tmp_path, "Expected the tensor threshold in", architecture="jumprelu")


def test_tensors_of_other_shapes(tmp_path):
    weights = {**HIDDEN, "W_enc": HIDDEN["W_enc"][:, 1:]}
    refused(tmp_path, "Expected W_enc of shape (6, 9), either way, in", "Received: (6, 8).", weights=weights)
    weights = {**HIDDEN, "threshold": np.ones(UNITS - 1, "float32")}
    refused(tmp_path, "Expected threshold of shape (9,)", "Received: (8,)", weights=weights, architecture="jumprelu")


def test_another_number_of_features_or_units(tmp_path):
    refused(tmp_path, "Expected tensors with d_in=768, as their configuration says,", "Received: 6.", d_in=768)
    refused(tmp_path, "Expected tensors with d_sae=24576", "Received: 9.", d_sae=24576)


def test_what_is_not_understood_is_named(tmp_path):
    refused(tmp_path, "Expected no tensors but W_dec", "Received: W_more, which", weights={**HIDDEN, "W_more": rows()})
    refused(tmp_path, "Received: the architecture 'temporal', which this version", architecture="temporal")
    refused(
        tmp_path, "Received: normalize_activations='covariance_whitening'", normalize_activations="covariance_whitening"
    )
    refused(tmp_path, "Received: activation_fn='tanh-relu'", metadata={}, activation_fn="tanh-relu")
    weights = {**HIDDEN, "scaling_factor": np.full(UNITS, 2, "float32")}
    refused(tmp_path, "Expected no scaling_factor but 1", "Received: a scaling_factor from 2 to 2", weights=weights)


def test_k_has_to_be_there_and_fit(tmp_path):
    refused(tmp_path, "Expected 'k' in", "cfg.json. Received:", architecture="topk")
    refused(tmp_path, "Expected k from 1 to the 9 units in", "Received: 10.", architecture="topk", k=10)


@pytest.mark.parametrize("left", [3, 60, -10])
def test_a_file_that_is_cut_off(left, tmp_path):
    path = saelens(tmp_path) / "sae_weights.safetensors"
    path.write_bytes(path.read_bytes()[:left])
    with raises(InputError, f"Expected weights that can be read. Received: {path}, which is damaged or cut off"):
        keras_sae.load_sae(tmp_path)


def test_an_npz_that_is_cut_off_or_holds_objects(tmp_path):
    path = tmp_path / "params.npz"
    shutil.copy(GOLDEN / "scopes" / "layer_3" / "width_16k" / "average_l0_5" / "params.npz", path)
    path.write_bytes(path.read_bytes()[:500])
    with raises(InputError, "which is damaged or cut off"):
        keras_sae.load_sae(tmp_path)
    np.savez(path, w_enc=np.array([print], object))
    with raises(InputError, "which is damaged or cut off", "allow_pickle=False"):
        keras_sae.load_sae(tmp_path)


@pytest.mark.parametrize(("text", "said"), [("{", "Expected JSON in"), ("[]", "Expected a JSON object in")])
def test_a_configuration_that_is_none(text, said, tmp_path):
    (saelens(tmp_path) / "cfg.json").write_text(text)
    with raises(InputError, said):
        keras_sae.load_sae(tmp_path)


def test_a_pickle_needs_pytorch_and_says_why(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with raises(
        InputError,
        "Expected torch to read ae.pt with, which is a pickle: its safe loader takes tensors alone, and runs no code.",
        "pip install 'keras-sae[interchange-torch]'",
    ):
        keras_sae.load_sae(GOLDEN / "dictionary_learning_AutoEncoder")


def test_pickles_are_read_by_the_safe_loader_alone(tmp_path, monkeypatch):
    """By a stand-in of torch, which says how it was called, and refuses."""

    class Torch:
        @staticmethod
        def load(path, **options):
            assert options == {"map_location": "cpu", "weights_only": True}
            raise RuntimeError("Weights only load failed")

    monkeypatch.setitem(sys.modules, "torch", Torch)
    with raises(InputError, "which torch's safe loader (weights_only=True) refuses: it is damaged, or holds code"):
        keras_sae.load_sae(GOLDEN / "openai_ReLU")


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    saelens(tmp_path)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with raises(InputError, "Expected safetensors to read such weights with", "pip install 'keras-sae["):
        keras_sae.load_sae(tmp_path)


# Which files


def test_several_are_listed_and_one_is_asked_for(tmp_path):
    for name in ("blocks.1", "blocks.0"):
        saelens(tmp_path / name)
    line = f"Received: {tmp_path}, with 2: blocks.0, blocks.1. Name one: {tmp_path}/blocks.0"
    with raises(InputError, "Expected one sparse autoencoder.", line):
        keras_sae.load_sae(tmp_path)
    keras_sae.load_sae(tmp_path / "blocks.1")


def test_the_only_one_below_is_taken(tmp_path):
    saelens(tmp_path / "a" / "b")
    assert find(tmp_path, "auto").directory == tmp_path / "a" / "b"


def test_a_file_names_its_directory(tmp_path):
    path = saelens(tmp_path) / "sae_weights.safetensors"
    assert find(path, "auto").config == tmp_path / "cfg.json"
    checkpoint = GOLDEN / "scopes" / "Llama3_1-8B-Base-L8R-8x" / "checkpoints" / "final.safetensors"
    assert find(checkpoint, "auto").directory == checkpoint.parents[1]


def test_a_directory_for_keras_as_well_is_still_of_saelens(tmp_path):
    (saelens(tmp_path) / "config.json").write_text("{}")
    assert find(tmp_path, "auto").format == "saelens"


def test_what_is_no_autoencoder(tmp_path):
    with raises(InputError, "Expected the directory or file of a sparse autoencoder.", "which does not exist."):
        keras_sae.load_sae(tmp_path / "nowhere")
    with raises(InputError, "Expected a sparse autoencoder: sae_weights.safetensors with cfg.json,", "with nothing."):
        keras_sae.load_sae(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    with raises(InputError, f"Received: {tmp_path}, with notes.txt."):
        keras_sae.load_sae(tmp_path)
    with raises(InputError, "in the format sparsify: sae.safetensors with cfg.json. Received:"):
        keras_sae.load_sae(saelens(tmp_path), format="sparsify")
    with raises(InputError, "Expected `format` as auto or one of saelens, sparsify,", "Received: 'keras'."):
        keras_sae.load_sae(tmp_path, format="keras")


MEMORY = """
import pathlib, sys, threading, time
import numpy as np
import keras_sae

def anonymous():
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

def watch():
    while watching:
        peaks.append(anonymous())
        time.sleep(0.001)

keras_sae.load_sae(sys.argv[1]).transform(np.ones((2, 6)))  # what the backend needs of its own
before, peaks, watching = anonymous(), [], True
thread = threading.Thread(target=watch)
thread.start()
model = keras_sae.load_sae(sys.argv[2])
watching = False
thread.join()
print((max(peaks) - before) / (4 * model.count_params()))
"""


def gemma_scope(directory, weights):
    """Write a Gemma Scope directory, and return its path."""
    directory.mkdir()
    threshold = np.zeros(len(weights["b_enc"]), "float32")
    np.savez(directory / "params.npz", threshold=threshold, **weights)
    return directory


@pytest.mark.slow
@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="memory is read as Linux tells it")
@pytest.mark.parametrize(("write", "backend"), [(saelens, "tensorflow"), (gemma_scope, "tensorflow"), (saelens, "jax")])
def test_memory_stays_within_the_weights_and_a_tenth(write, backend, tmp_path):
    places = [str(write(tmp_path / "small", tensors())), str(write(tmp_path / "large", tensors(2048, 12288)))]  # 200 MB
    root = pathlib.Path(keras_sae.__file__).parents[1]
    command, environment = [sys.executable, "-c", MEMORY, *places], os.environ | {"KERAS_BACKEND": backend}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    assert 0.9 < float(done.stdout.split()[-1]) < 1.1


def test_matrices_of_an_npz_stay_on_the_disk_unless_they_are_packed(tmp_path):
    weights = tensors() | {"w_dec": np.asfortranarray(HIDDEN["W_dec"])}
    np.savez(tmp_path / "plain.npz", **weights)
    np.savez_compressed(tmp_path / "packed.npz", **weights)
    for name, kind in (("plain", np.memmap), ("packed", np.ndarray)):
        found = mapped_arrays(tmp_path / f"{name}.npz")
        assert found.keys() == weights.keys()
        assert {type(found[key]) for key in ("W_enc", "w_dec")} == {kind}
        for key, value in weights.items():
            np.testing.assert_array_equal(found[key], value)
