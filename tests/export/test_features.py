"""python -m export.features: every row once and in order, by every runtime, whatever happens meanwhile."""

import errno
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
import types
import warnings

import keras
import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
import tensorflow as tf
from PIL import Image

from export import layout, runtimes
from export.features import __main__ as features, files as feature_files, parts
from keras_sae.data import readers

ROOT = pathlib.Path(__file__).parents[2]
ROWS = 40
NAMES = [f"feature_{i}" for i in range(9)]


class Signatures(tf.Module):
    """What an export may have: outputs of several kinds."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    @tf.function(input_signature=[tf.TensorSpec((None, 784), tf.float32, name="inputs")])
    def encode(self, inputs):
        return {"features": self.encoder(inputs)}

    @tf.function(input_signature=[tf.TensorSpec((None, 784), tf.float32, name="inputs")])
    def reconstruct(self, inputs):
        encoded = self.encoder(inputs)
        return {"features": encoded, "outputs": encoded[:, :2], "error": tf.reduce_sum(encoded, axis=1)}

    @tf.function(input_signature=[tf.TensorSpec((None, 784), tf.float32, name="inputs")])
    def classify(self, inputs):
        encoded = self.encoder(inputs)
        return {"probabilities": encoded, "label": tf.argmax(encoded, axis=1), "score": tf.reduce_max(encoded, axis=1)}

    @tf.function(input_signature=[tf.TensorSpec((None, 784), tf.float32, name="inputs")])
    def name(self, inputs):
        return {"name": tf.fill((tf.shape(inputs)[0],), "text")}


@pytest.fixture(scope="module")
def encoder():
    """An untrained encoder of raw pixels."""
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((784,)), keras.layers.Rescaling(1 / 255), keras.layers.Dense(9, "sigmoid")])


@pytest.fixture(scope="module")
def exported(encoder, tmp_path_factory):
    """A folder with saved_model/1, encoder.tflite and encoder.onnx, which has a head as well."""
    import tf2onnx

    folder, module = tmp_path_factory.mktemp("export"), Signatures(encoder)
    saved_model = str(folder / "saved_model" / "1")
    archive = keras.export.ExportArchive()
    archive.track(encoder)
    for name in ("serving_default", "encode"):
        spec = tf.TensorSpec((None, 784), tf.float32, name="inputs")
        archive.add_endpoint(name, lambda inputs: {"features": encoder(inputs)}, input_signature=[spec])
    archive.write_out(saved_model, verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model, signature_keys=["serving_default"])
    (folder / "encoder.tflite").write_bytes(converter.convert())
    with_head = tf.function(
        lambda inputs: module.encode(inputs) | {"probabilities": module.classify(inputs)["probabilities"]},
        input_signature=[tf.TensorSpec((None, 784), tf.float32, name="inputs")],
    )
    with warnings.catch_warnings(action="ignore"):
        tf2onnx.convert.from_function(with_head, with_head.input_signature, output_path=str(folder / "encoder.onnx"))
    return folder


@pytest.fixture(scope="module")
def several(encoder, tmp_path_factory):
    """A SavedModel with other signatures."""
    module = Signatures(encoder)
    path = str(tmp_path_factory.mktemp("several"))
    signatures = {name: getattr(module, name) for name in ("reconstruct", "classify", "name")}
    tf.saved_model.save(module, path, signatures=signatures)
    return path


@pytest.fixture(scope="module")
def images(digits):
    """40 real digits, uint8 (40, 784), and their classes."""
    return np.round(digits.x_test[::25] * 255).astype("uint8"), digits.y_test[::25]


@pytest.fixture(scope="module")
def expected(encoder, images):
    """Keras' features, (40, 9)."""
    return encoder(images[0].astype("float32"), training=False).numpy()


@pytest.fixture
def data(images, tmp_path):
    """The path of the digits as npy file; the classes lie beside it in y.npy."""
    np.save(tmp_path / "x.npy", images[0])
    np.save(tmp_path / "y.npy", images[1])
    return tmp_path / "x.npy"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out" / "features.parquet"


@pytest.fixture
def main(monkeypatch):
    """main(*arguments) as `python -m export.features ARGUMENTS` calls it."""

    def main(*arguments):
        monkeypatch.setattr(sys, "argv", [features.PROGRAM, *map(str, arguments)])
        features.main()

    return main


@pytest.fixture
def often(monkeypatch):
    """Rows are made safe after every batch; a row group holds 8 rows."""
    monkeypatch.setattr(feature_files, "SECONDS", -1)
    monkeypatch.setattr(feature_files, "GROUP_BYTES", 8 * 9 * 4)


def matrix(path, names=NAMES):
    """The columns of a Parquet file, (rows, columns)."""
    table = pyarrow.parquet.read_table(path)
    return np.stack([table[name].to_numpy() for name in names], axis=1)


def parts_of(out):
    return out.parent / f".{out.name}.parts"


def check(out, expected):
    found = np.load(out) if out.suffix == ".npy" else matrix(out)
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)
    assert [path.name for path in out.parent.iterdir() if "parts" in path.name] == []


# --- what it computes ---


def test_the_features_tell_rows_apart(expected):
    """Without this, rows in another order would pass."""
    assert np.unique(expected.round(3), axis=0).shape == (ROWS, 9)


@pytest.mark.parametrize("suffix", [".parquet", ".npy"])
@pytest.mark.parametrize("model", layout.FORMATS)
def test_every_runtime_gives_keras_features_in_the_order_of_the_rows(
    main, exported, data, out, expected, model, suffix, capfd
):
    out = out.with_suffix(suffix)
    main(exported, "--data", data, "--out", out, "--model", model, "--batch-size", 7)
    check(out, expected)
    printed = capfd.readouterr()
    assert "40 rows of feature_0, ..., feature_8 (" in printed.out
    assert printed.err == ""


def table(images):
    pixels = {f"p{i}": column for i, column in enumerate(images[0].T)}
    return pyarrow.table({**pixels, "digit": images[1]})


def write_csv(folder, images):
    pyarrow.csv.write_csv(table(images), folder / "t.csv")
    return folder / "t.csv", "digit"


def write_parquet(folder, images):
    pyarrow.parquet.write_table(table(images), folder / "t.parquet")
    return folder / "t.parquet", "digit"


def write_npz(folder, images):
    np.savez(folder / "t.npz", x=images[0], y=images[1])
    return folder / "t.npz", "y"


def write_npy(folder, images):
    np.save(folder / "t.npy", images[0])
    np.save(folder / "classes.npy", images[1])
    return folder / "t.npy", folder / "classes.npy"


def write_images(folder, images):
    for number, (image, y) in enumerate(zip(*images, strict=True)):
        (folder / "images" / str(y)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.reshape(28, 28)).save(folder / "images" / str(y) / f"{number:02}.png")
    return folder / "images", "folders"


def write_tfrecord(folder, images):
    with tf.io.TFRecordWriter(str(folder / "t.tfrecord")) as writer:
        for image, y in zip(*images, strict=True):
            pixels = tf.train.Feature(float_list=tf.train.FloatList(value=image))
            label = tf.train.Feature(int64_list=tf.train.Int64List(value=[y]))
            feature = tf.train.Features(feature={"pixels": pixels, "digit": label})
            writer.write(tf.train.Example(features=feature).SerializeToString())
    return folder / "t.tfrecord", "digit"


@pytest.mark.parametrize("write", [write_csv, write_parquet, write_npz, write_npy, write_images, write_tfrecord])
def test_every_format_is_read_and_its_labels_kept(main, exported, images, out, expected, tmp_path, write):
    path, labels = write(tmp_path, images)
    main(exported, "--data", path, "--labels", labels, "--out", out, "--model", "litert")
    order = np.argsort(images[1], kind="stable") if write is write_images else slice(None)  # by folder
    check(out, expected[order])
    found = pyarrow.parquet.read_table(out)
    assert found.column_names == [*NAMES, "digit" if write in (write_csv, write_parquet) else "label"]
    np.testing.assert_array_equal(found.column(9), images[1][order])


def test_labels_that_are_words_stay_words_and_the_readers_read_the_file(
    main, exported, images, expected, out, tmp_path
):
    pyarrow.csv.write_csv(table((images[0], np.array(["even", "odd"])[images[1] % 2])), tmp_path / "t.csv")
    main(exported, "--data", tmp_path / "t.csv", "--labels", "digit", "--out", out, "--model", "onnx")
    rows = readers.read_rows(out, labels="digit")
    np.testing.assert_allclose(rows.x, expected, atol=2e-5)
    np.testing.assert_array_equal(rows.y, images[1] % 2)
    assert (rows.class_names, rows.feature_names) == (("even", "odd"), tuple(NAMES))


def test_labels_of_a_npy_file_lie_beside_it(main, refused, exported, data, images, out):
    out = out.with_suffix(".npy")
    command = (exported, "--data", data, "--labels", data.with_name("y.npy"), "--out", out, "--model", "onnx")
    main(*command)
    np.testing.assert_array_equal(np.load(out.with_name("features.labels.npy")), images[1])
    out.unlink()
    assert "features.labels.npy, which exists" in refused(*command)


def test_class_names_that_only_look_like_numbers_stay_text():
    assert feature_files.label_values(("1", "02")).tolist() == ["1", "02"]
    assert feature_files.label_values(("-1", "9" * 30)).tolist() == ["-1", "9" * 30]
    assert feature_files.label_values(("-1", "20")).tolist() == [-1, 20]


def test_a_signature_of_several_outputs_becomes_several_groups_of_columns(main, several, data, out, expected):
    main(several, "--data", data, "--out", out, "--signature", "reconstruct", "--batch-size", 11)
    assert set(pyarrow.parquet.read_table(out).column_names) == {*NAMES, "output_0", "output_1", "error"}
    check(out, expected)
    np.testing.assert_allclose(matrix(out, ["output_0", "output_1"]), expected[:, :2], atol=2e-5)
    np.testing.assert_allclose(matrix(out, ["error"])[:, 0], expected.sum(axis=1), atol=1e-4)


def test_an_onnx_file_with_a_head_has_both_signatures(main, exported, data, out, expected):
    main(exported, "--data", data, "--out", out, "--signature", "classify", "--model", "onnx")
    names = [f"probability_{i}" for i in range(9)]
    assert pyarrow.parquet.read_table(out).column_names == names
    np.testing.assert_allclose(matrix(out, names), expected, atol=2e-5)


def test_the_models_label_and_the_datas_both_stay(main, several, data, out, images, expected):
    command = (several, "--data", data, "--labels", data.with_name("y.npy"), "--out", out)
    main(*command, "--signature", "classify")
    found = pyarrow.parquet.read_table(out)
    np.testing.assert_array_equal(found["true_label"], images[1])
    np.testing.assert_array_equal(found["label"], expected.argmax(axis=1))
    assert str(found["label"].type) == "int64"
    assert {"probability_0", "score"} <= set(found.column_names)


def test_the_newest_saved_model_is_taken(tmp_path):
    for version in ("2", "10", "draft"):
        (tmp_path / "saved_model" / version).mkdir(parents=True)
        (tmp_path / "saved_model" / version / "saved_model.pb").touch()
    assert runtimes.find(tmp_path, None) == tmp_path / "saved_model" / "10"


def test_a_model_may_be_named_in_every_way(exported):
    assert runtimes.find(exported, None) == exported / "saved_model" / "1"
    assert runtimes.find(exported, "litert") == exported / "encoder.tflite"
    assert runtimes.find(exported, "encoder.onnx") == exported / "encoder.onnx"
    assert runtimes.find(exported, str(exported / "encoder.tflite")) == exported / "encoder.tflite"
    assert runtimes.find(exported / "encoder.onnx", None) == exported / "encoder.onnx"
    assert runtimes.find(exported / "saved_model" / "1", None) == exported / "saved_model" / "1"


# --- stopped and taken up again ---


def failing(number, error):
    """An `append` of rows that raises at the batch of this number, after writing a part of it."""
    written = feature_files.Output.append
    calls = []

    def append(self, array):
        calls.append(len(array))
        if len(calls) == number + 1:
            written(self, array[:1])
            raise error
        written(self, array)

    return append


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("suffix", [".parquet", ".npy"])
@pytest.mark.parametrize("part", [1, 4, 9])
def test_a_run_that_is_stopped_goes_on_and_ends_with_the_same_bytes(
    main, exported, data, out, expected, monkeypatch, capfd, part, suffix
):
    out = out.with_suffix(suffix)
    command = (exported, "--data", data, "--batch-size", 4, "--model", "litert", "--out")
    main(*command, out.with_stem("undisturbed"))
    with monkeypatch.context() as patched:
        patched.setattr(feature_files.Output, "append", failing(part, KeyboardInterrupt()))
        with pytest.raises(SystemExit) as ended:
            main(*command, out)
    assert ended.value.code == 130
    line = f"export.features: interrupted. {4 * part} of 40 rows are done: the same command goes on from there."
    assert capfd.readouterr().err.strip() == line
    assert not out.exists()
    main(*command, out)
    assert f"Going on after {4 * part} of 40 rows." in capfd.readouterr().out
    check(out, expected)
    assert out.read_bytes() == out.with_stem("undisturbed").read_bytes()


@pytest.mark.usefixtures("often")
def test_a_full_disk_ends_with_one_line_and_the_command_goes_on(
    main, refused, exported, data, out, expected, monkeypatch
):
    command = (exported, "--data", data, "--batch-size", 4, "--model", "litert", "--out", out)
    with monkeypatch.context() as patched:
        full = OSError(errno.ENOSPC, "No space left on device")
        patched.setattr(feature_files.Output, "append", failing(3, full))
        line = refused(*command)
    assert f"{parts_of(out)}. Received: No space left on device. 12 of 40 rows are done: the same command" in line
    main(*command)
    check(out, expected)


@pytest.mark.usefixtures("often")
def test_a_disk_that_is_full_as_parquet_is_encoded(main, refused, exported, data, out, expected, monkeypatch):
    """In the thread behind the one that writes the rows, which are kept."""
    command = (exported, "--data", data, "--batch-size", 4, "--model", "litert", "--out", out)
    table = feature_files.ParquetFile._table

    def full(self, start, stop):
        if start:
            raise OSError(errno.ENOSPC, "No space left on device")
        return table(self, start, stop)

    with monkeypatch.context() as patched:
        patched.setattr(feature_files.ParquetFile, "_table", full)
        assert f"{parts_of(out)}. Received: No space left on device." in refused(*command)
    assert not out.exists()
    main(*command)
    check(out, expected)


@pytest.mark.usefixtures("often")
def test_the_parquet_writer_is_closed_after_its_thread_is_done(main, exported, data, out, monkeypatch):
    """However the command ends: pyarrow's writer is for one thread at a time."""
    encode, close, events = feature_files.ParquetFile._encode, pyarrow.parquet.ParquetWriter.close, []

    def slow(self, outputs):
        time.sleep(0.2)
        encode(self, outputs)
        events.append("encoded")

    monkeypatch.setattr(feature_files.ParquetFile, "_encode", slow)
    monkeypatch.setattr(pyarrow.parquet.ParquetWriter, "close", lambda self: (events.append("closed"), close(self)))
    monkeypatch.setattr(feature_files.Output, "append", failing(3, KeyboardInterrupt()))
    with pytest.raises(SystemExit):
        main(exported, "--data", data, "--batch-size", 4, "--model", "litert", "--out", out)
    assert events[:4] == ["encoded", "encoded", "encoded", "closed"]
    assert set(events[4:]) <= {"closed"}


@pytest.mark.parametrize("name", ["publish", "write_progress"])
@pytest.mark.parametrize("suffix", [".parquet", ".npy"])
def test_a_kill_while_the_file_is_put_in_its_place(main, exported, data, out, expected, monkeypatch, name, suffix):
    """Before the file is known to be whole, and after."""
    out = out.with_suffix(suffix)
    command = (exported, "--data", data, "--model", "litert", "--labels", data.with_name("y.npy"), "--out", out)
    with monkeypatch.context() as patched:
        patched.setattr(parts.Parts, name, killed)
        patched.setattr(parts.Parts, "__exit__", lambda parts, *_: os.close(parts._locked))
        patched.setattr(feature_files.Store, "save", lambda self: None)
        with pytest.raises(SystemError):
            main(*command)
    assert not out.exists()
    main(*command)
    check(out, expected)


def killed(*_, **__):
    raise SystemError


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_a_kill_before_the_folder_was_removed(main, exported, data, out, expected, monkeypatch, capfd, overwrite):
    command = (exported, "--data", data, "--model", "litert", "--out", out)
    with monkeypatch.context() as patched:
        patched.setattr(parts.shutil, "rmtree", lambda path, **_: path.name == "rows" or killed())
        patched.setattr(parts.Parts, "__exit__", lambda parts, *_: os.close(parts._locked))
        with pytest.raises(SystemError):
            main(*command)
    assert out.exists()
    assert parts_of(out).exists()
    main(*command, *overwrite)
    assert "an earlier command had computed all of it" in capfd.readouterr().out
    check(out, expected)


PAUSED = (
    "import sys, time; "
    "from export.features import __main__ as features, files as feature_files; written = feature_files.Output.append; "
    "feature_files.SECONDS = 0.05; feature_files.GROUP_BYTES = 8 * 9 * 4; "
    "feature_files.Output.append = lambda *a: (time.sleep(0.15), written(*a)); features.main()"
)


@pytest.mark.slow
def test_kills_at_random_moments_cost_no_row(main, exported, data, out, expected):
    """SIGKILL, at moments from the first batch to the last rename."""
    moments, command = random.Random(0), [exported, "--data", data, "--model", "litert", "--batch-size", 1]
    kills = 0
    while not out.exists():
        process = subprocess.Popen(
            [sys.executable, "-c", PAUSED, *map(str, command), "--out", str(out)], cwd=ROOT, stdout=subprocess.PIPE
        )
        process.stdout.readline()  # Reading ...
        time.sleep(moments.uniform(0.5, 2))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        assert kills < 60
    if parts_of(out).exists():
        main(*command, "--out", out)
    check(out, expected)
    assert kills > 2


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("change", ["--batch-size", "--data", "model"])
def test_another_command_is_told_how_to_start_anew(
    main, refused, exported, several, data, out, monkeypatch, change, capfd
):
    command = [exported, "--data", data, "--batch-size", 4, "--out", out, "--model", "litert"]
    with monkeypatch.context() as patched:
        patched.setattr(feature_files.Output, "append", failing(2, KeyboardInterrupt()))
        with pytest.raises(SystemExit):
            main(*command)
    capfd.readouterr()
    if change == "--data":
        os.utime(data, (0, 0))
    replaced = {"--batch-size": [*command, "--batch-size", 5], "model": [*command, "--model", "onnx"]}
    line = refused(*replaced.get(change, command))
    assert f"Received: another {'content of ' * (change == '--data')}{change}. " in line
    assert f"{parts_of(out)} was begun with" in line
    assert "or delete that folder to start anew" in line


def test_two_commands_at_once_are_refused(refused, exported, data, out):
    with parts.Parts(out, {}):
        assert "another that is writing it" in refused(exported, "--data", data, "--out", out)


# --- errors ---


def test_a_file_that_is_there_stays_without_overwrite(main, refused, exported, data, out, expected):
    out.parent.mkdir()
    out.write_text("mine")
    command = (exported, "--data", data, "--out", out, "--model", "litert")
    assert f"{out}, which exists. Nothing was changed. Name another, or add --overwrite." in refused(*command)
    assert out.read_text() == "mine"
    main(*command, "--overwrite")
    check(out, expected)


def test_what_is_no_export_is_refused(refused, exported, data, out, tmp_path):
    def line(export, *others):
        return refused(export, "--data", data, "--out", out, *others)

    assert f"Received: {tmp_path / 'no'}, which does not exist" in line(tmp_path / "no")
    assert f"Received: {tmp_path}, which holds none. Make one: python -m export RUN" in line(tmp_path)
    assert f"Received: {tmp_path}, which has no onnx" in line(tmp_path, "--model", "onnx")
    assert "Received: other.tflite, which is none" in line(exported, "--model", "other.tflite")
    for name in ("encoder_a.tflite", "encoder_b.tflite"):
        (tmp_path / name).write_bytes(b"")
    assert "Received: encoder_a.tflite, encoder_b.tflite. Name one: --model" in line(tmp_path)
    assert not out.parent.exists()


@pytest.mark.parametrize("name", ["encoder.tflite", "encoder.onnx", "saved_model.pb"])
def test_a_damaged_model_is_refused(refused, data, out, tmp_path, name):
    (tmp_path / name).write_bytes(b"what is this")
    path = tmp_path if name == "saved_model.pb" else tmp_path / name
    line = refused(path, "--data", data, "--out", out)
    assert f"Expected a model that can be read. Received: {path}, which cannot be: " in line


def test_an_unknown_signature_is_refused_with_those_there_are(refused, exported, several, data, out):
    command = ("--data", data, "--out", out, "--signature")
    assert "encode, serving_default. Received: other" in refused(exported, *command, "other")
    assert "classify, encode. Received: decode" in refused(exported, *command, "decode", "--model", "onnx")
    assert "classify, name, reconstruct" in refused(several, *command, "encode")
    assert "Expected numbers for each row. Received: name of object" in refused(several, *command, "name")
    npy = out.with_suffix(".npy")
    line = refused(several, "--data", data, "--out", npy, "--signature", "classify")
    assert "Expected one output for a .npy file. Received: " in line


def test_the_number_of_features_is_checked(refused, exported, out, tmp_path):
    np.save(tmp_path / "x.npy", np.ones((3, 5)))
    line = refused(exported, "--data", tmp_path / "x.npy", "--out", out, "--model", "onnx")
    assert "Expected rows of 784 features, as " in line
    assert f"Received: 5 in {tmp_path / 'x.npy'}." in line
    assert list(out.parent.iterdir()) == []


def test_data_that_are_no_finite_numbers_are_refused_and_nothing_stays(refused, exported, out, tmp_path):
    np.save(tmp_path / "x.npy", np.full((3, 784), np.nan))
    line = refused(exported, "--data", tmp_path / "x.npy", "--out", out, "--model", "onnx")
    assert "Received: nan in column 1, row 1" in line
    assert list(out.parent.iterdir()) == []


def test_a_place_that_cannot_be_written_to_is_refused(refused, exported, data, tmp_path):
    command = (exported, "--data", data, "--model", "onnx", "--out")
    assert "Expected --out of .parquet or .npy. Received: x.txt" in refused(*command, "x.txt")
    (tmp_path / "folder.npy").mkdir()
    assert "folder.npy, a folder" in refused(*command, tmp_path / "folder.npy")
    assert "Expected a place that can be written to" in refused(*command, data / "below.npy")


def test_a_disk_without_room_is_told_before_the_work(refused, exported, data, out, monkeypatch):
    usage = types.SimpleNamespace(free=10)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    assert "GB of room on the disk of" in refused(exported, "--data", data, "--out", out, "--model", "onnx")


@pytest.mark.parametrize(
    ("model", "module", "package"),
    [("onnx", "onnxruntime", "onnxruntime"), ("litert", "ai_edge_litert.interpreter", "ai-edge-litert")],
)
def test_a_missing_package_is_named(refused, exported, data, out, monkeypatch, model, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    line = refused(exported, "--data", data, "--out", out, "--model", model)
    assert f"Received: Python without it. pip install {package}" in line


@pytest.mark.parametrize("flags", [["--outt", "x"], ["--batch-size", "0"], ["--image-size", "big"], []], ids=str)
def test_a_wrong_command_line_ends_with_one_line(refused, flags):
    assert refused("export", "--data", "x", *(["--out", "y"] if flags else []), *flags).endswith(" See --help.")


def test_help_teaches(main, capsys):
    with pytest.raises(SystemExit) as ended:
        main("--help")
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for taught in ("python -m export.features exports/mnist", "--labels", "goes on where it was", "(default: 4096)"):
        assert taught in text
