"""python -m benchmarks: the contenders compute the same, are timed in processes of their own, and end in a table."""

import importlib
import json
import sys

import numpy as np
import pytest

import keras_sae
from benchmarks import __main__ as main, contenders, sections, side_by_side
from benchmarks.contenders import encoders, keras_sae_form, numpy_form

X = np.random.default_rng(0).random((40, 12)).astype("float32")


def test_the_objective_is_that_of_numpy():
    """That of the form in JAX, which does not like processes that fork, is tested in tests/backends/checks.py."""
    assert keras_sae_form.objective(X, 5)() == pytest.approx(numpy_form.objective(X, 5)(), rel=1e-6)


def test_pytorch_computes_the_same():
    pytest.importorskip("torch")
    form = importlib.import_module("benchmarks.contenders.pytorch_form")
    assert form.objective(X, 5)() == pytest.approx(numpy_form.objective(X, 5)(), rel=1e-6)
    assert form.epoch(X, 5, 16)() > 0


def test_epochs_and_products_run():
    seconds = keras_sae_form.epoch(X, 5, 16)()
    assert isinstance(seconds, contenders.Seconds)
    assert seconds > 0
    keras_sae_form.product(40, 12, 5)()
    with pytest.raises(ValueError, match="minibatches are multiplied in float32 under TensorFlow"):
        keras_sae_form.epoch(X, 5, 16, "bfloat16")


def test_gradients_are_compared_with_numpy():
    assert 0 < keras_sae_form.exactness(X, 5)() < 1e-5


def test_training_lowers_the_objective():
    assert keras_sae_form.training(X, 5, 3)() < keras_sae_form.objective(X, 5)()


def test_others_train_until_they_reach_what_lbfgs_does(monkeypatch):
    target = keras_sae_form.training(X, 5, 3)()
    monkeypatch.setattr(keras_sae_form, "training", lambda x, units, iterations: lambda: target)
    seconds = keras_sae_form.reach(X, 5, 3, epochs=2, then=6)()
    assert seconds > 0
    assert seconds.value <= target
    with pytest.raises(ValueError, match=rf"J = [\d.]+ at the end, not {target:.6g}"):
        keras_sae_form.reach(X, 5, 3, epochs=2, then=0)()


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_a_training_is_timed_with_and_without_its_logs(optimizer):
    with_logs, without = (keras_sae_form.watched(X[:, :9].copy(), 5, optimizer, 2, board)() for board in (True, False))
    assert 0 < with_logs.value < 1
    assert without.value == 0
    assert min(with_logs, without) > 0


def test_an_objective_is_of_so_many_rows_and_layers():
    assert keras_sae_form.objective(X, 5, rows=10)() == pytest.approx(numpy_form.objective(X[:10], 5)(), rel=1e-6)
    stack = keras_sae.StackedAutoencoder([keras_sae_form.autoencoder(12, 5), keras_sae_form.autoencoder(5, 5)])
    stack.build((None, 12))
    assert keras_sae_form.objective(X, 5, layers=2)() == pytest.approx(keras_sae.objective(stack, X).value, rel=1e-6)


def test_the_growth_is_an_exponent():
    case = sections.Case("", {}, sizes={"10 rows": 10, "20 rows": 20, "40 rows": 40})
    found = {f"{rows} rows": {"seconds": 3 * rows**1.5} for rows in (10, 20, 40)}
    assert case.exponent(found) == pytest.approx(1.5)
    assert case.exponent({**found, "10 rows": {"error": "no memory"}}) == pytest.approx(1.5)
    assert case.exponent({name: {"error": "no memory"} for name in found}) is None


@pytest.mark.parametrize("number", [1, 16])
@pytest.mark.parametrize("encode", [encoders.by_transform, encoders.in_keras])
def test_encoding_is_timed_and_compared(encode, number, monkeypatch):
    monkeypatch.setattr(encoders, "ROWS", 20)
    seconds = encode(X, 5, number)()
    assert seconds > 0
    assert 0 < seconds.value < 1e-6


@pytest.mark.slow
def test_exported_files_encode_as_keras(monkeypatch, tmp_path):
    monkeypatch.setattr(encoders, "ROWS", 20)
    for kind, path in sections.export(12, 5, tmp_path).items():
        assert 0 < encoders.exported(X, 5, 3, kind, path)().value < 1e-6


def test_minibatches_are_all_rows_once():
    rows = list(contenders.batches(40, 16))
    assert [len(part) for part in rows] == [16, 16, 8]
    assert sorted(np.concatenate(rows)) == list(range(40))


def test_each_job_runs_in_a_process_of_its_own_and_says_what_went_wrong(tmp_path):
    np.save(tmp_path / "x.npy", X)
    here, x = "tests.benchmarks.jobs", str(tmp_path / "x.npy")
    jobs = {
        "sum": (here, "total", {"x": x}),
        "told": (here, "total", {"x": x, "seconds": 7.0}),
        "failing": (here, "failing", {}),
        "ending": (here, "ending", {}),
        "missing": ("benchmarks.contenders.no_form", "objective", {}),
    }
    found = side_by_side.measure(jobs, 3)
    assert found["sum"]["value"] == float(X.sum())
    assert 0 < found["sum"]["spread"][0] <= found["sum"]["seconds"] <= found["sum"]["spread"][1] < 1
    assert found["sum"]["peak_bytes"] > 1e7
    assert found["told"]["seconds"] == 7
    assert found["told"]["value"] == 2.5
    assert found["failing"] == {"error": "ValueError: no"}
    assert found["ending"] == {"error": "the process ended with exit code 3"}
    assert found["missing"] == {"error": "ModuleNotFoundError: No module named 'benchmarks.contenders.no_form'"}


def test_a_table_and_a_file_hold_each_result(monkeypatch, capsys, tmp_path):
    asked = []

    def measure(jobs, repeats):
        asked.append((list(jobs), repeats))
        result = {"seconds": 0.5, "spread": (0.25, 0.75), "value": 3.25, "peak_bytes": 5e8}
        missing = {"error": "ModuleNotFoundError: torch"}
        return {name: missing if "PyTorch" in name or name == "litert" else result for name in jobs}

    monkeypatch.setattr(main, "measure", measure)
    monkeypatch.setattr(sections, "export", lambda *args: {"litert": "encoder.tflite"})
    path = tmp_path / "all.json"
    flags = ["--rows", "30", "--features", "9", "--units", "4", "--batch-sizes", "8", "--repeats", "2"]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *flags, "--json", str(path)])
    main.main()
    out = capsys.readouterr().out
    assert len(asked) == 11  # reach and others 1, encode 2, growth 3
    assert {repeats for _, repeats in asked} == {2}
    assert "one objective and gradient, 30 x 9-4" in out
    assert "| keras_sae float32 | 0.5 | 0.25 to 0.75 | 500 | 3.25 |" in out
    assert "| PyTorch float32 | ModuleNotFoundError: torch |" in out
    assert "encoding 1 row a call, 9-4" in out
    assert "| keras_sae, transform(x) | 5e+05 | 2.5e+05 to 7.5e+05 | 500 | 3.25 |" in out
    assert "| litert | ModuleNotFoundError: torch |" in out
    results = json.loads(path.read_text())["results"]
    assert list(dict.fromkeys(result["section"] for result in results)) == list(main.SECTIONS)
    assert [result["exponent"] for result in results[-3:]] == pytest.approx([0] * 3)
    assert out.count("The time grows with the power") == 3
    assert "\nL-BFGS, TensorBoard: 1.000 of the time of L-BFGS.\n" in out
    assert results[1]["found"]["keras_sae float32"]["seconds"] == 0.5


def test_an_unknown_section_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "speed"])
    with pytest.raises(SystemExit, match="2"):
        main.main()
    assert (
        "expected of exactness, objective, epoch, training, reach, tensorboard, encode, growth; received: speed"
        in capsys.readouterr().err
    )
