"""Sparse autoencoders of other libraries as files to deploy: thresholds, scale and all."""

import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sae
from export import __main__ as command, card, check, examples, runtimes, signatures, sources
from keras_sae import runs
from keras_sae.errors import InputError
from keras_sae.sparsity import L1, Gated, JumpReLU, TopK
from tests.export.conftest import export_here, litert, saved_model
from tests.keras_sae.conftest import dictionary, raises
from tests.keras_sae.interchange.files import GOLDEN, saelens

CALLS = {"saved_model/1": saved_model, "encoder.tflite": litert}
of_both = pytest.mark.parametrize("file", CALLS)


@of_both
def test_the_files_compute_what_the_other_library_does(loaded, file):
    _, export, x, codes, outputs = loaded
    assert 20 < (codes != 0).sum(axis=1).mean() < 100
    call = CALLS[file](export / file)
    np.testing.assert_allclose(call("encode", inputs=x)["features"], codes, atol=1e-5)
    found = call("reconstruct", inputs=x)
    np.testing.assert_allclose(found["features"], codes, atol=1e-5)
    np.testing.assert_allclose(found["outputs"], outputs, atol=1e-4)
    np.testing.assert_allclose(found["error"], ((outputs - x) ** 2).sum(axis=1) / 2, rtol=1e-5)
    np.testing.assert_allclose(call("decode", features=codes.astype("float32"))["outputs"], outputs, atol=1e-4)


def test_the_onnx_file_gives_the_codes(loaded):
    _, export, x, codes, _ = loaded
    found = runtimes.open_model(export, "onnx")(x)["features"]
    np.testing.assert_allclose(found, codes, atol=1e-5)


@of_both
def test_top_gives_the_strongest_units_in_their_order(loaded, file):
    _, export, x, codes, _ = loaded
    found = CALLS[file](export / file)("top", inputs=x)
    assert (found["indices"].shape, found["indices"].dtype) == ((40, 100), "int32")
    np.testing.assert_allclose(found["values"], -np.sort(-codes, axis=1)[:, :100], atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(codes, found["indices"], axis=1), found["values"], atol=1e-5)
    assert all(len(set(row)) == 100 for row in found["indices"])


def test_top_is_by_magnitude_and_of_all_units_if_they_are_few():
    top = signatures._top(lambda inputs: {"features": inputs}, 3)
    found = top(tf.constant([[0.5, -2.0, 0.0], [0.0, 0.0, 1.0]]))
    assert found["indices"].numpy().tolist() == [[1, 0, 2], [2, 0, 1]]
    assert found["values"].numpy().tolist() == [[-2.0, 0.5, 0.0], [1.0, 0.0, 0.0]]


def test_the_weights_are_in_a_saved_model_once(loaded):
    _, export, *_ = loaded
    held = sum(file.stat().st_size for file in (export / "saved_model" / "1" / "variables").iterdir())
    assert held < 1.2 * 4 * (2 * 6 * 150 + 2 * 150 + 6) + 2000


def test_the_card_says_where_the_weights_are_from(loaded):
    sae, export, *_ = loaded
    text = (export / "README.md").read_text()
    assert f"Made from the run `sae`: weights of `{sae}`, format `saelens`, sha256 `" in text
    assert "outputs on held-out inputs, relative to" in text
    assert "| `top` | `inputs` | `indices`, `values` of" in text


def test_what_is_not_compared_stands_on_the_card():
    files = {"encoder.tflite": {"run": "a", "bytes": 5, "difference": 0, "root_mean_square": 0, "accuracy": None,
                                "milliseconds": 1}}  # fmt: skip
    said = "on held-out inputs (2 left out, as rounding decides which of their units are active), relative"
    assert said in card.card("a", {}, files, None, left_out=2)
    assert "left out" not in card.card("a", {}, files, None)


# Those that are no SparseAutoencoder


def pickle(path):
    """Whether what lies beside a file is a pickle."""
    return any(path.parent.glob("*.pt"))


def of_golden(name):
    """The signatures of a golden file, its model and the rows, codes and outputs of the library that wrote it."""
    with warnings.catch_warnings(action="ignore"):
        model = keras_sae.load_sae(GOLDEN / name)
    with np.load(GOLDEN / name / "expected.npz") as content:
        return model, dict(content)


@pytest.mark.parametrize(
    ("name", "more"),
    [("saelens_jumprelu_skip_transcoder", set()), ("saelens_layer_norm", set()), ("saelens_transcoder", {"decode"})],
)
def test_a_transcoder_has_codes_and_outputs_and_no_probabilities(name, more, tmp_path):
    model, expected = of_golden(name)
    keras_sae.save(model, tmp_path / "run")
    found = signatures.of_run(tmp_path / "run")
    assert set(found) == {"serving_default", "encode", "top", "reconstruct"} | more
    outputs = found["reconstruct"].function(tf.constant(expected["x"], tf.float32))
    np.testing.assert_allclose(outputs["features"], expected["codes"], atol=1e-5)
    np.testing.assert_allclose(outputs["outputs"], expected["outputs"], atol=1e-5)
    if "decode" in found:
        decoded = found["decode"].function(tf.constant(expected["codes"], tf.float32))["outputs"]
        np.testing.assert_allclose(decoded, expected["outputs"], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "directory",
    [path.parent for path in sorted(GOLDEN.rglob("expected.npz")) if not pickle(path)],
    ids=lambda path: path.name,
)
def test_every_autoencoder_of_other_libraries_is_exported(directory, tmp_path):
    model, expected = of_golden(directory.relative_to(GOLDEN))
    export_here(model, tmp_path / "e", formats=["saved_model", "litert", "onnx"], examples=expected["x"])
    for file, call in CALLS.items():
        found = call(tmp_path / "e" / file)("reconstruct", inputs=expected["x"].astype("float32"))
        for name, key in (("features", "codes"), ("outputs", "outputs")):
            np.testing.assert_allclose(found[name], expected[key], rtol=1e-4, atol=1e-4)
    found = runtimes.open_model(tmp_path / "e", "onnx")(expected["x"])["features"]
    np.testing.assert_allclose(found, expected["codes"], rtol=1e-4, atol=1e-4)


# The rows that files are checked on


def found_of(encoder, **more):
    """What `of_run` would give of an encoder, as far as it is asked here."""
    return {"encode": signatures.Signature(None, None, (encoder,), None)} | more


@pytest.mark.parametrize(
    ("method", "rows", "kept"),
    [
        (TopK(1), [[3, 1, 0], [3, 3 - 1e-7, 0], [0, 2, 1]], [True, False, True]),
        (JumpReLU(None, weight=1.0, threshold=1.0), [[3, 2, 1], [3, 2, 0.9], [0, 1 + 1e-7, 0]], [False, True, False]),
        (Gated(0.0), [[3, 1e-9, 1], [3, 2, 1]], [True, True]),  # a magnitude that is as small
        (L1(0.1), [[3, 1e-9, 0]], [True]),
    ],
    ids=["TopK", "JumpReLU", "Gated", "L1"],
)
def test_rows_are_steady_unless_rounding_decides_on_a_code(method, rows, kept):
    ae = dictionary(method, units=3, features=3, dtype="float32", pre_bias=False)
    ae.kernel.assign(np.eye(3))
    if ae.encoder.get_layer("hidden").use_bias:
        ae.encoder.get_layer("hidden").bias.assign(np.zeros(3))
    for weight in ae.sparsity.trainable_variables:
        weight.assign(np.full(3, 1.0 if weight.name == "theta" else 0.0))
    assert examples.steady(found_of(ae.encoder), np.array(rows, "float32")).tolist() == kept


def test_rows_of_which_rounding_decides_on_a_code_are_left_out(tmp_path):
    ae = dictionary(TopK(1), units=2, features=2, dtype="float32", pre_bias=False)
    ae.kernel.assign(np.eye(2))
    ae.encoder.get_layer("hidden").bias.assign(np.zeros(2))
    encode = signatures.Signature(None, tf.TensorSpec((None, 2)), (ae.encoder,), None)
    rows = np.array([[1, 1 - 1e-7], [2, 1]], "float32")
    runs.save_examples(tmp_path / "examples.npz", rows, [3, 4])
    x, labels, left_out = examples.to_compare({"encode": encode}, tmp_path, tmp_path)
    assert (x.tolist(), labels.tolist(), left_out) == ([[2, 1]], [4], 1)
    runs.save_examples(tmp_path / "examples.npz", rows[:1])
    with raises(InputError, "Expected examples of which rounding decides no code. Received: 1 rows, and in each a"):
        examples.to_compare({"encode": encode}, tmp_path, tmp_path)


def test_a_sigmoid_needs_no_such_look(monkeypatch):
    monkeypatch.setattr(keras.models, "clone_model", None)
    ae = keras_sae.SparseAutoencoder(2)
    ae.build((None, 3))
    assert examples.steady(found_of(ae.encoder), np.zeros((4, 3), "float32")).all()


def test_rows_at_random_are_as_large_as_it_takes_to_make_units_active():
    ae = dictionary(JumpReLU(None, weight=1.0, threshold=50.0), units=3, features=3, dtype="float32", pre_bias=False)
    ae.kernel.assign(np.eye(3))
    ae.sparsity.theta.assign(np.full(3, 50.0))
    rows = examples.made_up_rows(found_of(ae.encoder, reconstruct=signatures.Signature(None, None, (ae,), None)))
    assert np.any(ae.encoder(rows), axis=1).mean() > 0.5
    assert np.abs(rows).max() < 300


def test_a_difference_is_relative_to_the_largest_of_its_row():
    wanted = np.array([[0.1, 0.0], [200.0, 1.0]])
    assert np.allclose(check.relative(wanted + 2, wanted), [[2, 2], [0.01, 0.01]])
    assert np.allclose(check.relative(np.array([3.0, 200.0]), np.array([0.5, 100.0])), [2.5, 1])


def test_two_units_that_are_as_strong_may_change_places():
    expected = {"encode/features": np.array([[2.0, -2.0, 0.0]])}
    expected |= {"top/indices": np.array([[0, 1]]), "top/values": np.array([[2.0, -2.0]])}

    def difference(indices, values):
        given = {"top": {"indices": np.array([indices]), "values": np.array([values])}}
        return check.compare(given, expected, None)["difference"]

    assert difference([0, 1], [2.0, -2.0]) == 0
    assert difference([1, 0], [-2.0, 2.0]) == 0
    assert difference([0, 2], [2.0, -2.0]) == 1  # of another unit
    assert difference([0, 2], [2.0, 0.0]) == 1  # not the strongest


# What can be named


def test_every_kind_of_place_is_opened(loaded, tmp_path, monkeypatch):
    sae, *_, codes, _ = loaded
    ae = sources.opened(sae)
    assert np.abs(ae.transform(loaded[2]) - codes).max() < 1e-5
    assert sources.opened(str(sae / "sae_weights.safetensors")).origin["sha256"] == ae.origin["sha256"]
    assert sources.opened(ae) is ae
    ae.save(tmp_path / "mine.keras")
    assert np.array_equal(sources.opened(tmp_path / "mine.keras").kernel, ae.kernel)
    keras_sae.save(ae, tmp_path / "run")
    assert sources.opened(str(tmp_path / "run")) == tmp_path / "run"
    assert sources.opened(tmp_path / "nowhere") == tmp_path / "nowhere"
    monkeypatch.setattr("keras_sae.interchange.load_sae", lambda address: ("loaded", address))
    assert sources.opened("hf://user/repository@main/layer 3") == ("loaded", "hf://user/repository@main/layer 3")


def test_a_place_of_several_or_none_is_refused(tmp_path):
    (tmp_path / "none").mkdir()
    with raises(InputError, "Expected the directory of a run, a .keras file, or a sparse", "which has no record of a"):
        sources.opened(tmp_path / "none")
    for name in "ab":
        saelens(tmp_path / name)
    with raises(InputError, "Expected one sparse autoencoder. Received:", "with 2: a, b. Name one:"):
        sources.opened(tmp_path)


@pytest.fixture
def main(monkeypatch):
    """main(*arguments) as `python -m export ARGUMENTS` calls it, without the conversion: returns what it is given."""
    given = []

    def main(*arguments):
        monkeypatch.setattr(sys, "argv", ["export", *map(str, arguments)])
        command.main()
        return given[-1]

    def export_model(model, out, **options):
        given.append((model, out, options))
        return {"saved_model/1": {"difference": 0.0}}

    monkeypatch.setattr(command, "export_model", export_model)
    return main


def test_the_command_takes_a_directory_of_another_library(main, tmp_path, capsys):
    model, out, options = main(GOLDEN / "saelens_half", "--out", tmp_path / "out", "--to", "onnx")
    assert (model.origin["dtype"], out) == ("bfloat16", tmp_path / "out")
    assert options == {"formats": ["onnx"], "quantize": ["none"]}
    printed = capsys.readouterr().out
    assert "saelens_half: Its weights are bfloat16, now float32: exact, but no more precise than before.\n" in printed
    assert "note        no rows of data come with it, so that rows at random check the files\n" in printed


def test_a_model_that_is_no_run_needs_a_place(main, refused):
    line = refused(GOLDEN / "saelens_topk")
    assert "Expected --out DIR, where to write to. Received: none, and a model that is no run." in line
