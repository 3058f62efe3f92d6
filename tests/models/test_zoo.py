"""The zoo: every preset is as it was published, computes what its card says, and is in the index."""

import hashlib
import os
import pathlib
import re

import numpy as np
import pytest

import keras_sae
import models
from keras_sae import runs
from keras_sae.data import datasets
from keras_sae.evaluation.feature_report import wilson_interval
from keras_sae.publishing import card, sample
from keras_sae.runs import presets
from keras_sae.runs.records import read_config, read_metrics, read_preset

PRESETS = keras_sae.list_presets()
ROOT = presets.ZOO.parent
MOST_BYTES = 40 * 10**6  # of all presets: they are in every wheel


def test_the_zoo_is_that_of_the_library():
    assert pathlib.Path(models.__file__).parent == presets.ZOO
    assert (models.list_presets, models.from_preset) == (keras_sae.list_presets, keras_sae.from_preset)
    assert {"digits_tiny", "encoder_838", "mnist_stacked", "patches_8x8", "patches_10x10", "patches_rgb"} <= {*PRESETS}


def test_the_index_is_that_of_the_presets():
    assert (presets.ZOO / "README.md").read_text() == card.index(presets.ZOO)


def test_the_readme_lists_the_presets_with_what_they_are_for():
    listed = re.findall(r"^\| \[\w+\]\(models/.*$", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert listed == card.rows(presets.ZOO, "models/")


def test_the_presets_are_small():
    assert sum(path.stat().st_size for path in presets.ZOO.rglob("*") if path.is_file()) < MOST_BYTES


@pytest.mark.parametrize("name", PRESETS)
def test_every_file_is_as_it_was_published(name):
    directory = presets.ZOO / name
    published = read_preset(directory)["sha256"]
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}
    assert {file: digest for file, digest in found.items() if file not in ("README.md", "preset.json")} == published


@pytest.mark.parametrize("name", PRESETS)
def test_a_card_says_whose_the_data_are_and_by_which_licence(name):
    """Some rows of them are in the preset, and so in every wheel."""
    said = read_preset(presets.ZOO / name)["data_license"]
    assert said in ("none needed", "MIT (Zalando SE)") or re.fullmatch(r"CC BY\S* \d\.\d \(.{20,}\)", said)
    assert f"licence: {said}; " in (presets.ZOO / name / "README.md").read_text()


@pytest.mark.parametrize("name", PRESETS)
def test_a_card_is_as_its_records_have_it_and_what_it_names_exists(name):
    text = (presets.ZOO / name / "README.md").read_text()
    assert text == card.render(presets.ZOO / name)
    assert f'keras_sae.from_preset("{name}")' in text
    for path in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert (presets.ZOO / name / path).is_file()
    for path in re.findall(r"models/\w+", text):
        assert (ROOT / path).is_dir()
    [module] = re.findall(r"^    python -m (train\.\w+) ", text, flags=re.MULTILINE)
    assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file()


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_computes_on_its_examples_what_was_measured(name):
    measured = read_preset(presets.ZOO / name)["sample"]
    found = sample.measure(presets.ZOO / name)
    assert found.keys() == measured.keys()
    near = {"accuracy": 1.5 / measured["rows"], "active_units": 0.01, "dead_units": 1}  # some are near a threshold
    for key, value in measured.items():
        assert found[key] == pytest.approx(value, rel=1e-3, abs=near.get(key, 0)), key


@pytest.mark.parametrize("name", PRESETS)
def test_the_numbers_of_the_card_agree_with_the_examples(name):
    """They are of more rows, so they agree as far as a sample can tell."""
    metrics, measured = read_metrics(presets.ZOO / name), read_preset(presets.ZOO / name)["sample"]
    if "accuracy" in measured:
        low, high = wilson_interval(measured["accuracy"], measured["rows"])
        wide = high - low  # twice the interval of 95 %, which one preset in twenty is outside of
        known = metrics.get("accuracy_finetuned", metrics.get("accuracy"))
        assert low - wide / 2 < known < high + wide / 2
    means = [value for key, value in metrics.items() if key.startswith("rho_hat_mean")]
    if means:  # of the top layer last
        # Those of spoken digits are by speakers who were not learned from.
        assert measured["mean_activation"] == pytest.approx(means[-1], rel=0.15 if name == "speech_digits" else 0.05)
    if "explained_variance_held_out" in metrics:
        assert measured["explained_variance"] == pytest.approx(metrics["explained_variance_held_out"], rel=0.01)


def test_the_digit_classifier_knows_the_embedded_digits(digits):
    model = keras_sae.from_preset("mnist_stacked")
    right = model(digits.x_test).numpy().argmax(axis=1) == digits.y_test
    assert right.mean() > 0.99  # they are training digits: what it was fitted to


def test_the_pretrained_stack_gives_digits_back(digits):
    stack = keras_sae.from_preset("mnist_stacked", part="autoencoder")
    metrics = read_metrics(presets.ZOO / "mnist_stacked")
    rho_hat = stack.autoencoders[0].encode(digits.x_train).numpy().mean()
    assert rho_hat == pytest.approx(metrics["rho_hat_mean_1"], abs=0.005)  # of 4,000 of the 60,000 digits
    error = keras_sae.objective(stack.autoencoders[0], digits.x_train).parts["reconstruction"]
    assert error < 9  # half squared error; that of the mean digit is 26


# Program -> what it measured, measured again on all of its data.


def official(dataset="mnist"):
    """The images, or a skipped test where they are not."""
    if dataset != "digits" and "KERAS_SAE_DATA" not in os.environ:
        pytest.skip("needs KERAS_SAE_DATA, a folder with the official files")
    return datasets.load_images(dataset)


def accuracy(directory, images):
    return np.mean(keras_sae.predict_in_chunks(runs.load(directory), images.x_test).argmax(axis=1) == images.y_test)


def of_digits(directory, settings):
    images = official(settings["dataset"])
    first = runs.load_pretrained(directory).autoencoders[0]
    found = {"accuracy_finetuned": accuracy(directory, images)}
    if isinstance(first.sparsity, keras_sae.sparsity.SparsityMethod):
        report = keras_sae.evaluate_features(first, images.x_train)
        return found | {"l0_1": report.l0, "explained_variance_1": report.explained_variance}
    exact = keras_sae.objective(first, images.x_train)
    return found | {"objective_layer_1": exact.value, "rho_hat_mean_1": exact.rho_hat[0].mean()}


def of_ladder(directory, settings):
    return {"accuracy": accuracy(directory, official(settings["dataset"]))}


def of_strokes(directory, settings):
    images = official()
    x = np.concatenate([images.x_train, images.x_test])[: settings["digits"]]
    return of_one(directory, x)


def of_one(directory, x):
    found = keras_sae.objective(runs.load(directory), x)
    return {"objective": found.value, "rho_hat_mean": found.rho_hat[0].mean()}


def of_speech(directory, settings):
    from train import speech
    from train.data import speech as sounds

    if "KERAS_SAE_DATA" not in os.environ:
        pytest.skip("needs KERAS_SAE_DATA, a folder with the recordings")
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    config, recordings = speech.Config(**{**settings, "data": None}), sounds.load_recordings(None)
    train, _ = speech.split(recordings, config)
    spectrograms = [sounds.trim(sounds.log_mel(recordings.waves[number])) for number in train]
    shape, random = (speech.BANDS, config.frames), np.random.default_rng(config.seed)
    return of_one(directory, speech.sample_patches(spectrograms, config.patches, shape, random))


def of_patches(directory, settings):
    from train.data import gabor, patches

    ae, size = runs.load(directory), settings["patch_size"]
    images, _ = patches.load_whitened()
    found = keras_sae.objective(ae, patches.sample_patches(images, settings["patches"], size, settings["seed"]))
    explained = gabor.gabor_fraction_explained(ae.kernel, (size, size))
    return {
        "objective": found.value,
        "rho_hat_mean": found.rho_hat[0].mean(),
        "fraction_gabor": np.mean(explained > gabor.GABOR_LIKE),
    }


def of_color(directory, settings):
    from train import color
    from train.data import patches

    stack, size = runs.load(directory), settings["patch_size"]
    photographs, _ = patches.load_photographs()
    x = patches.cut_patches(photographs, settings["patches"], size, settings["seed"]).astype("float32") / 255
    held_out = patches.cut_patches(photographs, 1000, size, settings["seed"] + 1).astype("float32") / 255
    shares = color.color_shares(color.filters(stack))
    return {
        "objective": keras_sae.objective(stack.autoencoders[0], stack.preprocessing(x).numpy()).value,
        "explained_variance_held_out": keras_sae.evaluate_features(stack, held_out).explained_variance,
        "fraction_color": np.mean(shares > color.COLOR),
        "fraction_grey": np.mean(shares < 1 - color.COLOR),
    }


def of_encoder_problem(directory, settings):
    from train import encoder_problem

    ae, x = runs.load(directory), np.eye(2 ** settings["bits"], dtype="float32")
    return {
        "mse": np.mean((ae(x).numpy() - x) ** 2),
        "distinct_codes": encoder_problem.count_codes(ae.encode(x).numpy()),
    }


AGAIN = {
    "train.mnist": of_digits,
    "train.ladder": of_ladder,
    "train.strokes": of_strokes,
    "train.speech": of_speech,
    "train.patches": of_patches,
    "train.color": of_color,
    "train.encoder_problem": of_encoder_problem,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_the_numbers_of_the_card_are_measured_again_in_full(name):
    directory = presets.ZOO / name
    config, metrics = read_config(directory), read_metrics(directory)
    for key, value in AGAIN[config["program"]](directory, config["settings"]).items():
        assert metrics[key] == pytest.approx(value, rel=1e-3, abs=2e-4), key
