"""train.features: data of every kind, what a run leaves behind, and how it ends for people's mistakes."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

import keras_sae
from keras_sae import runs
from keras_sae.data import datasets
from keras_sae.data.readers import Rows
from keras_sae.errors import InputError
from tests.train.conftest import interrupt_at
from train import cli, experiment, features, memory, parts, schema

ROOT = pathlib.Path(__file__).parents[2]
ROWS, SIDE = 60, 7
ALL = {
    "run.json", "metrics.json", "model.keras", "README.md", "examples.npz", "calibration.npz", "features.png",
    "curves.png", "rho_hat.png",
}  # fmt: skip
QUICK = {"units": (5,), "max_iterations": 2}


def chosen(digits):
    return np.concatenate([np.flatnonzero(digits.y_train == digit)[: ROWS // 3] for digit in range(3)])


@pytest.fixture(scope="module")
def images(digits):
    """60 real digits of three classes, made smaller: uint8 (60, 7, 7)."""
    blocks = digits.x_train[chosen(digits)].reshape(ROWS, SIDE, 4, SIDE, 4).mean(axis=(2, 4))
    return np.round(255 * blocks).astype("uint8")


@pytest.fixture(scope="module")
def classes(digits):
    return digits.y_train[chosen(digits)]


@pytest.fixture(scope="module")
def table(images):
    """Real numbers in units of their own, float64 (60, 5): what some regions of the digits weigh."""
    regions = np.stack([images[:, i : i + 3].sum(axis=(1, 2)) for i in range(5)], axis=1)
    return regions / [255, 25500, 0.255, 255, 255] + [0, 7, 0, -1000, 0]


def write_npy(folder, images, classes, table):
    np.save(folder / "x.npy", images)
    np.save(folder / "y.npy", classes)
    return folder / "x.npy", folder / "y.npy"


def write_npz(folder, images, classes, table):
    np.savez(folder / "x.npz", x=table, kind=np.array(["zero", "one", "two"])[classes])
    return folder / "x.npz", "kind"


def columns(classes, table):
    return {f"region {i}": column for i, column in enumerate(table.T)} | {"digit": classes}


def write_csv(folder, images, classes, table):
    named = columns(classes, table)
    lines = [",".join(named), *(",".join(map(str, row)) for row in zip(*named.values(), strict=True))]
    (folder / "x.csv").write_text("\n".join(lines))
    return folder / "x.csv", "digit"


def write_safetensors(folder, images, classes, table):
    save = pytest.importorskip("safetensors.numpy").save_file
    save({"activations": table.astype("float16"), "digit": classes}, folder / "x.safetensors")
    return folder / "x.safetensors", "digit"


def write_parquet(folder, images, classes, table):
    pyarrow.parquet.write_table(pyarrow.table(columns(classes, table)), folder / "x.parquet")
    return folder / "x.parquet", "digit"


def write_tfrecord(folder, images, classes, table):
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(folder / "x.tfrecord")) as writer:
        for row, label in zip(table, classes, strict=True):
            feature = {
                "row": tf.train.Feature(float_list=tf.train.FloatList(value=row)),
                "digit": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    return folder / "x.tfrecord", "digit"


def write_images(folder, images, classes, table):
    for i, (image, label) in enumerate(zip(images, classes, strict=True)):
        (folder / "images" / f"class {label}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / "images" / f"class {label}" / f"{i:03}.png")
    return folder / "images", "folders"


def write_nothing(folder, images, classes, table):
    return "tfds:own_digits", "label"


# Kind of data -> (what writes it and names data and labels, whether with labels, settings, image shape).
KINDS = {
    "npy": (write_npy, False, {}, [SIDE, SIDE]),
    "npz": (write_npz, True, {"whiten": True}, None),
    "csv": (write_csv, True, {"units": (5, 3)}, None),
    "parquet": (write_parquet, True, {"optimizer": "adam"}, None),
    "safetensors": (write_safetensors, True, {"feature": "activations"}, None),
    "tfrecord": (write_tfrecord, True, {"feature": "row"}, None),
    "grey": (write_images, False, {"image_size": (6,), "contrast": True}, [6, 6]),
    "colour": (write_images, True, {"color": True, "image_size": (4, 5), "whiten": True}, [4, 5, 3]),
    "tfds": (write_nothing, False, {"contrast": True, "whiten": True}, [SIDE, SIDE]),
}


@pytest.fixture
def own_digits(monkeypatch, tmp_path, images, classes):
    """The digits as tfds:own_digits."""
    tfds = pytest.importorskip("tensorflow_datasets")

    class OwnDigits(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            shape = tfds.features.Image(shape=(SIDE, SIDE, 1))
            digit = {"image": shape, "label": tfds.features.ClassLabel(num_classes=3)}
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(digit))

        def _split_generators(self, manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for i, (image, label) in enumerate(zip(images, classes, strict=True)):
                yield i, {"image": image[..., None], "label": label}

    builder = OwnDigits(data_dir=tmp_path / "tfds")
    builder.download_and_prepare()
    monkeypatch.setattr(datasets, "tensorflow_datasets_builder", lambda name, download: {"own_digits": builder}[name])


def train(out, data, **settings):
    """The metrics of a short run."""
    return features.run(features.Config(data=str(data), out=str(out), **{**QUICK, **settings}), verbose=0)


OFTEN = ("csv", "npz")  # tested; the others, which readers have tests of, with --run-slow


@pytest.mark.parametrize("kind", [pytest.param(k, marks=[] if k in OFTEN else pytest.mark.slow) for k in KINDS])
def test_data_of_every_kind(kind, images, classes, table, tmp_path, request):
    write, with_labels, settings, shape = KINDS[kind]
    if kind == "tfds":
        request.getfixturevalue("own_digits")
    data, labels = write(tmp_path, images, classes, table)
    out = tmp_path / "run"
    metrics = train(out, data, labels=str(labels) if with_labels else None, **settings)
    assert json.loads((out / "metrics.json").read_text()) == metrics
    assert all(np.isfinite(value) for value in metrics.values())
    assert (metrics["num_train"], metrics["num_held_out"]) == (54, 6)
    assert metrics["error_train"] > 0
    config = runs.read_config(out)
    assert config.get("image_shape") == shape
    assert config["settings"]["max_iterations"] == 2
    assert isinstance(config["notes"], list)
    assert config["command"].startswith(f"python -m train.features --out {out} ")
    expected = ALL | ({"reconstructions.png"} if shape else set()) | ({"pretrained.keras"} if with_labels else set())
    assert {path.name for path in out.iterdir() if path.is_file()} == expected
    assert list((out / "checkpoints").iterdir()) == []
    check_raw_rows(out, with_labels)
    if with_labels:
        names = {"npz": ["one", "two", "zero"], "colour": [f"class {i}" for i in range(3)]}
        assert config["class_names"] == names.get(kind, ["0", "1", "2"])
        assert keras_sae.load(out).output_shape == (None, 3)
        for name in ("accuracy_greedy", "accuracy_finetuned", "accuracy_commonest"):
            assert round(6 * metrics[name]) / 6 == metrics[name]


def check_raw_rows(out, with_labels):
    """What is loaded takes rows as they are, and gives what its layers give for the rows scaled."""
    model, x = keras_sae.load(out), runs.load_examples(out)[0]
    encoder = model.get_layer("encoder") if with_labels else model
    preprocessing = encoder.get_layer("preprocessing") if with_labels else model.preprocessing
    scaled = h = np.asarray(preprocessing(x))
    assert 0 <= scaled.min() < scaled.max() <= 1
    hidden = [layer for layer in encoder.layers if layer.name.startswith("hidden")]
    for layer in hidden if with_labels else [autoencoder.encoder for autoencoder in model.autoencoders]:
        h = np.asarray(layer(h))
    np.testing.assert_allclose(keras_sae.load_encoder(out, finetuned=True)(x), h, rtol=1e-5, atol=1e-6)
    result = model.get_layer("head")(h) if with_labels else model.decode(h)
    np.testing.assert_allclose(model(x), result, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def npy(images, classes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("npy")
    return write_npy(folder, images, classes, None)


@pytest.fixture(scope="module")
def run(npy, tmp_path_factory):
    """(run directory, metrics) of two layers on the images as float64, with labels."""
    folder = tmp_path_factory.mktemp("runs")
    np.save(folder / "x.npy", np.load(npy[0]).reshape(ROWS, -1)[:, 10:30] * 3.5)
    return folder, train(folder / "run", folder / "x.npy", **TWO, labels=str(npy[1]))


TWO = {"units": (5, 3), "max_iterations": 3}


def without_times(metrics):
    return {name: value for name, value in metrics.items() if not name.startswith("seconds")}


def models_differ_by(one, other):
    return max(
        np.abs(a - b).max()
        for a, b in zip(keras_sae.load(one).get_weights(), keras_sae.load(other).get_weights(), strict=True)
    )


def test_data_that_do_not_fit_into_memory_give_the_same_run(run, npy, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "IN_MEMORY", 0)
    folder, expected = run
    metrics = train(tmp_path / "run", folder / "x.npy", **TWO, labels=str(npy[1]))
    assert without_times(metrics) == pytest.approx(without_times(expected), rel=1e-3, abs=1e-4)
    assert models_differ_by(tmp_path / "run", folder / "run") < 1e-2
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


def test_labels_leave_the_features_as_they_were_learned(run, npy, tmp_path):
    """`load_encoder` gives what a run without labels gives; the network that learned from them is asked for."""
    folder, _ = run
    train(tmp_path / "run", folder / "x.npy", **TWO)
    x = runs.load_examples(folder / "run")[0]
    without = np.asarray(keras_sae.load_encoder(tmp_path / "run")(x))
    np.testing.assert_allclose(keras_sae.load_encoder(folder / "run")(x), without, atol=1e-6)
    tuned = np.asarray(keras_sae.load_encoder(folder / "run", finetuned=True)(x))
    assert np.abs(tuned - without).max() > 1e-4
    assert runs.load_pretrained(tmp_path / "run") is None


def test_rows_held_out_have_no_influence(run, npy, tmp_path):
    folder, expected = run
    x = np.load(folder / "x.npy")
    _, held_out = features.split(ROWS, 0)
    x[held_out] = 1e6 * x[held_out] - 5e5
    np.save(tmp_path / "x.npy", x)
    metrics = train(tmp_path / "run", tmp_path / "x.npy", **TWO, labels=str(npy[1]))
    assert models_differ_by(tmp_path / "run", folder / "run") == 0
    assert metrics["error_train"] == expected["error_train"]
    assert metrics["error_mean"] == expected["error_mean"]
    assert metrics["error_held_out"] != expected["error_held_out"]


def test_a_run_that_was_stopped_goes_on_to_the_same_numbers(run, npy, tmp_path, monkeypatch):
    folder, expected = run
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5)  # in the second layer
        patch.setattr(parts, "IN_MEMORY", 0)  # with features on disk
        with pytest.raises(KeyboardInterrupt):
            train(out, folder / "x.npy", **TWO, labels=str(npy[1]))
        assert (out / "checkpoints" / "features_1.npy").exists()
        with pytest.raises(InputError, match="a run that did not finish"):
            keras_sae.load(out)
        config = cli.resumed(features.Config, features.PROGRAM, str(out))
        metrics = features.run(config, verbose=0)
    assert without_times(metrics) == pytest.approx(without_times(expected), rel=1e-3, abs=1e-4)
    assert models_differ_by(out, folder / "run") < 1e-2
    assert list((out / "checkpoints").iterdir()) == []


def test_an_export_of_the_run_takes_raw_rows_and_passes_its_check(run, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "export", str(run[0] / "run"), "--out", str(tmp_path / "export")],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "export" / "encoder.tflite").exists()


def test_penalties_are_in_proportion_to_the_variance_unless_given(images, tmp_path):
    from keras_sae.data.preprocessing import fit_preprocessing

    x = images.reshape(ROWS, -1)
    steps = fit_preprocessing(x, value_range=(0, 255))
    half = schema.measure(steps, x).half_variance
    assert half == pytest.approx((x / 255).var(axis=0).sum() / 2, rel=1e-5)
    stack = features.untrained(features.Config(data="x", units=(5, 3), rho=0.2), steps, half, 100)
    first, second = stack.autoencoders
    assert (first.sparsity.beta, first.weight_decay) == pytest.approx((0.1 * half, 1e-4 * half))
    assert (second.sparsity.beta, second.weight_decay) == pytest.approx((0.1 * 5 * 0.08, 1e-4 * 5 * 0.08))
    given = features.untrained(features.Config(data="x", units=(5, 3), beta=0.0, weight_decay=2.0), steps, half, 100)
    assert [(ae.sparsity.beta, ae.weight_decay) for ae in given.autoencoders] == [(0.0, 2.0)] * 2


def test_the_same_numbers_train_alike_in_every_type_and_format(images, classes, tmp_path):
    """Binary pixels, which no type tells from grey levels; also a table of them without the columns that are all 0."""
    x = (images > 127).reshape(ROWS, -1)
    x = x[:, x.any(axis=0) & ~x.all(axis=0)]
    np.save(tmp_path / "y.npy", classes)
    for dtype in ("float32", "uint8"):
        np.save(tmp_path / f"{dtype}.npy", x.astype(dtype))
    named = {f"p{i}": column for i, column in enumerate(x.T)}
    pyarrow.parquet.write_table(pyarrow.table({**named, "digit": classes}), tmp_path / "bool.parquet")
    found = []
    for name, labels in (
        ("float32.npy", tmp_path / "y.npy"),
        ("uint8.npy", tmp_path / "y.npy"),
        ("bool.parquet", "digit"),
    ):
        metrics = train(tmp_path / f"run {name}", tmp_path / name, labels=str(labels), units=(12,), max_iterations=10)
        found.append(without_times(metrics))
    assert found[0]["accuracy_greedy"] > found[0]["accuracy_commonest"]
    assert found[1:] == [found[0]] * 2


def test_a_run_records_what_its_columns_are(images, classes, table, tmp_path):
    table[3, 1] = 1e9
    data, labels = write_csv(tmp_path, images, classes, table)
    train(tmp_path / "run", data, labels=labels)
    config = runs.read_config(tmp_path / "run")
    assert config["feature_names"] == [f"region {i}" for i in range(5)]
    assert config["class_names"] == ["0", "1", "2"]
    rows = table[features.split(ROWS, 0)[0]]
    np.testing.assert_allclose(config["low"], rows.min(axis=0), rtol=1e-5, atol=1e-5)
    others = [0, 2, 3, 4]
    np.testing.assert_allclose(np.array(config["high"])[others], rows.max(axis=0)[others], rtol=1e-4, atol=1e-3)
    assert config["high"][1] < 1e6
    assert (
        "values far beyond the others of their column, in training rows, are cut off: region 1 (1)" in config["notes"]
    )


def test_a_run_records_which_errors_of_held_out_rows_are_usual(run):
    """Those of the stack before the labels: ranks of 6 errors, and the largest of each of 20 columns."""
    folder, _ = run
    record = runs.read_config(folder / "run")["usual_errors"]
    held_out = np.load(folder / "x.npy")[features.split(ROWS, 0)[1]]
    stack = runs.load_pretrained(folder / "run")
    terms = stack.reconstruction_error(held_out, per_feature=True)
    errors = np.sort(terms.sum(axis=1))
    assert (record["rows"], len(record["columns"])) == (6, 20)
    expected = {"0.5": errors[3], "0.9": errors[5], "0.95": errors[5], "0.99": errors[5], "0.999": errors[5]}
    assert record["quantiles"] == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(record["columns"], terms.max(axis=0), rtol=1e-4)
    assert "## Odd rows" in (folder / "run" / "README.md").read_text()


@pytest.mark.parametrize(("number", "held"), [(2, 1), (19, 1), (60, 6), (1009, 100)])
def test_a_tenth_is_held_out(number, held):
    rest, held_out = features.split(number, 3)
    assert len(held_out) == held
    np.testing.assert_array_equal(np.sort(np.concatenate([rest, held_out])), np.arange(number))
    assert np.all(np.diff(rest) > 0)
    np.testing.assert_array_equal(features.split(number, 3)[1], held_out)
    if number > 1000:
        assert not np.array_equal(features.split(number, 4)[1], held_out)


def test_notes_of_what_may_not_be_meant(images, table, tmp_path):
    np.save(tmp_path / "x.npy", images)
    constant = int((images.reshape(ROWS, -1) == images[0].ravel()).all(axis=0).sum())
    rows, notes = features.read(features.Config(data=str(tmp_path / "x.npy")))
    assert notes == [f"{constant} of 49 features have one value in all rows"]
    assert rows.image_shape == (SIDE, SIDE)
    data, _ = write_csv(tmp_path, images, np.arange(ROWS), table)
    _, notes = features.read(features.Config(data=str(data)))
    assert notes == ["digit counts the rows, as an identifier does: --ignore it unless it is meant"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_columns_with_one_value_are_noted_as_in_arrays(kind, tmp_path):
    columns = {"label": [0, 1] * 10, "pixel0": [0] * 20, "pixel1": list(range(0, 40, 2)), "pixel2": [7] * 20}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "x.parquet")
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    (tmp_path / "x.csv").write_text("\n".join(lines))
    settings = {"data": (str(tmp_path / f"x.{kind}"),), "labels": "label"}
    rows, notes = features.read(features.Config(**settings))
    assert rows.x.shape == (20, 3)
    said = "2 of 3 features have one value in all rows: pixel0, pixel2; --drop constant leaves them out"
    assert notes == ["2 classes: 0 10, 1 10", said]
    assert features.read(features.Config(**settings, drop="constant"))[1] == notes[:1]


def test_columns_of_one_value_in_training_rows_are_dropped_and_units_go_by_those_that_are_left(tmp_path):
    number = 20
    held_out = set(features.split(number, 0)[1])
    lines = ["id,same,mostly,a,b", *(f"{7 * i},3,{int(i in held_out)},{i % 4},{i % 5}" for i in range(number))]
    (tmp_path / "x.csv").write_text("\n".join(lines))
    train(tmp_path / "run", tmp_path / "x.csv", units=None, ignore=("id",), drop="constant")
    record, model = runs.read_config(tmp_path / "run"), keras_sae.load(tmp_path / "run")
    assert model.encoder.input_shape == (None, 2)
    assert [layer.units for layer in model.autoencoders] == [4]
    assert (record["feature_names"], record["low"], record["high"]) == (["a", "b"], [0, 0], [3, 4])
    assert (record["dropped"], record["settings"]["units"]) == (["same", "mostly"], [4])
    assert "left out, as they have one value in all training rows: same, mostly" in record["notes"]
    card = (tmp_path / "run" / "README.md").read_text()
    assert "| column | becomes 0 | becomes 1 |\n|---|---|---|\n| a | 0 | 3 |\n| b | 0 | 4 |\n" in card
    assert record["command"].endswith("--units 4")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("flags", [{"columns": ("c", "a")}, {"ignore": ("id", "text")}], ids=["columns", "ignore"])
def test_columns_of_a_table_are_chosen_or_left_out(kind, flags, tmp_path):
    """Whatever the others hold."""
    columns = {
        "id": range(20),
        "a": [i % 7 for i in range(20)],
        "text": ["u", "v"] * 10,
        "c": [i % 5 for i in range(20)],
    }
    pyarrow.parquet.write_table(
        pyarrow.table({name: list(values) for name, values in columns.items()}), tmp_path / "x.parquet"
    )
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    (tmp_path / "x.csv").write_text("\n".join(lines))
    rows, notes = features.read(features.Config(data=(str(tmp_path / f"x.{kind}"),), **flags))
    expected = flags.get("columns", ("a", "c"))
    assert rows.feature_names == expected
    np.testing.assert_array_equal(rows.x[:, expected.index("a")], columns["a"])
    assert notes == ["left out: id, text"]


def test_the_texts_of_columns_of_0_and_1_are_recorded(tmp_path):
    lines = [f"{i % 7},{'red' if i % 3 else 'blue'}" for i in range(30)]
    (tmp_path / "x.csv").write_text("\n".join(["a,colour", *lines]))
    train(tmp_path / "run", tmp_path / "x.csv", one_hot=True)
    config = runs.read_config(tmp_path / "run")
    assert config["feature_names"] == ["a", "colour=blue", "colour=red"]
    assert config["categories"] == {"colour": ["blue", "red"]}
    assert "--one-hot" in config["command"]


def test_what_was_read_and_left_out_is_printed_and_kept(images, classes, tmp_path, capsys):
    folder, _ = write_images(tmp_path, images, classes, None)
    (folder / "class 1" / "photo.heic").touch()
    train(tmp_path / "run", folder, labels="folders")
    expected = ["60 files: 60 png", "left out: 1 heic", "3 classes: class 0 20, class 1 20, class 2 20"]
    notes = runs.read_config(tmp_path / "run")["notes"]
    assert notes[:3] == expected
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note")]
    assert printed == [f"note        {note}" for note in notes]


def test_rows_of_a_table_are_drawn_as_images_of_the_shape_that_is_given(images, tmp_path):
    np.save(tmp_path / "x.npy", images.reshape(ROWS, -1))
    train(tmp_path / "run", tmp_path / "x.npy", image_shape=(SIDE, SIDE))
    assert (tmp_path / "run" / "reconstructions.png").exists()
    config = runs.read_config(tmp_path / "run")
    assert (config["image_shape"], config["pixel_range"]) == ([SIDE, SIDE], 255)


@pytest.mark.parametrize(("shape", "expected"), [((2, 6), (2, 6)), ((12, 1, 1), (12, 1)), ((2, 2, 3), (2, 2, 3))])
def test_the_shape_of_images_that_are_rows(shape, expected):
    assert features.as_images(Rows(np.zeros((5, 12)), source="x.csv"), shape) == expected


def test_every_class_has_its_turn_among_the_rows_that_are_shown():
    labels = np.repeat([0, 1, 2], [70, 20, 3])
    rows = features.shown(len(labels), labels)
    np.testing.assert_array_equal(rows, [*range(7), *range(70, 76), 90, 91, 92])
    np.testing.assert_array_equal(features.shown(5, np.array([1, 0, 1, 0, 1])), [1, 3, 0, 2, 4])
    many = features.shown(100, np.arange(100) % 50)
    np.testing.assert_array_equal(many, range(16))


def test_without_labels_rows_from_first_to_last_are_shown():
    np.testing.assert_array_equal(features.shown(3), [0, 1, 2])
    np.testing.assert_array_equal(features.shown(160), range(0, 160, 10))
    assert len(features.shown(161)) <= 16


def test_what_speaks_against_a_run_stands_on_its_card(npy, tmp_path, capsys):
    train(tmp_path / "run", npy[0], labels=str(npy[1]), max_iterations=1, beta=0.0)
    cautions = runs.read_config(tmp_path / "run")["cautions"]
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("caution")]
    assert printed == [f"caution     {caution}" for caution in cautions] != []
    text = (tmp_path / "run" / "README.md").read_text()
    assert all(f"- {caution}\n" in text for caution in cautions)


@pytest.mark.parametrize("name", ["x.npy", "x.csv"])
def test_rows_that_differ_in_float64_alone_are_refused_with_the_cause(name, tmp_path):
    x = 1e9 + np.random.default_rng(0).uniform(size=(20, 2))
    if name == "x.npy":
        np.save(tmp_path / name, x)
    else:
        np.savetxt(tmp_path / name, x, "%.6f", ",", header="a,b", comments="")
    with pytest.raises(InputError) as caught:
        features.read(features.Config(data=(str(tmp_path / name),)))
    assert "whose rows are all the same. float32, in which models compute, loses what varies in column" in str(
        caught.value
    )
    assert str(caught.value).endswith("in float32 0 times; subtract its least value first")


def test_rows_held_out_that_are_equal_to_training_rows_are_counted():
    x = np.array([[1, 2], [3, 4], [-0.0, 0], [1, 2], [0, 0], [3, 5], [3, 4.000000001]])
    [note] = schema.equal_rows(x, np.array([0, 1, 2]), np.array([3, 4, 5, 6]))
    assert note.startswith("3 of 4 rows held out are equal to rows that are trained on, so that what is measured on")
    assert schema.equal_rows(x, np.array([0, 1]), np.array([2, 5])) == []


def test_what_a_training_takes_is_said_before_and_refused_beyond_what_is_free(monkeypatch):
    """Two matrices between each two layers: 280 bytes a weight by L-BFGS, and 60 a number of 10,000 rows at most."""
    assert memory.needed_bytes(100, 50, (20, 10), "lbfgs") == 280 * 2 * (50 * 20 + 20 * 10) + 60 * 100 * 50
    assert memory.needed_bytes(10**6, 50, (20,), "adam") == 50 * 2 * 50 * 20 + 60 * 10**4 * 50
    assert memory.check(10**9, None) == []
    monkeypatch.setattr(memory, "free_bytes", lambda: 3e9)
    less = "fewer --units, smaller images or --optimizer adam take less"
    assert memory.check(2_200_000_000, None) == [f"training takes about 2.2 GB of memory; {less}"]
    for allowed, words in ((None, "3.0 GB of memory that are free"), (2.5, "2.5 GB of memory that --memory allows")):
        with pytest.raises(InputError) as caught:
            memory.check(4_200_000_000, allowed)
        assert str(caught.value) == (
            f"Expected a training that takes at most the {words}. Received: one that takes 4.2 GB: {less}; --memory 5 "
            "allows it."
        )


def test_the_memory_that_is_free_is_known():
    assert 1e7 < memory.free_bytes() < 1e14


def test_accuracies_have_intervals(run):
    _, metrics = run
    low, high = (metrics[f"accuracy_finetuned_{end}"] for end in ("low", "high"))
    assert low < metrics["accuracy_finetuned"] < high or metrics["accuracy_finetuned"] in (0, 1)
    assert (low, high) == experiment.wilson_interval(metrics["accuracy_finetuned"], 6)


@pytest.fixture
def refused(monkeypatch, capfd, tmp_path):
    """refused(*flags) -> the one line with which the command ended; it began no run."""
    monkeypatch.chdir(tmp_path)

    def refused(*flags):
        monkeypatch.setattr(sys, "argv", ["features", *map(str, flags)])
        with pytest.raises(SystemExit) as ended:
            cli.main(features.Config, features.run, features.PROGRAM, features.__doc__)
        assert ended.value.code == 2
        assert not (tmp_path / "runs").exists()
        [line] = [text for text in capfd.readouterr().err.splitlines() if "cuInit" not in text]
        assert line.startswith("train.features: error: ")
        return line.removeprefix("train.features: error: ")

    return refused


# Texts of csv files: (text, flags, what the line says).
WRONG = {
    "text": ("a,b\n1,u\n2,v\n", [], "Expected columns of numbers. Received: 'b' (string: 'u') in x.csv"),
    "missing values": ("a,b\n1,2\n3,\n", [], "Expected a value in every row. Received: none in column 'b', row 2 "),
    "equal rows": ("a,b\n1,2\n1,2\n", [], "Expected rows that differ. Received: columns of x.csv, whose rows are all"),
    "rows that float32 makes equal": ("a\n1700000000.25\n1700000000.75\n", [], "Expected rows that differ. Received: "),
    "no names": (
        "0.5,u\n1.5,v\n",
        ["--labels", "u"],
        "Expected a first line with the names of the columns. Received: mostly numbers, 0.5, u, ... in the first line "
        "of x.csv. Write a line of names above it, or have it read as data: --no-header.",
    ),
    "no such labels": ("a,b\n1,2\n3,4\n", ["--labels", "c"], "Expected one column of labels named 'c' in x.csv"),
    "image size": ("a\n1\n2\n", ["--image-size", "3", "4", "5"], "--image-size expects one or two numbers from 1"),
    "no image size": ("a\n1\n2\n", ["--image-size", "0"], "--image-size expects one or two numbers from 1"),
    "size of a table": (
        "a\n1\n2\n",
        ["--image-size", "3"],
        "Expected no other options than --labels, --no-header for x.csv. Received: --image-size 3. Leave it out.",
    ),
    "no columns": ("a,b\n1,2\n3,4\n", ["--ignore", "a", "b"], "Expected one column of numbers or more. Received: no"),
    "no such column": ("a,b\n1,2\n3,4\n", ["--columns", "c"], "Expected the columns c. Received: x.csv without c."),
    "nothing to ignore": (
        "a,b\n1,2\n3,4\n",
        ["--ignore", "c"],
        "Expected one column to ignore named 'c' in x.csv. Received: none among the 2 columns a, b.",
    ),
    "both": ("a\n1\n2\n", ["--columns", "a", "--ignore", "b"], "--ignore expects no --columns beside it. Received: a"),
    "labels as a feature": (
        "a,b\n1,2\n3,4\n",
        ["--columns", "a", "b", "--labels", "b"],
        "--columns expects others than --labels. Received: b",
    ),
    "columns of images": (
        "a\n1\n2\n",
        ["--image-size", "3", "--columns", "a"],
        "Expected no other options than --labels, --no-header for x.csv. Received: --image-size 3. Leave it out.",
    ),
    "no image shape": ("a\n1\n2\n", ["--image-shape", "4"], "--image-shape expects height and width, and 3 for colour"),
    "two channels": ("a\n1\n2\n", ["--image-shape", "4", "4", "2"], "--image-shape expects height and width, and 3"),
    "another shape": (
        "a,b,c\n1,2,3\n2,3,4\n",
        ["--image-shape", "2", "2"],
        "Expected rows of 4 numbers (--image-shape 2 2). Received: 3 in columns of x.csv. Give the height and width",
    ),
    "dropped pixels": (
        "a,b,c,d\n1,2,3,4\n2,3,4,5\n",
        ["--image-shape", "2", "2", "--drop", "constant"],
        "--drop expects no --image-shape beside it. Received: 2 2",
    ),
    "nothing varies where it learns": (
        "a\n1\n1\n2\n",
        ["--drop", "constant"],
        "Expected training rows that differ. Re",
    ),
    "no units": ("a\n1\n2\n", ["--units", "0"], "--units expects 1 or more hidden units. Received: (0,)"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_mistakes_end_with_one_line(kind, refused, tmp_path):
    text, flags, expected = WRONG[kind]
    (tmp_path / "x.csv").write_text(text)
    assert refused("--data", "x.csv", *flags).startswith(expected)


def test_columns_of_an_array_end_with_one_line(refused, npy):
    line = refused("--data", npy[0], "--columns", "a", "b")
    assert line == f"Expected no other options than --labels for {npy[0]}. Received: --columns a b. Leave it out."
    line = refused("--data", npy[0], "--drop", "constant")
    assert line.startswith(
        "Expected a table whose columns have names, by which --drop leaves them out of other data as"
    )


def test_data_that_are_not_there_end_with_one_line(refused, npy):
    assert refused() == "--data expects files or directories of data, or tfds:NAME. Received: nothing"
    assert refused("--data", "none.csv").startswith(
        "Expected a file or directory of data. Received: none.csv, which does not exist."
    )
    assert refused("--data", npy[0], "--labels", "none.npy").startswith(
        "Expected an npy file with the labels. Received: none.npy, which cannot be read"
    )
