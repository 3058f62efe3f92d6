"""train.mnist: its settings, what a run leaves behind, its variants, and how it ends for people's mistakes."""

import json
import math
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import keras_sae
from keras_sae import runs
from keras_sae.data import containers, datasets
from keras_sae.errors import InputError
from keras_sae.runs import examples
from tests.keras_sae.events import Events, projector
from train import cli, mnist

ROOT = pathlib.Path(__file__).parents[2]
STAGES = ("layer_1", "layer_2", "head", "finetuned")
FILES = {
    "run.json", "metrics.json", "model.keras", "README.md", "examples.npz", "calibration.npz", "features.png",
    "features_2.png", "reconstructions.png", "curves.png", "pretrained.keras", "report.html",
}  # fmt: skip


def arguments(*words):
    """Of a fresh Python that finds the checkout from whatever folder it runs in."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"}
    return {"args": [sys.executable, *map(str, words)], "env": environment, "text": True}


def contents(folder):
    """Path -> bytes (None for a folder) of all that is in a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def without_times(metrics):
    return {name: value for name, value in metrics.items() if not name.startswith("seconds")}


@pytest.fixture(scope="module")
def images(idx_folder):
    return datasets.load_idx(idx_folder)


@pytest.fixture(scope="module")
def stack(tiny_run):
    """The pretrained stack that the tiny run kept."""
    return runs.load_pretrained(tiny_run[0])


@pytest.fixture
def train(idx_folder, tmp_path):
    """train(**settings) -> (run directory, metrics): one step of each stage unless the settings say otherwise."""

    def train(**settings):
        config = mnist.Config(
            **{
                "data": str(idx_folder),
                "out": str(tmp_path / "run"),
                "units": (16, 9),
                "max_iterations": 1,
                **settings,
            }
        )
        metrics = mnist.run(config, verbose=0)
        return pathlib.Path(config.out), metrics

    return train


@pytest.fixture
def refused(monkeypatch, capfd, tmp_path):
    """refused(*flags) -> the one line with which the command ended in an empty folder, where it wrote nothing."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    def refused(*flags):
        monkeypatch.setattr(sys, "argv", ["mnist.py", *map(str, flags)])
        with pytest.raises(SystemExit) as ended:
            cli.main(mnist.Config, mnist.run, mnist.PROGRAM, mnist.__doc__)
        assert ended.value.code == 2
        assert contents(here) == {}
        lines = capfd.readouterr().err.splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("train.mnist: error: ")
        return lines[0]

    return refused


@pytest.mark.slow
@pytest.mark.skipif("KERAS_SAE_DATA" not in os.environ, reason="needs KERAS_SAE_DATA, a folder with mnist")
def test_the_whole_experiment_reaches_the_published_figures(tmp_path):
    """All 60,000 digits at the defaults. UFLDL: 87.7 % and 97.6 %; seeds here: 87.2 % and 97.6 %, give or take 0.3."""
    metrics = mnist.run(mnist.Config(out=str(tmp_path / "run")), verbose=0)
    assert (metrics["num_train"], metrics["num_test"]) == (60_000, 10_000)
    assert metrics["objective_layer_1"] <= 12.85
    assert metrics["accuracy_greedy"] >= 0.866
    assert metrics["accuracy_finetuned"] >= 0.973
    assert metrics["dead_units_1"] == 0


# Settings


@pytest.mark.parametrize(
    ("flags", "expected", "received"),
    [
        (["--rho", "1.5"], "--rho expects a mean activation between 0 and 1 (exclusive)", "1.5"),
        (["--rho", "0"], "--rho expects", "0.0"),
        (["--rho", "1"], "--rho expects", "1.0"),
        (["--rho", "nan"], "--rho expects", "nan"),
        (["--units", "0"], "--units expects 1 or more hidden units", "(0,)"),
        (["--units", "20", "-1"], "--units expects", "(20, -1)"),
        (["--beta", "-1"], "--beta expects a finite weight of 0 or more", "-1.0"),
        (["--beta", "inf"], "--beta expects", "inf"),
        (["--weight-decay", "nan"], "--weight-decay expects a finite number of 0 or more", "nan"),
        (["--weight-decay", "-0.1"], "--weight-decay expects", "-0.1"),
        (["--max-iterations", "0"], "--max-iterations expects 1 or more", "0"),
        (["--max-iterations", "-3"], "--max-iterations expects", "-3"),
        (["--corruption", "1"], "--corruption expects 0 or more and below 1", "1.0"),
        (
            ["--loss", "cross-entropy", "--activation", "tanh"],
            "--loss cross-entropy expects --activation sigmoid",
            "tanh",
        ),
        (["--seed", "-1"], "--seed expects a whole number from 0 to 4294967295", "-1"),
        (["--seed", "4294967296"], "--seed expects", "4294967296"),
    ],
    ids=" ".join,
)
def test_a_bad_value_is_explained_in_one_line(refused, flags, expected, received):
    line = refused(*flags)
    assert line.startswith(f"train.mnist: error: {expected}")
    assert line.endswith(f"Received: {received}")


@pytest.mark.parametrize(
    "settings",
    [
        {"rho": 1e-9},
        {"beta": 0.0, "weight_decay": 0.0},
        {"units": (1,), "max_iterations": 1},
        {"seed": 0},
        {"seed": 2**32 - 1},
    ],
    ids=str,
)
def test_values_at_the_edge_of_what_is_right_pass(settings):
    assert mnist.Config(**settings)


@pytest.mark.parametrize(
    ("settings", "rows", "iterations"),
    [
        ({}, 60_000, 200),
        ({"optimizer": "adam"}, 135, 600),  # 5 minibatches
        ({"optimizer": "adam"}, 450, 375),  # 8
        ({"optimizer": "adam"}, 3600, 200),  # 15
        ({"optimizer": "adam"}, 60_000, 13),  # 235
        ({"optimizer": "adam"}, 10_000_000, 1),
        ({"max_iterations": 7}, 450, 7),
        ({"optimizer": "adam", "max_iterations": 7}, 450, 7),
    ],
    ids=str,
)
def test_each_optimizer_has_its_own_default_of_iterations(settings, rows, iterations):
    assert mnist.Config(**settings).for_rows(rows).max_iterations == iterations


# What a run leaves behind


def test_the_metrics_are_those_of_the_file_and_complete(tiny_run):
    out, metrics = tiny_run
    assert json.loads((out / "metrics.json").read_text()) == metrics
    per_layer = {
        f"{name}_{n}" for name in ("rho_hat_mean", "rho_hat_max_deviation", "dead_units") for n in (1, 2)
    }  # fmt: skip
    per_stage = {f"{name}_{stage}" for name in ("objective", "seconds") for stage in STAGES}
    overall = {"seconds_total", "num_train", "num_test"}
    overall |= {f"accuracy_{stage}{end}" for stage in ("greedy", "finetuned") for end in ("", "_low", "_high")}
    assert set(metrics) == per_layer | per_stage | overall


def test_the_metrics_are_sensible_numbers(tiny_run):
    metrics = tiny_run[1]
    assert all(math.isfinite(value) for value in metrics.values())
    assert (metrics["num_train"], metrics["num_test"]) == (120, 40)
    assert 20 < metrics["objective_layer_1"] < 784 / 2 / 4  # below what a constant 1/2 would cost, 784/2 * (1/2)^2
    assert 0 < metrics["objective_layer_2"] < 16 / 2 / 4
    assert 0 < metrics["objective_finetuned"] < metrics["objective_head"] < 1.05 * math.log(10)  # guessing: log(10)
    for name in ("accuracy_greedy", "accuracy_finetuned"):
        assert 0 <= metrics[name] <= 1
        assert metrics[name] * 40 == pytest.approx(round(metrics[name] * 40))
    for layer, units in [(1, 16), (2, 9)]:
        assert 0 < metrics[f"rho_hat_mean_{layer}"] < 0.5
        assert 0 <= metrics[f"dead_units_{layer}"] <= units
    stages = sum(metrics[f"seconds_{stage}"] for stage in STAGES)
    assert 0 < stages <= metrics["seconds_total"] + 0.2  # each is rounded to 0.1


def test_the_run_directory_holds_its_files_and_no_others(tiny_run):
    names = {name for name, content in contents(tiny_run[0]).items() if content is not None}
    assert {name for name in names if not name.startswith("logs/")} == FILES
    logs = {name.removeprefix("logs/") for name in names - FILES}
    assert {name.split("/")[0] for name in logs if "/" in name} == set(STAGES)
    assert [name.startswith("events.") for name in logs if "/" not in name] == [True]  # of the run as a whole


@pytest.mark.parametrize("name", sorted(FILES))
def test_others_may_read_the_files(tiny_run, name):
    assert (tiny_run[0] / name).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("name", ["features.png", "reconstructions.png", "curves.png"])
def test_the_pictures_open_and_show_something(tiny_run, name):
    import matplotlib.image

    pixels = matplotlib.image.imread(tiny_run[0] / name)
    assert min(pixels.shape[:2]) > 100
    assert len(np.unique(pixels[..., :3])) > 10


def test_the_examples_are_held_out_images_with_labels(tiny_run, images):
    x, labels = runs.load_examples(tiny_run[0])
    np.testing.assert_array_equal(x, images.x_test)
    np.testing.assert_array_equal(labels, images.y_test)
    assert x.dtype == "float32"


def test_the_calibration_rows_are_training_images(tiny_run, images):
    x, labels = runs.load_examples(tiny_run[0], "calibration.npz")
    np.testing.assert_array_equal(x, images.x_train)
    assert x.dtype == "float32"
    assert labels is None


def test_of_many_images_those_kept_are_spread_over_all(train, images, monkeypatch):
    monkeypatch.setattr(examples, "KEPT", {"examples": 10, "calibration": 17})
    out, _ = train(units=(4,), freeze_encoder=True)
    x, labels = runs.load_examples(out)
    np.testing.assert_array_equal(x, images.x_test[::4])
    np.testing.assert_array_equal(labels, images.y_test[::4])
    np.testing.assert_array_equal(runs.load_examples(out, "calibration.npz")[0], images.x_train[::8])  # 120 / 17: 8


@pytest.mark.parametrize("length", [1, 3, 7, 10, 11, 19, 20, 21, 100, 1009])
def test_a_spread_reaches_from_one_end_to_the_other(length):
    chosen = containers.spread(np.arange(length), 10)
    gaps = np.diff(chosen)
    assert min(length, 10) / 2 < len(chosen) <= 10
    assert chosen[0] == 0
    assert len(set(gaps)) <= 1
    assert length - chosen[-1] <= max([1, *gaps])


@pytest.mark.parametrize("stage", STAGES)
def test_the_logs_hold_the_objective_of_every_iteration(tiny_run, stage):
    out, metrics = tiny_run
    losses = list(Events(out / "logs" / stage).scalars("loss").values())
    assert len(losses) == 4
    assert losses[-1] == pytest.approx(metrics[f"objective_{stage}"], rel=1e-5)
    assert losses == sorted(losses, reverse=True)


def test_the_logs_show_what_was_learned_in_every_stage(tiny_run):
    """Of rows that are pictures also pictures; the labels belong to the rows, which the first layer does not see."""
    out, metrics = tiny_run
    pictures = {"layer_1": {"features", "reconstructions"}, "layer_2": set()}
    pictures |= {"head": {"confusion"}, "finetuned": {"confusion", "features"}}
    for stage, expected in pictures.items():
        found, (codes, labels, thumbnails) = Events(out / "logs" / stage), projector(out / "logs" / stage)
        assert found.picture_tags == expected
        assert {"units/distribution", "activations"} <= found.histogram_tags
        assert found.graph()
        assert codes.shape == (120, 16 if stage == "layer_1" else 9)
        assert len(set(labels)) == 10
        assert (thumbnails is None) == (stage == "layer_2")
    for number in (1, 2):
        exact = Events(out / "logs" / f"layer_{number}").scalars("units/rho_hat")
        assert exact == {4: pytest.approx(metrics[f"rho_hat_mean_{number}"], rel=1e-5)}


def test_the_logs_have_settings_and_numbers_to_compare_runs_by(tiny_run):
    out, metrics = tiny_run
    found = Events(out / "logs")
    settings, _ = found.hparams()
    assert settings["rho"] == 0.1
    assert settings["units"] == "(16, 9)"
    assert {"out", "resume", "quiet"}.isdisjoint(settings)
    numbers = {name: found.scalars(f"run/{name}")[0] for name in metrics}
    assert numbers == pytest.approx(metrics, rel=1e-6)


def test_the_config_holds_all_that_repeats_the_run(tiny_run, idx_folder):
    out, _ = tiny_run
    config = runs.read_config(out)
    assert config["settings"] == {
        "data": str(idx_folder), "dataset": "mnist", "out": str(out), "units": [16, 9], "rho": 0.1, "beta": 3.0,
        "weight_decay": 3e-3, "cluster": None, "tied": False, "optimizer": "lbfgs", "max_iterations": 4, "seed": 0,
        "freeze_encoder": False, "activation": "sigmoid", "sparsity": "kl", "active": 25, "loss": "squared",
        "corruption": 0.0, "noise": "masking",
    }  # fmt: skip
    assert config["image_shape"] == [28, 28]
    assert config["pixel_range"] == 1
    assert "class_names" not in config  # digits are their own
    assert {"python", "keras", "tensorflow", "numpy"} <= set(config["versions"])
    assert config["device"] == cli.describe_device()


def test_the_objective_of_each_layer_is_that_of_the_saved_stack(tiny_run, stack, images):
    _, metrics = tiny_run
    inputs = images.x_train
    for number, autoencoder in enumerate(stack.autoencoders, 1):
        found = keras_sae.objective(autoencoder, inputs)
        assert found.value == pytest.approx(metrics[f"objective_layer_{number}"], rel=1e-6)
        kernel, bias = autoencoder.get_weights()[:2]
        inputs = 1 / (1 + np.exp(-(inputs.astype("float64") @ kernel + bias)))  # by hand: the features, for rho_hat
        rho_hat = inputs.mean(axis=0)
        assert rho_hat.mean() == pytest.approx(metrics[f"rho_hat_mean_{number}"], rel=1e-5)
        assert abs(rho_hat - 0.1).max() == pytest.approx(metrics[f"rho_hat_max_deviation_{number}"], rel=1e-4)
        assert (rho_hat < 1e-3).sum() == metrics[f"dead_units_{number}"]
        inputs = inputs.astype("float32")


def test_the_saved_classifier_has_the_objective_and_accuracy_that_were_reported(tiny_run, images):
    out, metrics = tiny_run
    classifier = keras_sae.load(out)
    found = keras_sae.objective(classifier, images.x_train, images.y_train).value
    assert found == pytest.approx(metrics["objective_finetuned"], rel=1e-6)
    labels = classifier.predict(images.x_test, verbose=0).argmax(axis=1)
    assert (labels == images.y_test).mean() == pytest.approx(metrics["accuracy_finetuned"])


def test_fine_tuning_changes_the_encoder_and_leaves_the_stack_as_it_was(tiny_run, stack):
    fine_tuned = keras_sae.load_encoder(tiny_run[0], finetuned=True).get_weights()
    pretrained = stack.encoder.get_weights()
    for kept, expected in zip(keras_sae.load_encoder(tiny_run[0]).get_weights(), pretrained, strict=True):
        np.testing.assert_array_equal(kept, expected)
    assert [w.shape for w in fine_tuned] == [w.shape for w in pretrained]
    assert all(np.abs(a - b).max() > 1e-4 for a, b in zip(fine_tuned, pretrained, strict=True))


def test_the_command_in_the_config_repeats_the_run_to_the_digit(tiny_run, tmp_path):
    out, metrics = tiny_run
    words = shlex.split(runs.read_config(out)["command"])
    assert words[:3] == ["python", "-m", "train.mnist"]
    config = cli.parse(mnist.Config, *words[2:3], None, [*words[3:], "--out", str(tmp_path / "again")])
    assert without_times(mnist.run(config, verbose=0)) == without_times(metrics)


# Variants


def test_another_seed_gives_another_run(train, tiny_run):
    _, metrics = train(seed=1, max_iterations=4)
    for stage in STAGES:
        assert metrics[f"objective_{stage}"] != tiny_run[1][f"objective_{stage}"]


def test_adam_trains_in_epochs_and_watches_the_exact_sparsity(train, images):
    import keras

    out, metrics = train(optimizer="adam", max_iterations=2)
    assert runs.read_config(out)["settings"]["optimizer"] == "adam"
    logs = Events(out / "logs" / "layer_1")
    assert list(logs.scalars("loss")) == [1, 2]
    assert logs.scalars("rho_hat")[2] == pytest.approx(metrics["rho_hat_mean_1"], rel=1e-5)
    assert logs.scalars("dead_units")[2] == metrics["dead_units_1"]
    keras.utils.set_random_seed(0)  # as the run did, so that the untrained stack is the one that it began with
    untrained = mnist.build_stack(mnist.Config(units=(16, 9)), 100, 784).autoencoders[0]
    assert metrics["objective_layer_1"] < 0.99 * keras_sae.objective(untrained, images.x_train).value


@pytest.mark.slow
def test_a_tied_stack_has_one_matrix_for_both_ways(train, images):
    out, metrics = train(tied=True)
    tied = runs.load_pretrained(out)
    for autoencoder, shape in zip(tied.autoencoders, [(784, 16), (16, 9)], strict=True):
        assert autoencoder.tied
        assert [w.shape for w in autoencoder.get_weights()] == [shape, (shape[1],), (shape[0],)]
    found = keras_sae.objective(tied.autoencoders[0], images.x_train).value
    assert found == pytest.approx(metrics["objective_layer_1"], rel=1e-6)


VARIANTS = {
    "tanh": {"activation": "tanh"},
    "L1": {"sparsity": "l1", "beta": 0.01},
    "cross-entropy": {"loss": "cross-entropy"},
    "masking": {"corruption": 0.25, "beta": 0.0},
    "gaussian noise": {"corruption": 0.3, "noise": "gaussian"},
    "everything": {"activation": "tanh", "corruption": 0.2, "tied": True, "optimizer": "adam"},
}


OFTEN = ("masking", "everything")  # tested; the others with --run-slow


@pytest.mark.parametrize("variant", [pytest.param(v, marks=[] if v in OFTEN else pytest.mark.slow) for v in VARIANTS])
def test_each_variant_trains_what_it_says(train, variant):
    import keras

    settings = VARIANTS[variant]
    out, metrics = train(max_iterations=4, **settings)
    assert metrics["accuracy_finetuned"] >= 0
    lower, upper = runs.load_pretrained(out).autoencoders
    tanh = settings.get("activation") == "tanh"
    assert [ae.activation.__name__ for ae in (lower, upper)] == ["tanh" if tanh else "sigmoid"] * 2
    assert lower.output_activation.__name__ == "sigmoid"  # pixels
    assert upper.output_activation.__name__ == ("tanh" if tanh else "sigmoid")  # the range of the layer below
    if settings.get("sparsity") == "l1":
        assert float(lower.sparsity.l1) == pytest.approx(0.01)
        assert "rho_hat_max_deviation_1" not in metrics
    else:
        assert lower.sparsity.inactive == (-1 if tanh else 0)
    if settings.get("noise") == "gaussian":
        assert isinstance(lower.corrupt, keras.layers.GaussianNoise)
        assert lower.corrupt.stddev == 0.3
    elif "corruption" in settings:
        assert lower.corrupt.rate == settings["corruption"]


def test_the_loss_of_the_variant_is_the_one_that_is_minimised(train, images):
    out, metrics = train(loss="cross-entropy", units=(16,))
    (layer,) = runs.load_pretrained(out).autoencoders
    layer.compile(loss=keras_sae.SummedBinaryCrossentropy())
    assert keras_sae.objective(layer, images.x_train).value == pytest.approx(metrics["objective_layer_1"], rel=1e-6)


def test_a_frozen_encoder_stays_as_pretrained(train):
    out, metrics = train(freeze_encoder=True)
    assert "accuracy_greedy" in metrics
    assert [name for name in metrics if "finetuned" in name] == []
    assert sorted(p.name for p in (out / "logs").iterdir() if p.is_dir()) == ["head", "layer_1", "layer_2"]
    pretrained = runs.load_pretrained(out).encoder.get_weights()
    for kept, expected in zip(keras_sae.load_encoder(out, finetuned=True).get_weights(), pretrained, strict=True):
        np.testing.assert_array_equal(kept, expected)


@pytest.mark.parametrize("units", [(6,), pytest.param((12, 8, 5), marks=pytest.mark.slow)], ids=str)
def test_a_stack_may_have_any_number_of_layers(train, units):
    out, metrics = train(units=units)
    layers = sorted(name for name in metrics if name.startswith("objective_layer"))
    assert layers == [f"objective_layer_{number}" for number in range(1, len(units) + 1)]
    kernels = [w.shape for w in keras_sae.load_encoder(out).get_weights() if w.ndim == 2]
    assert kernels == list(zip((784, *units), units, strict=False))


@pytest.mark.skipif("KERAS_SAE_DATA" not in os.environ, reason="needs KERAS_SAE_DATA, a folder with fashion_mnist")
def test_fashion_mnist_comes_from_the_data_folder_and_the_run_goes_to_a_free_place(monkeypatch, tmp_path):
    real = datasets.load_idx(pathlib.Path(os.environ["KERAS_SAE_DATA"]) / "fashion_mnist")
    folder = tmp_path / "data" / "fashion_mnist"
    folder.mkdir(parents=True)
    for part, x, y in [("train", real.x_train, real.y_train), ("t10k", real.x_test, real.y_test)]:
        pixels, labels = np.round(x[:60] * 255).astype("uint8"), y[:60].astype("uint8")
        header = b"\0\0\x08\x03" + np.array([60, 28, 28], ">u4").tobytes()
        (folder / f"{part}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        header = b"\0\0\x08\x01" + np.array([60], ">u4").tobytes()
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())
    monkeypatch.setenv("KERAS_SAE_DATA", str(folder.parent))
    monkeypatch.chdir(tmp_path)
    taken = tmp_path / "runs" / "fashion_mnist"
    taken.mkdir(parents=True)

    config = mnist.Config(dataset="fashion_mnist", units=(4,), max_iterations=1, freeze_encoder=True)
    metrics = mnist.run(config, verbose=0)
    out = tmp_path / "runs" / "fashion_mnist-2"
    assert json.loads((out / "metrics.json").read_text()) == metrics
    assert (metrics["num_train"], metrics["num_test"]) == (60, 60)
    np.testing.assert_array_equal(runs.load_examples(out)[0], real.x_test[:60])
    assert (out / "README.md").read_text().startswith("# Stacked sparse autoencoder on fashion_mnist\n")
    assert contents(taken) == {}


# Mistakes


def cut_off(folder):
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.fixture
def data(idx_folder, tmp_path):
    """A copy of the data that a test may damage."""
    return pathlib.Path(shutil.copytree(idx_folder, tmp_path / "data"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            lambda data: (data / "t10k-labels-idx1-ubyte.gz").unlink(),
            ["t10k-labels-idx1-ubyte.gz", "another directory"],
        ),
        (cut_off, ["train-images-idx3-ubyte.gz", "cut off or damaged"]),
        (
            lambda data: [p.unlink() for p in data.iterdir()],
            ["train-images-idx3-ubyte.gz", "nothing", "another directory"],
        ),
        (shutil.rmtree, ["not a directory"]),
    ],
    ids=["a file is missing", "a file is cut off", "an empty folder", "no folder"],
)
def test_data_that_cannot_be_used_ends_with_one_line(refused, data, damage, words):
    damage(data)
    line = refused("--data", data, "--out", "run")
    assert [word for word in [str(data), *words] if word not in line] == []


def test_a_data_set_that_is_not_embedded_ends_with_one_line(refused):
    assert "Name the directory of its four IDX files" in refused(
        "--data", "embedded", "--dataset", "fashion_mnist", "--out", "run"
    )


def test_another_run_is_never_overwritten(refused, tiny_run, idx_folder):
    out, _ = tiny_run
    before = contents(out)
    line = refused("--data", idx_folder, "--out", out)
    assert str(out) in line
    assert "holds another run" in line
    assert contents(out) == before
    with pytest.raises(InputError, match="holds another run"):
        mnist.run(mnist.Config(data=str(idx_folder), out=str(out)))
    assert contents(out) == before


def test_a_file_or_a_folder_below_a_file_is_no_place_for_a_run(refused, idx_folder, tmp_path):
    (tmp_path / "notes").write_text("mine")
    assert "notes, which is a file" in refused("--data", idx_folder, "--out", tmp_path / "notes")
    assert "can be written to" in refused("--data", idx_folder, "--out", tmp_path / "notes" / "run")
    assert (tmp_path / "notes").read_text() == "mine"


# As people call it, in processes of their own


@pytest.mark.parametrize(
    "flags", [["--epochs", "3"], ["--rho", "1.5"], ["--units", "many"], ["--opt", "adam"]], ids=" ".join
)
def test_a_wrong_flag_ends_at_once_with_one_line(tmp_path, flags):
    began = time.perf_counter()
    done = subprocess.run(**arguments("-m", "train.mnist", *flags), cwd=tmp_path, capture_output=True)
    assert time.perf_counter() - began < 4  # TensorFlow's start alone takes longer
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("train.mnist: error: ")
    assert flags[0] in done.stderr
    assert (done.stdout, contents(tmp_path)) == ("", {})


@pytest.mark.slow
def test_damaged_data_ends_a_fresh_process_with_one_line(tmp_path, data):
    cut_off(data)
    before = contents(tmp_path)
    command = arguments("-m", "train.mnist", "--data", data, "--out", "run")
    done = subprocess.run(**command, cwd=tmp_path, capture_output=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("train.mnist: error: Expected a complete gzip file.")
    assert (done.stdout, contents(tmp_path)) == ("", before)


def test_help_answers_in_two_seconds_and_without_keras(tmp_path):
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        done = subprocess.run(
            **arguments("-X", "importtime", "-m", "train.mnist", "--help"), cwd=tmp_path, capture_output=True
        )
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 2
    assert done.returncode == 0
    for field in ("--weight-decay", "lambda", "default: 0.003", "python -m train.mnist --data embedded"):
        assert field in done.stdout
    imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "argparse" in imported
    assert imported & {"keras", "tensorflow", "numpy", "matplotlib"} == set()


@pytest.fixture
def interruptible():
    """Processes started meanwhile obey Ctrl-C even where this one was started to ignore it, as `command &` is."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_with_130_and_leaves_no_half_written_file(tmp_path):
    out = tmp_path / "run"
    command = arguments("-m", "train.mnist", "--data", "embedded", "--out", out)
    with subprocess.Popen(**command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            started = any(line.startswith("run  ") for line in process.stdout)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert started, errors
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("train.mnist: interrupted.")
    files = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert {name for name in files if not name.startswith("logs/layer_1/events")} == {"run.json"}
    assert runs.read_config(out)["settings"]["out"] == str(out)
    with pytest.raises(InputError, match="did not finish"):
        runs.load(out)
