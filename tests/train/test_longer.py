"""--resume RUN --max-iterations N: a finished run goes on, and stays until the longer one takes its place."""

import json
import os
import shutil

import numpy as np
import pytest

import keras_sae
from keras_sae import runs
from keras_sae.errors import InputError
from tests.train.conftest import interrupt_at
from train import cli, features, longer
from train.experiment import Experiment


@pytest.fixture(scope="module")
def finished(digits, tmp_path_factory):
    """A run of two layers, of 3 iterations to a stage, with labels."""
    folder = tmp_path_factory.mktemp("longer")
    np.save(folder / "x.npy", digits.x_train[::50, 300:340][:60])
    np.save(folder / "y.npy", digits.y_train[::50][:60] > 4)
    settings = {"data": (str(folder / "x.npy"),), "labels": str(folder / "y.npy"), "units": (5, 3)}
    features.run(features.Config(**settings, max_iterations=3, out=str(folder / "run")), verbose=0)
    return folder / "run"


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def go_on(run, iterations=None):
    return features.run(cli.resumed(features.Config, features.PROGRAM, str(run), iterations), verbose=0)


def weights(run):
    return [*runs.load_pretrained(run).get_weights(), *keras_sae.load(run).get_weights()]


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_pretraining_goes_on_from_the_weights_for_the_iterations_that_are_missing(finished, run):
    stack = runs.load_pretrained(finished)
    x = np.load(finished.parent / "x.npy")[features.split(60, 0)[0]]
    for autoencoder, inputs in stack.stages(x):
        keras_sae.fit(autoencoder, inputs, iterations=4, verbose=0)
    metrics = go_on(run, 7)
    for found, expected in zip(runs.load_pretrained(run).get_weights(), stack.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    before = json.loads((finished / "metrics.json").read_text())
    assert metrics["objective_layer_1"] < before["objective_layer_1"]
    assert json.loads((run / "metrics.json").read_text()) == metrics
    assert {path.name for path in run.iterdir()} == {path.name for path in finished.iterdir()}


def test_the_record_says_how_the_run_was_lengthened(finished, run):
    go_on(run, 4)
    record, before = runs.read_config(run), runs.read_config(finished)
    assert record["settings"] == {**before["settings"], "max_iterations": 4}
    added = f"python -m train.features --resume {run} --max-iterations 4"
    assert record["command"] == f"{before['command']} && {added}"
    assert f"python -m export {run} --out DIR" in (run / "README.md").read_text()


def test_a_longer_training_that_was_stopped_leaves_the_finished_run_and_resumes(finished, run, tmp_path, monkeypatch):
    undisturbed = shutil.copytree(finished, tmp_path / "undisturbed")
    go_on(undisturbed, 6)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5)  # in the second layer
        with pytest.raises(KeyboardInterrupt):
            go_on(run, 6)
    assert cli.Interrupted.hint == f"Resume it: python -m train.features --resume {run}"
    assert_same(weights(run), weights(finished))
    with pytest.raises(
        InputError, match=rf"Expected --max-iterations 6, to which {run} is being trained\. Received: 9"
    ):
        go_on(run, 9)
    go_on(run)
    assert_same(weights(run), weights(undisturbed))
    assert not (run / longer.LONGER).exists()


@pytest.mark.slow
@pytest.mark.parametrize("moved", [0, 5])
def test_one_that_was_stopped_while_it_took_its_place_takes_it_at_the_next_command(
    moved, finished, run, tmp_path, monkeypatch
):
    undisturbed = shutil.copytree(finished, tmp_path / "undisturbed")
    go_on(undisturbed, 4)

    def stop(place):
        for path in sorted(place.glob("*.*"))[:moved]:
            os.replace(path, run / path.name)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(longer, "publish", stop)
        with pytest.raises(KeyboardInterrupt):
            go_on(run, 4)
    assert (run / longer.LONGER / "model.keras").exists()
    with pytest.raises(InputError, match="which is finished"):
        go_on(run)
    assert_same(weights(run), weights(undisturbed))
    assert not (run / longer.LONGER).exists()


@pytest.mark.slow
def test_what_was_left_of_one_that_did_not_begin_is_no_obstacle(finished, run):
    (run / longer.LONGER / "checkpoints").mkdir(parents=True)
    go_on(run, 4)
    assert runs.read_config(run)["settings"]["max_iterations"] == 4


@pytest.mark.parametrize("iterations", [2, 3])
def test_fewer_iterations_are_refused(iterations, run):
    with pytest.raises(InputError, match=rf"Expected more iterations than the 3 that .* Received: .* {iterations}\."):
        go_on(run, iterations)


def test_a_run_that_was_stopped_is_resumed_with_its_own_settings(run):
    (run / "model.keras").unlink()
    with pytest.raises(InputError, match=r"Expected a finished run to train longer\. .* Resume it without --max-iter"):
        go_on(run, 9)


def test_a_classifier_without_its_pretrained_stack_is_refused(run):
    (run / runs.PRETRAINED).unlink()
    with pytest.raises(InputError, match=r"Expected a run that kept its pretrained stack, pretrained\.keras"):
        go_on(run, 9)


def test_other_data_are_refused(run):
    record = runs.read_config(run)
    (run / "run.json").write_text(json.dumps({**record, "data": "other"}))
    with pytest.raises(InputError, match=r"Expected the data that the run had: other\."):
        go_on(run, 9)


def test_units_that_became_fewer_stay_few_in_a_longer_training(finished, tmp_path, monkeypatch):
    begins = []

    def fit(experiment, autoencoder, *arguments, **options):
        begins.append(int(autoencoder.sparsity.k_now(True)))
        return fit_as_it_is(experiment, autoencoder, *arguments, **options)

    fit_as_it_is = Experiment.fit
    monkeypatch.setattr(Experiment, "fit", fit)
    settings = {"units": (8,), "sparsity": "top_k", "active": 2, "optimizer": "adam", "out": str(tmp_path / "few")}
    features.run(features.Config(data=(str(finished.parent / "x.npy"),), max_iterations=2, **settings), verbose=0)
    go_on(tmp_path / "few", 4)
    assert begins == [8, 2]  # not the 5 that half of a longer schedule would have
