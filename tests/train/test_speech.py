"""train.speech: its settings, what a run leaves behind, and how it ends for people's mistakes."""

import json
import math
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import scipy.io.wavfile

import keras_sae
from keras_sae import runs
from keras_sae.errors import InputError
from train import cli, speech as command
from train.data import speech

ROOT = pathlib.Path(__file__).parents[2]
METRICS = {
    "accuracy", "accuracy_raw", "objective", "rho_hat_mean", "rho_hat_max_deviation", "dead_units", "num_train",
    "num_labels", "num_test", "seconds_total",
}  # fmt: skip
TINY = {"labels": 30, "patches": 300, "frames": 5, "units": 12, "max_iterations": 5}


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    """Three speakers who say digit d as a tone that rises from 300 + 150 d Hz by a third, twice each, with noise."""
    folder = tmp_path_factory.mktemp("tones")
    generator = np.random.default_rng(0)
    for speaker, pitch, level in [("ann", 1.0, 9000), ("bob", 0.97, 900), ("eve", 1.03, 3000)]:
        for digit in range(10):
            for take in range(2):
                time = np.arange(generator.integers(1800, 3000)) / speech.RATE
                frequency = (300 + 150 * digit) * pitch * (1 + time / time[-1] / 6)  # its integral rises by a third
                sound = level * (np.sin(2 * np.pi * frequency * time) + 0.05 * generator.normal(size=len(time)))
                scipy.io.wavfile.write(folder / f"{digit}_{speaker}_{take}.wav", speech.RATE, sound.astype("int16"))
    return folder


@pytest.fixture(scope="module")
def run(tones, tmp_path_factory):
    """(run directory, metrics) of a few steps on the tones; eve is not heard while learning."""
    out = tmp_path_factory.mktemp("runs") / "speech"
    config = command.Config(data=str(tones), out=str(out), test_speakers=("eve",), **TINY)
    return out, command.run(config, verbose=0)


def test_metrics(run):
    out, metrics = run
    assert json.loads((out / "metrics.json").read_text()) == metrics
    assert set(metrics) >= METRICS
    assert all(math.isfinite(value) for value in metrics.values())
    assert (metrics["num_labels"], metrics["num_test"]) == (30, 20)
    for name in ("accuracy", "accuracy_raw"):
        assert metrics[name] > 0.5  # ten tones, in order of pitch: guessing gives 0.1
        assert metrics[name] * 20 == pytest.approx(round(metrics[name] * 20))


def test_the_run_holds_the_autoencoder_of_patches(run):
    out, metrics = run
    examples = runs.load_examples(out)[0]
    autoencoder = keras_sae.load(out)
    assert autoencoder.get_weights()[0].shape == (command.BANDS * 5, 12)
    assert examples.shape == (256, command.BANDS * 5)
    assert examples.min() >= 0
    assert examples.max() == 1
    assert keras_sae.load_encoder(out)(examples).shape == (256, 12)
    config = runs.read_config(out)
    assert config["image_shape"] == [command.BANDS, 5]
    assert config["command"].startswith("python -m train.speech --out")
    assert metrics["rho_hat_max_deviation"] >= abs(metrics["rho_hat_mean"] - command.Config.rho) - 1e-6


def test_the_pictures_open_and_show_something(run):
    import matplotlib.image

    for name in ("features.png", "curves.png"):
        pixels = matplotlib.image.imread(run[0] / name)
        assert min(pixels.shape[:2]) > 100
        assert len(np.unique(pixels[..., :3])) > 10


def test_the_same_seed_gives_the_same_numbers(tones, run, tmp_path):
    config = command.Config(data=str(tones), out=str(tmp_path / "again"), test_speakers=("eve",), **TINY)
    again = command.run(config, verbose=0)
    for name in METRICS - {"seconds_total"}:
        assert again[name] == run[1][name]


def refusal(tones, tmp_path, **settings):
    """The message of the InputError with which the run ends, before it writes anything."""
    settings = {"data": str(tones), "out": str(tmp_path / "run"), "test_speakers": ("eve",), **TINY, **settings}
    with pytest.raises(InputError) as refused:
        command.run(command.Config(**settings), verbose=0)
    assert not (tmp_path / "run").exists()
    return str(refused.value)


def test_unknown_speaker(tones, tmp_path):
    message = refusal(tones, tmp_path, test_speakers=("eve", "mallory"))
    assert message == (
        f"Expected speakers among ann, bob, eve (--test-speakers). Received: mallory, who is not among recordings in "
        f"{tones}."
    )


def test_nobody_left_to_learn_from(tones, tmp_path):
    message = refusal(tones, tmp_path, test_speakers=("eve", "ann", "bob"))
    assert message == (
        "Expected a speaker or more to learn from. Received: --test-speakers eve ann bob, which are all there are. "
        "Name fewer."
    )


def test_too_few_utterances_for_the_labels(tones, tmp_path):
    message = refusal(tones, tmp_path, labels=41)
    assert message == "Expected 41 utterances to label or more (--labels). Received: 40, of ann, bob."


def test_a_used_folder_is_refused_first(run, tmp_path):
    config = command.Config(data=str(tmp_path / "none"), out=str(run[0]))
    with pytest.raises(InputError, match="Expected a new or empty directory for the run"):
        command.run(config, verbose=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": 9}, "--labels expects 10 or more. Received: 9"),
        ({"patches": 1}, "--patches expects 2 or more. Received: 1"),
        ({"frames": 0}, "--frames expects 1 to 100 frames of 10 ms. Received: 0"),
        ({"frames": 101}, "--frames expects 1 to 100 frames of 10 ms. Received: 101"),
        ({"rho": 1.0}, "--rho expects a mean activation between 0 and 1 (exclusive), such as 0.1. Received: 1.0"),
        ({"units": 0}, "--units expects 1 or more hidden units. Received: 0"),
        ({"seed": -1}, "--seed expects a whole number from 0 to 4294967295. Received: -1"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_bad_setting_is_explained(settings, message):
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the message is compared below, whole
        command.Config(**settings)
    assert str(refused.value) == message


def test_help_answers_without_keras():
    command = [sys.executable, "-X", "importtime", "-m", "train.speech", "--help"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "Sparse features of spoken digits" in ended.stdout
    assert not re.search(r"\| +keras$", ended.stderr, re.MULTILINE)
    assert "--test-speakers" in ended.stdout


def test_the_flags_are_twelve_at_most():
    assert len(command.Config.__dataclass_fields__) - len(cli.RunConfig.__dataclass_fields__) <= 12
    config = cli.parse(command.Config, command.PROGRAM, "", ["--test-speakers", "ann", "bob"])
    assert config.test_speakers == ("ann", "bob")


@pytest.mark.skipif("KERAS_SAE_DATA" not in os.environ, reason="needs KERAS_SAE_DATA, a folder with spoken_digits")
@pytest.mark.slow
def test_real_recordings(tmp_path):
    """A small run on the Free Spoken Digit Dataset, found by KERAS_SAE_DATA."""
    metrics = command.run(
        command.Config(out=str(tmp_path / "run"), labels=300, patches=1500, units=40, max_iterations=30), verbose=0
    )
    assert (metrics["num_train"], metrics["num_test"]) == (2000, 1000)
    assert metrics["accuracy"] > 0.4
