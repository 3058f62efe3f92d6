"""What other libraries wrote and computed (golden/write.py) we read the same, and they read the same of us.

The slow test makes an environment with these libraries, writes everything anew there, and compares both ways.
"""

import os
import subprocess
import sys
import venv
import warnings

import keras
import numpy as np
import pytest

import keras_sae
from keras_sae.interchange.check import encoder_of
from keras_sae.sparsity import L1, BatchTopK, Gated, JumpReLU, MatryoshkaBatchTopK, TopK
from tests.keras_sae.conftest import randomise, relative
from tests.keras_sae.interchange.files import GOLDEN, rows

WRITE = GOLDEN / "write.py"
DIRECTORIES = sorted(path.parent for path in GOLDEN.rglob("expected.npz"))
HALF = ["saelens_half"]
REQUIRED = ["torch==2.13.0+cpu", "sae-lens", "eai-sparsify", "nnsight"]


def name_of(directory):
    return str(directory.relative_to(GOLDEN))


def is_pickle(directory):
    return any(path.suffix == ".pt" for path in directory.iterdir())


def compare(directory):
    """Load a directory, and compare codes and outputs with those expected. Return the model."""
    with warnings.catch_warnings():
        if directory.name in HALF:
            warnings.simplefilter("ignore")
        model = keras_sae.load_sae(directory)
    with np.load(directory / "expected.npz") as expected:
        codes, outputs = encoder_of(model)(expected["x"]), model(expected["x"])
        assert 2 < (expected["codes"] != 0).sum(axis=1).mean() < expected["codes"].shape[1] - 2
        assert relative(codes, expected["codes"]) < 1e-6
        assert relative(outputs, expected["outputs"]) < 1e-6
    return model


@pytest.mark.parametrize("directory", [path for path in DIRECTORIES if not is_pickle(path)], ids=name_of)
def test_codes_and_outputs_are_those_of_the_library_that_wrote_the_file(directory):
    compare(directory)


@pytest.mark.parametrize("directory", [path for path in DIRECTORIES if is_pickle(path)], ids=name_of)
def test_pickles_of_tensors_are_read_if_pytorch_is_installed(directory):
    pytest.importorskip("torch")
    compare(directory)


def test_there_is_a_file_of_each_format():
    found = {name_of(directory).split("_")[0].split("/")[0] for directory in DIRECTORIES}
    assert found == {"saelens", "sparsify", "scopes", "dictionary", "openai"}
    assert len(DIRECTORIES) == 31


@pytest.mark.parametrize(
    ("name", "kind", "check"),
    [
        ("saelens_standard", L1, lambda ae: ae.pre_bias and ae.activation is keras.activations.relu),
        ("saelens_topk", TopK, lambda ae: ae.sparsity.k == 5),
        ("saelens_old", TopK, lambda ae: ae.origin["metadata"]["hook_name"] == "blocks.8.hook_resid_pre"),
        ("saelens_jumprelu", JumpReLU, lambda ae: np.ptp(ae.sparsity.theta) > 0.5),
        ("saelens_gated", Gated, lambda ae: not ae.encoder.get_layer("hidden").use_bias),
        ("saelens_batchtopk", JumpReLU, lambda ae: np.all(np.asarray(ae.sparsity.theta) == 1.5)),
        (
            "saelens_batchtopk_training",
            BatchTopK,
            lambda ae: float(ae.sparsity.threshold) == 1.5 and ae.sparsity.k == 5,
        ),
        ("scopes/layer_3/width_16k/average_l0_5", JumpReLU, lambda ae: ae.origin["claims"] == {"l0": 5.0}),
        ("scopes/Llama3_1-8B-Base-L8R-8x", JumpReLU, lambda ae: ae.input_scale),
    ],
)
def test_the_model_is_an_autoencoder_with_the_method_of_the_file(name, kind, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of NumPy, about tensors of TensorFlow
        ae = keras_sae.load_sae(GOLDEN / name)
        assert type(ae) is keras_sae.SparseAutoencoder
        assert type(ae.sparsity) is kind
        assert ae.started
        assert not ae.unit_norm
        assert check(ae)


OURS = {
    "relu": {"sparsity": L1(0.1)},
    "regularizer": {"sparsity": keras.regularizers.L1(0.1), "activation": "relu", "output_activation": "linear"},
    "top_k": {"sparsity": TopK(3)},
    "batch_top_k": {"sparsity": BatchTopK(3)},
    "matryoshka": {"sparsity": MatryoshkaBatchTopK(3)},
    "jump_relu": {"sparsity": JumpReLU(None, weight=1.0)},
    "gated": {"sparsity": Gated()},
    "scaled": {"sparsity": TopK(3), "input_scale": True},
    "scaled_gated": {"sparsity": Gated(), "input_scale": True},
    "not_centred": {"sparsity": TopK(3), "pre_bias": False, "unit_norm": False},
}


def ours(name, **more):
    """One of our autoencoders with random weights, thresholds too."""
    ae = keras_sae.SparseAutoencoder(9, **OURS[name], **more)
    ae.build((None, 6))
    randomise(ae)
    if hasattr(ae.sparsity, "threshold") and not isinstance(ae.sparsity, JumpReLU):
        ae.sparsity.threshold.assign(0.7)
    if isinstance(ae.sparsity, JumpReLU):
        ae.sparsity.theta.assign(np.linspace(0, 1, 9))
    if ae.input_scale:
        ae.centring.scale.assign(0.4)
    return ae


@pytest.mark.slow
def test_other_libraries_write_and_read_the_same_today(tmp_path):
    """In an environment of its own, with PyTorch: no dependency of ours."""
    venv.create(tmp_path / "environment", with_pip=True)
    python = tmp_path / "environment" / "bin" / "python"

    def call(*command, **variables):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        subprocess.run([python, *map(str, command)], check=True, env=environment | variables)

    call("-m", "pip", "install", "--quiet", *REQUIRED)
    call("-m", "pip", "install", "--quiet", "--no-deps", "dictionary-learning")
    call(WRITE, tmp_path / "golden")
    written = sorted(path.parent for path in (tmp_path / "golden").rglob("expected.npz"))
    assert [path.relative_to(tmp_path / "golden") for path in written] == [p.relative_to(GOLDEN) for p in DIRECTORIES]
    for directory in written:
        if not is_pickle(directory):
            compare(directory)
    ours_too = "\n".join(path for path in sys.path if "site-packages" in path)  # behind those of the environment
    (next((tmp_path / "environment" / "lib").glob("python*/site-packages")) / "zz_ours.pth").write_text(ours_too)
    call("-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", f"{__file__}", "-k", "pickles", "-W", "default")
    x = rows()
    for name in OURS:
        for library in ("saelens", "sparsify"):
            ae, directory = ours(name), tmp_path / "ours" / library / name
            if library == "sparsify" and not isinstance(ae.sparsity, TopK):
                continue
            keras_sae.save_sae(ae, directory, format=library)
            np.save(directory / "x.npy", x)
            call(WRITE, "--read", directory, library)
            with np.load(directory / "theirs.npz") as theirs:
                assert relative(ae.encode(x), theirs["codes"]) < 1e-6, (name, library)
                assert relative(ae(x), theirs["outputs"]) < 1e-6, (name, library)
