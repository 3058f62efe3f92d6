"""The zoo: every preset loads, computes what its card says, and is in the index."""

import json
import pathlib

import keras
import numpy as np
import pytest

import keras_sae
import models
from keras_sae import presets, runs

PRESETS = models.list_presets()
FOLDER = pathlib.Path(models.__file__).parent


def test_there_is_a_preset_and_each_is_in_the_index():
    assert PRESETS
    index = (FOLDER / "README.md").read_text()
    assert all(f"({name}/README.md)" in index for name in PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_loads_and_its_index_row_gives_its_measured_accuracy(name):
    model = models.from_preset(name)
    metrics = json.loads((FOLDER / name / "metrics.json").read_text())
    probabilities = model(runs.load_examples(FOLDER / name)[0]).numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    (row,) = [line for line in (FOLDER / "README.md").read_text().splitlines() if f"({name}/README.md)" in line]
    assert f"{metrics['accuracy_finetuned']:.2%}".replace("%", " %") in row
    assert f"{metrics['accuracy_greedy']:.2%}".replace("%", " %") in row


def test_the_digit_classifier_knows_the_embedded_digits(digits):
    model = models.from_preset("mnist_784_200_200_10")
    right = model(digits.x_test).numpy().argmax(axis=1) == digits.y_test
    assert right.mean() > 0.99  # they are training digits: what it was fitted to


def test_the_pretrained_stack_gives_digits_back(digits):
    stack = keras.saving.load_model(FOLDER / "mnist_784_200_200_10" / "checkpoints" / "stack.keras", compile=False)
    metrics = json.loads((FOLDER / "mnist_784_200_200_10" / "metrics.json").read_text())
    rho_hat = stack.autoencoders[0].encode(digits.x_train).numpy().mean()
    assert rho_hat == pytest.approx(metrics["rho_hat_mean_1"], abs=0.005)  # of 4,000 of the 60,000 digits
    error = keras_sae.objective(stack.autoencoders[0], digits.x_train).parts["reconstruction"]
    assert error < 9  # half squared error; that of the mean digit is 26


@pytest.mark.parametrize("name", PRESETS)
def test_a_card_is_as_its_record_and_numbers_have_it_and_names_the_preset(name):
    card = (FOLDER / name / "README.md").read_text()
    assert card == runs.card(FOLDER / name)
    assert f'model = keras_sae.from_preset("{name}")' in card
    assert "RUN" not in card
    assert runs.read_config(FOLDER / name)["preset"] == name


def test_the_zoo_is_that_of_the_library():
    assert presets.ZOO == FOLDER
    assert (models.list_presets, models.from_preset) == (keras_sae.list_presets, keras_sae.from_preset)
