"""The notes' smaller experiments: run(config) on tiny real data, what each leaves behind, and its wrong settings."""

import itertools
import json
import sys

import numpy as np
import pytest

import keras_sae
from keras_sae import runs
from keras_sae.data import datasets
from keras_sae.errors import InputError
from train import (
    cli,
    color,
    compare_sparsity,
    convolution,
    encoder_problem,
    experiment,
    features,
    labels,
    ladder,
    patches,
    pca,
    self_taught,
    softmax,
    strokes,
)

MODULES = (
    color, compare_sparsity, convolution, encoder_problem, labels, ladder, patches, pca, self_taught, softmax, strokes,
)  # fmt: skip
EXPERIMENTS = {module.PROGRAM: module for module in MODULES}


def test_the_encoder_problem_is_solved_by_a_binary_code(run, capsys):
    out, metrics = run(encoder_problem, bits=2, max_iterations=20_000)
    assert metrics["mse"] < 1e-3
    assert metrics["distinct_codes"] == 4
    assert metrics["iterations"] < 20_000
    assert metrics["iterations"] % encoder_problem.CHECK_EVERY == 0
    model = keras_sae.load(out)
    x = np.eye(4, dtype="float32")
    assert float(np.mean((np.asarray(model(x)) - x) ** 2)) == pytest.approx(metrics["mse"], rel=1e-4)
    assert (out / "codes.png").exists()
    table = capsys.readouterr().out.split("rounded\n")[1].splitlines()[:4]
    assert sorted(row.split()[-1] for row in table) == ["00", "01", "10", "11"]


def test_the_encoder_problem_gives_up_after_max_iterations(run):
    _, metrics = run(encoder_problem, bits=3, max_iterations=encoder_problem.CHECK_EVERY)
    assert metrics["iterations"] == encoder_problem.CHECK_EVERY
    assert metrics["mse"] > 1e-3


def test_the_stream_of_batches_goes_round_and_round():
    x = np.eye(4, dtype="float32")
    batches = [batch.numpy() for batch in encoder_problem.endless_batches(x, 3, seed=0).take(4)]
    assert [len(batch) for batch in batches] == [3] * 4
    np.testing.assert_array_equal(np.sum(np.concatenate(batches), axis=0), [3, 3, 3, 3])  # 12 rows: 3 rounds of 4


def test_patches_of_photographs(run):
    _, metrics = run(patches, patches=300, patch_size=6, units=9, max_iterations=15)
    assert metrics["num_train"] == 300
    assert 0 <= metrics["fraction_gabor"] <= 1
    assert 0 < metrics["gabor_explained_median"] <= 1
    assert metrics["rho_hat_mean"] == pytest.approx(0.01, abs=0.3)


def test_the_seed_decides_over_patches_and_weights(tmp_path):
    settings = {"patches": 100, "patch_size": 4, "units": 3, "max_iterations": 3}

    def objective(name, seed):
        return patches.run(patches.Config(out=str(tmp_path / name), seed=seed, **settings), verbose=0)["objective"]

    assert objective("a", 1) == objective("b", 1) != objective("c", 2)


def test_strokes(run, idx_folder):
    out, metrics = run(strokes, data=str(idx_folder), digits=130, units=16, max_iterations=10)
    assert metrics["num_train"] == 130  # of 120 and 40: nothing is held out where no labels are used
    model, images = keras_sae.load(out), datasets.load_idx(idx_folder)
    x = np.concatenate([images.x_train, images.x_test])[:130]
    assert keras_sae.objective(model, x).value == pytest.approx(metrics["objective"], rel=1e-6)
    rho_hat = keras_sae.objective(model, x).rho_hat[0]
    assert metrics["rho_hat_mean"] == pytest.approx(rho_hat.mean(), rel=1e-5)
    assert metrics["rho_hat_max_deviation"] == pytest.approx(abs(rho_hat - 0.1).max(), rel=1e-4)
    assert {path.name for path in out.glob("*.png")} == {"features.png", "rho_hat.png", "curves.png"}


def test_more_digits_than_there_are(idx_folder, tmp_path):
    config = strokes.Config(data=str(idx_folder), digits=161, out=str(tmp_path / "run"))
    with pytest.raises(InputError, match=r"Expected 161 --digits. Received: 160"):
        strokes.run(config, verbose=0)
    assert not (tmp_path / "run").exists()


def test_a_linear_autoencoder_spans_the_principal_subspace(run, idx_folder):
    _, metrics = run(pca, data=str(idx_folder), units=3, max_iterations=600)
    assert metrics["largest_principal_angle"] < 1e-3
    assert metrics["reconstruction_error"] == pytest.approx(metrics["pca_reconstruction_error"], rel=1e-6)
    assert metrics["reconstruction_error"] >= metrics["pca_reconstruction_error"] * (1 - 1e-9)  # none does better


def test_an_untrained_linear_autoencoder_does_not(run, idx_folder):
    _, metrics = run(pca, data=str(idx_folder), units=3, max_iterations=1)
    assert metrics["largest_principal_angle"] > 0.1


def test_as_many_units_as_dimensions(idx_folder, tmp_path):
    with pytest.raises(InputError, match=r"Expected fewer --units than the 120 dimensions. Received: 120"):
        pca.run(pca.Config(data=str(idx_folder), units=120, out=str(tmp_path / "run")), verbose=0)


@pytest.fixture
def pictures(tmp_path):
    """A folder of 24 colour pictures of 3 x 4 pixels in two classes, bright ones and dark ones."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for name, low in [("bright", 156), ("dark", 0)]:
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(low, low + 100, (3, 4, 3)).astype("uint8")
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{number}.png")
    return tmp_path / "pictures"


def test_features_of_pictures_say_what_exports_need_to_know(run, pictures):
    settings = {"data": str(pictures), "image_size": (3, 4), "color": True, "units": (4,), "max_iterations": 2}
    out, metrics = run(features, labels="folders", **settings)
    config = runs.read_config(out)
    assert config["class_names"] == ["bright", "dark"]
    assert config["pixel_range"] == 255
    assert config["image_shape"] == [3, 4, 3]
    x, classes = runs.load_examples(out)
    assert len(x) == len(classes) == metrics["num_held_out"]
    np.testing.assert_array_equal(x.mean(axis=1) < 128, classes == 1)  # as they are in the files, not scaled
    calibration, no_labels = runs.load_examples(out, "calibration.npz")
    assert len(calibration) == metrics["num_train"]
    assert calibration.max() > 200
    assert no_labels is None
    assert not (x[:, None] == calibration).all(axis=2).any()


def test_features_of_a_table_are_no_pictures(run, tmp_path):
    np.save(tmp_path / "table.npy", np.random.default_rng(0).uniform(size=(30, 5)))
    out, _ = run(features, data=str(tmp_path / "table.npy"), units=(3,), max_iterations=2)
    assert {"class_names", "pixel_range", "image_shape"} & set(runs.read_config(out)) == set()
    assert runs.load_examples(out)[1] is None


def test_labels(run, idx_folder):
    out, metrics = run(labels, data=str(idx_folder), labels=(20, 60_000), units=(16,), max_iterations=8)
    ways = [f"accuracy_{way}_{number}" for number in (20, 120) for way in ("head", "pretrained", "scratch")]
    expected = {f"{way}{end}" for way in ways for end in ("", "_low", "_high")}  # 60,000: at most all 120
    assert {name for name in metrics if name.startswith("accuracy")} == expected
    assert metrics["accuracy_pretrained_120"] > 0.2
    assert (out / "accuracy.png").exists()
    model, images = keras_sae.load(out), datasets.load_idx(idx_folder)  # the last: pretrained, with all labels
    right = np.asarray(model(images.x_test)).argmax(axis=1) == images.y_test
    assert right.mean() == pytest.approx(metrics["accuracy_pretrained_120"])


def test_methods_of_sparsity_side_by_side(run, idx_folder):
    settings = {"methods": ("top_k", "kl"), "active": (2, 4), "units": (12, 9), "epochs": 1, "seeds": (0, 1)}
    out, metrics = run(compare_sparsity, data=str(idx_folder), **settings)
    results = json.loads((out / "results.json").read_text())
    names = itertools.product(("top_k", "kl"), (9, 12), (2, 4), (0, 1))
    assert set(results) == {"_".join(map(str, name)) for name in names}
    assert all(0 < results[f"top_k_9_{active}_0"]["numbers"]["l0"] <= active for active in (2, 4))
    assert [results[f"top_k_{units}_4_0"]["units"] for units in (9, 12)] == [9, 12]
    assert metrics["num_train"] + metrics["num_held_out"] == 120
    best = max(results, key=lambda name: results[name]["numbers"]["accuracy_held_out"])
    assert keras_sae.load(out).name == best
    table = (out / "comparison.md").read_text().splitlines()[2:]
    settings = itertools.product(("| top_k", "| kl"), ("9", "12"), ("2", "4"))
    assert [tuple(line.split(" | ")[:3]) for line in table] == list(settings)
    values = [results[f"top_k_9_2_{seed}"]["numbers"]["explained_variance"] for seed in (0, 1)]
    assert f"{np.mean(values):.4f} ± {np.std(values):.4f}" in table[0]  # over seeds
    assert (out / "comparison.png").exists()


def test_a_comparison_goes_on_with_what_is_missing(run, idx_folder, monkeypatch, tmp_path):
    settings = {"data": str(idx_folder), "methods": ("top_k",), "active": (2, 3), "units": (8,), "epochs": 1}
    measure, out = compare_sparsity.measure, tmp_path / "stopped"

    def stops(autoencoder, *rows):
        return measure(autoencoder, *rows) if autoencoder.sparsity.k < 3 else 1 / 0

    monkeypatch.setattr(compare_sparsity, "measure", stops)
    with pytest.raises(ZeroDivisionError):
        compare_sparsity.run(compare_sparsity.Config(out=str(out), **settings), verbose=0)
    first = json.loads((out / "results.json").read_text())
    assert set(first) == {"top_k_8_2_0"}
    monkeypatch.setattr(compare_sparsity, "measure", measure)
    compare_sparsity.run(compare_sparsity.Config(resume=str(out), **settings), verbose=0)
    second = json.loads((out / "results.json").read_text())
    assert second["top_k_8_2_0"] == first["top_k_8_2_0"]  # its seconds too: it was not trained again
    assert "top_k_8_3_0" in second


def test_a_ladder_network_with_few_labels(run, idx_folder):
    settings = {"units": (12, 8), "labels": 20, "held_out": 30, "epochs": 2, "last_epochs": 2, "batch_size": 20}
    out, metrics = run(ladder, data=str(idx_folder), **settings)
    assert (metrics["num_train"], metrics["num_test"]) == (80, 40)  # four minibatches of the 90 that are not held out
    assert 10 <= metrics["num_labels"] <= 20
    model, images = keras_sae.load(out), datasets.load_idx(idx_folder)
    right = np.asarray(model(images.x_test)).argmax(axis=1) == images.y_test
    assert right.mean() == pytest.approx(metrics["accuracy"])
    assert 0 <= metrics["accuracy_held_out"] <= 1
    assert [type(layer).__name__ for layer in model.get_layer("encoder").layers[1:]] == ["Dense", "Dense"]


def test_a_ladder_network_begins_with_what_layers_learned(run, idx_folder, monkeypatch):
    began = []
    start = keras_sae.LadderClassifier.start_from
    monkeypatch.setattr(
        keras_sae.LadderClassifier, "start_from", lambda self, *args: (start(self, *args), began.append(args))
    )
    settings = {"units": (12, 8), "epochs": 1, "last_epochs": 1, "batch_size": 20, "pretrain": 40}
    _, metrics = run(ladder, data=str(idx_folder), **settings)
    assert {"seconds_layer_1", "seconds_layer_2", "seconds_ladder"} <= metrics.keys()
    [(stack, rows)] = began
    assert [autoencoder.units for autoencoder in stack.autoencoders] == [12, 8]
    assert len(rows) == 120
    assert keras_sae.evaluate_features(stack.autoencoders[0], rows).explained_variance > 0.2  # units that died have 0


def test_the_rate_of_a_ladder_network_falls_in_a_line():
    schedule = experiment.falling_rate(0.8, 3, 4).schedule
    found = [schedule(epoch, 0.8) for epoch in range(7)]
    np.testing.assert_allclose(found, [0.8, 0.8, 0.8, 0.8, 0.6, 0.4, 0.2])


def test_a_ladder_network_needs_a_minibatch(run, idx_folder):
    with pytest.raises(InputError, match=r"leave no minibatch. Expected 100 rows or more to learn from. Received: 120"):
        run(ladder, data=str(idx_folder), held_out=60)


WRONG = {
    (ladder, "--noise", "-1"): "--noise expects 0 or more. Received: -1.0",
    (ladder, "--labels", "5"): "--labels expects 10 or more. Received: 5",
    (ladder, "--batch-size", "1"): "--batch-size expects 2 or more. Received: 1",
    (compare_sparsity, "--methods", "magic"): "--methods expects some of top_k, k_sparse",
    (compare_sparsity, "--active", "600"): "--active expects 1 to --units. Received: (600,)",
    (compare_sparsity, "--epochs", "0"): "--epochs expects 1 or more. Received: 0",
    (encoder_problem, "--bits", "0"): "--bits expects 1 to 8. Received: 0",
    (encoder_problem, "--learning-rate", "0"): "--learning-rate expects more than 0. Received: 0.0",
    (encoder_problem, "--momentum", "1"): "--momentum expects 0 or more and below 1. Received: 1.0",
    (encoder_problem, "--batch-size", "0"): "--batch-size expects 1 or more. Received: 0",
    (encoder_problem, "--target-error", "0"): "--target-error expects more than 0. Received: 0.0",
    (patches, "--patches", "1"): "--patches expects 2 or more. Received: 1",
    (patches, "--patch-size", "1"): "--patch-size expects 2 pixels or more. Received: 1",
    (patches, "--images", "nowhere"): "Expected IMAGES.mat or a directory of photographs. Received: nowhere",
    (color, "--patches", "1"): "--patches expects 2 or more. Received: 1",
    (color, "--patch-size", "1"): "--patch-size expects 2 pixels or more. Received: 1",
    (color, "--epsilon", "0"): "--epsilon expects a finite variance above 0. Received: 0.0",
    (color, "--images", "nowhere"): "Expected a directory of photographs. Received: nowhere, which is no directory.",
    (convolution, "--patches", "1"): "--patches expects 2 or more. Received: 1",
    (convolution, "--patch-size", "1"): "--patch-size expects 2 pixels or more. Received: 1",
    (convolution, "--pool-size", "0"): "--pool-size expects 1 place or more. Received: 0",
    (convolution, "--data", "nowhere"): "Expected a directory with IDX files. Received: nowhere",
    (self_taught, "--units", "0"): "--units expects 1 or more hidden units. Received: 0",
    (self_taught, "--data", "nowhere"): "Expected a directory with IDX files. Received: nowhere",
    (softmax, "--weight-decay", "-1"): "--weight-decay expects a finite number of 0 or more. Received: -1.0",
    (softmax, "--data", "nowhere"): "Expected a directory with IDX files. Received: nowhere",
    (strokes, "--digits", "0"): "--digits expects 1 or more. Received: 0",
    (
        strokes,
        "--rho",
        "1.5",
    ): "--rho expects a mean activation between 0 and 1 (exclusive), such as 0.1. Receiv",
    (strokes, "--data", "nowhere"): "Expected a directory with IDX files. Received: nowhere",
    (labels, "--labels", "0"): "--labels expects 1 or more. Received: (0,)",
    (labels, "--units", "4", "0"): "--units expects 1 or more hidden units. Received: (4, 0)",
    (pca, "--seed", "-1"): "--seed expects a whole number from 0 to 4294967295. Received: -1",
}


@pytest.mark.parametrize("case", WRONG, ids=lambda case: " ".join([case[0].PROGRAM, *case[1:]]))
def test_wrong_settings_end_with_one_line(case, monkeypatch, capfd, tmp_path):
    module, *flags = case
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["program", *flags])
    with pytest.raises(SystemExit) as ended:
        cli.main(module.Config, module.run, module.PROGRAM, module.__doc__)
    assert ended.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"{module.PROGRAM}: error: {WRONG[case]}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("program", EXPERIMENTS)
def test_help_teaches(program, monkeypatch, capsys):
    module = EXPERIMENTS[program]
    monkeypatch.setattr(sys, "argv", ["program", "--help"])
    with pytest.raises(SystemExit) as ended:
        cli.main(module.Config, module.run, module.PROGRAM, module.__doc__)
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert f"python -m {program}" in text
    assert "--seed" in text
    assert "default: a new one in runs/" in " ".join(text.split())
    assert "--resume" in text
