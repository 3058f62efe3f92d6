"""Probes of features: units that are the classes themselves, and units that know nothing of them."""

import numpy as np
import pandas as pd
import pytest
import threadpoolctl

import keras_sae
from keras_sae.evaluation.probing import probe_features
from keras_sae.sparsity import TopK


@pytest.fixture(autouse=True)
def _one_thread():
    """Of products so small several threads do little but wait for each other."""
    with threadpoolctl.threadpool_limits(1):
        yield


@pytest.fixture
def data():
    """(rows, classes): a direction for each of three classes among six, and noise."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 400)
    x = 0.05 * rng.normal(size=(400, 6))
    x[np.arange(400), y] += 1 + rng.random(400)
    return x.astype("float32"), y


def dictionary(matrix, k=1):
    """An autoencoder whose units have these directions, (units, features)."""
    ae = keras_sae.SparseAutoencoder(len(matrix), TopK(k), pre_bias=False)
    ae.build((None, matrix.shape[1]))
    ae.encoder.get_layer("hidden").set_weights([matrix.T, np.zeros(len(matrix))])
    ae.output_layer.own_kernel.assign(matrix)
    return ae


def probes(ae, data):
    x, y = data
    return probe_features(ae, (x[:320], y[:320]), (x[320:], y[320:]))


def test_they_are_part_of_an_evaluation(data):
    ae = dictionary(np.eye(6))
    found = keras_sae.evaluate_features(ae, *data, iterations=1, probes=True).probes
    assert set(found) == set(probes(ae, data))
    assert found["probe_1"] == found["linear_probe"] == 1


def test_units_that_are_the_classes(data):
    found = probes(dictionary(np.eye(6)), data)
    assert found["probe_1"] == 1
    assert found["linear_probe"] == 1
    assert set(found) == {"linear_probe", "probe_1", "probe_2", "probe_5", "perturbation"}


def test_units_that_mix_the_classes_need_more_of_them(data):
    mixed = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
    found = probes(dictionary(mixed, k=6), data)
    assert found["probe_1"] < 0.95 < found["linear_probe"]


def test_removal_of_a_class_s_own_units_hurts_its_probe_alone(data):
    """30 units, 10 for each class: without them its probe sees noise, the others lose nothing."""
    matrix = np.repeat(np.eye(6)[:3], 10, axis=0) + 0.01 * np.random.default_rng(0).normal(size=(30, 6))
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    assert probes(dictionary(matrix, k=1), data)["perturbation"] > 0.25
    rotated = np.linalg.qr(np.random.default_rng(1).normal(size=(30, 30)))[0][:, :6]
    rotated /= np.linalg.norm(rotated, axis=1, keepdims=True)
    assert probes(dictionary(rotated, k=30), data)["perturbation"] < 0.25


def test_a_stack_of_several_layers_has_no_units_to_take_out(data):
    stack = keras_sae.StackedAutoencoder([keras_sae.SparseAutoencoder(4), keras_sae.SparseAutoencoder(3)])
    stack.build((None, 6))
    assert "perturbation" not in probes(stack, data)


def test_classes_that_rows_held_out_do_not_have(data):
    x, y = data
    train, others = (x[:300], y[:300]), y[300:] != 2
    found = probe_features(dictionary(np.eye(6)), train, (x[300:][others], y[300:][others]))
    assert found["probe_1"] > 0.95  # of the two classes that are left
    assert "perturbation" in found
    alone = probe_features(dictionary(np.eye(6)), train, (x[:5], np.zeros(5, int)))
    assert alone.keys() == {"linear_probe"}


def test_a_table_held_out(data):
    x, y = data
    held_out = pd.DataFrame(x[300:]), y[300:]
    options = {"iterations": 1, "probes": True}
    found = keras_sae.evaluate_features(dictionary(np.eye(6)), x[:300], y[:300], held_out, **options).probes
    assert found["probe_1"] > 0.95


@pytest.mark.parametrize("option", [{"probes": True}, {"validation_data": (np.zeros((2, 6)), np.zeros(2))}])
def test_options_that_need_labels(option, data):
    with pytest.raises(ValueError, match=r"Expected labels y beside .* to tell classes apart\. Received: none"):
        keras_sae.evaluate_features(dictionary(np.eye(6)), data[0], **option)
