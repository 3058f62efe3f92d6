"""Exports of an untrained encoder, digits, and python -m export.features as a function."""

import sys
import warnings

import keras
import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
import tensorflow as tf

from export.features import __main__ as features, outputs

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
    """A part holds 8 rows, or a batch if that is larger."""
    monkeypatch.setattr(outputs, "PART_BYTES", 8 * 9 * 4)


def matrix(path, names=NAMES):
    """The columns of a csv file or a directory of Parquet files, (rows, columns)."""
    table = (pyarrow.csv.read_csv if path.suffix == ".csv" else pyarrow.parquet.read_table)(path)
    return np.stack([table[name].to_numpy() for name in names], axis=1)


def content(path):
    """All bytes of an output, the name of each file in a directory -> bytes; of one file, "" -> bytes."""
    files = {file.name: file for file in path.iterdir()} if path.is_dir() else {"": path}
    return {name: file.read_bytes() for name, file in files.items()}


def partial(out):
    return out.parent / f".{out.name}.partial"


def check(out, expected):
    found = np.load(out) if out.suffix == ".npy" else matrix(out)
    assert found.dtype == ("float64" if out.suffix == ".csv" else "float32")
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)
    assert not partial(out).exists()
