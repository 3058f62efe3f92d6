"""What we write for other libraries says the same as the model; what they have no name for is refused."""

import json

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file

import keras_sae
from keras_sae.errors import InputError
from keras_sae.sparsity import L1, TopK, WinnerTakeAll
from tests.keras_sae.conftest import autoencoder, raises, relative, two_layers
from tests.keras_sae.interchange.files import rows
from tests.keras_sae.interchange.test_golden import OURS, ours


@pytest.mark.parametrize("name", OURS)
def test_what_is_written_for_saelens_is_read_as_the_same(name, tmp_path):
    ae = ours(name)
    keras_sae.save_sae(ae, tmp_path)
    again = keras_sae.load_sae(tmp_path)
    assert relative(again.transform(rows()), ae.transform(rows())) < 1e-6
    assert relative(again.reconstruct(rows()), ae.reconstruct(rows())) < 1e-6


@pytest.mark.parametrize("name", ["top_k", "scaled", "not_centred"])
def test_what_is_written_for_sparsify_is_read_as_the_same(name, tmp_path):
    ae = ours(name)
    keras_sae.save_sae(ae, tmp_path, format="sparsify")
    again = keras_sae.load_sae(tmp_path)
    assert again.origin["format"] == "sparsify"
    assert relative(again.transform(rows()), ae.transform(rows())) < 1e-6
    assert relative(again.reconstruct(rows()), ae.reconstruct(rows())) < 1e-6


@pytest.mark.parametrize(("first", "second"), [("saelens", "sparsify"), ("sparsify", "saelens")])
def test_a_directory_holds_what_was_saved_last(first, second, tmp_path):
    ae, other = ours("top_k"), ours("scaled")
    keras_sae.save_sae(other, tmp_path, format=first)
    keras_sae.save_sae(ae, tmp_path, format=second)
    again = keras_sae.load_sae(tmp_path)
    assert again.origin["format"] == second
    assert relative(again.transform(rows()), ae.transform(rows())) < 1e-6


def test_the_files_of_saelens(tmp_path):
    ae = ours("scaled")
    keras_sae.save_sae(ae, tmp_path / "new" / "directory")
    config = json.loads((tmp_path / "new" / "directory" / "cfg.json").read_text())
    assert config == {
        "architecture": "topk", "d_in": 6, "d_sae": 9, "dtype": "float32", "device": "cpu", "k": 3,
        "apply_b_dec_to_input": True, "normalize_activations": "none", "reshape_activations": "none",
        "rescale_acts_by_decoder_norm": False, "metadata": {"sae_lens_version": "6.0.0"},
    }  # fmt: skip
    weights = load_file(tmp_path / "new" / "directory" / "sae_weights.safetensors")
    shapes = {name: value.shape for name, value in weights.items()}
    assert shapes == {"W_enc": (6, 9), "W_dec": (9, 6), "b_enc": (9,), "b_dec": (6,)}
    assert {value.dtype.name for value in weights.values()} == {"float32"}
    assert relative(weights["W_enc"], 0.4 * np.array(ae.kernel)) < 1e-6
    assert relative(np.linalg.norm(weights["W_dec"], axis=1), np.full(9, 1 / 0.4)) < 1e-6


def test_what_is_known_of_its_data_stays(tmp_path):
    ae = ours("top_k")
    ae.origin = {"metadata": {"model_name": "gpt2", "hook_name": "blocks.3", "sae_lens_version": "5.0.0", "x": 1}}
    keras_sae.save_sae(ae, tmp_path)
    metadata = json.loads((tmp_path / "cfg.json").read_text())["metadata"]
    assert metadata == {"model_name": "gpt2", "hook_name": "blocks.3", "sae_lens_version": "6.0.0"}


def test_units_that_are_active_afterwards_are_as_many(tmp_path):
    ae = keras_sae.SparseAutoencoder(9, TopK(3, k_inference=5))
    ae.build((None, 6))
    keras_sae.save_sae(ae, tmp_path)
    assert json.loads((tmp_path / "cfg.json").read_text())["k"] == 5


def test_half_precision_is_written_as_float32(tmp_path):
    ae = ours("top_k", dtype="bfloat16")
    keras_sae.save_sae(ae, tmp_path)
    written = load_file(tmp_path / "sae_weights.safetensors")["W_enc"]
    assert np.array_equal(written, np.array(ae.kernel).astype("float32"))


def built(**options):
    ae = keras_sae.SparseAutoencoder(4, **options)
    ae.build((None, 6))
    return ae


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (autoencoder, "outputs with the activation sigmoid: it has linear ones."),
        (
            lambda: autoencoder(output_activation="linear"),
            "units with the activation sigmoid: it has ReLU and its kin, and no KL.",
        ),
        (two_layers, "a StackedAutoencoder. Give it a SparseAutoencoder, those of a stack one by one."),
        (
            lambda: built(sparsity=TopK(2), tied=True),
            "tied weights: it has two kernels, which would go different ways.",
        ),
        (lambda: keras_sae.SparseAutoencoder(4, TopK(2)), "one that has no weights yet: fit it, or call build"),
        (
            lambda: built(sparsity=TopK(2, relu=False)),
            "ReLU, TopK, BatchTopK, JumpReLU and Gated. Received: TopK, whose",
        ),
        (lambda: built(sparsity=WinnerTakeAll(0.5)), "Received: WinnerTakeAll."),
        (lambda: built(sparsity=None, activation="linear", output_activation="linear"), "Received: no method."),
    ],
)
def test_what_has_no_name_is_refused_with_the_reason(make, reason, tmp_path):
    with raises(InputError, "Expected an autoencoder that saelens has a name for", reason):
        keras_sae.save_sae(make(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_sparsify_has_top_k_alone(tmp_path):
    with raises(InputError, "Expected an autoencoder that sparsify has a name for: TopK. Received: L1."):
        keras_sae.save_sae(built(sparsity=L1(0.1)), tmp_path, format="sparsify")
    with raises(InputError, "Expected `format` as one of saelens, sparsify. Received: 'onnx'."):
        keras_sae.save_sae(built(sparsity=L1(0.1)), tmp_path, format="onnx")


def test_units_of_a_plain_keras_penalty_are_relu(tmp_path):
    keras_sae.save_sae(built(sparsity=None, activation="relu", output_activation="linear"), tmp_path)
    assert json.loads((tmp_path / "cfg.json").read_text())["architecture"] == "standard"
    assert keras_sae.load_sae(tmp_path).activation is keras.activations.relu
