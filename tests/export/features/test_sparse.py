"""python -m export.features --sparse: indices and values of active units, from which dense rows can be made again."""

import pathlib
import re

import numpy as np
import pyarrow.parquet
import pytest
import tensorflow as tf

import keras_sae
from export import runtimes
from tests.export.features.conftest import content, matrix, partial
from tests.export.features.test_resuming import failing

README = pathlib.Path(keras_sae.__file__).parents[1] / "export" / "README.md"


def rebuilt(out):
    """Dense rows from the two columns of lists, by the code in the README."""
    [code] = [code for code in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if "csr_array" in code]
    names = {}
    exec(code.replace("codes.parquet", str(out)), names)
    return names["codes"].toarray()


class Codes(tf.Module):
    """Nine units, of which few are active, and a number of each row."""

    kernel = np.random.default_rng(0).standard_normal((6, 9)).astype("float32")

    @tf.function(input_signature=[tf.TensorSpec((None, 6), tf.float32, name="inputs")])
    def encode(self, inputs):
        return {"features": tf.nn.relu(inputs @ self.kernel - 2.0), "error": tf.reduce_sum(inputs, axis=1)}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("codes"))
    module = Codes()
    tf.saved_model.save(module, path, signatures={"encode": module.encode})
    return path


@pytest.fixture
def command(model, tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(1).standard_normal((40, 6)).astype("float32"))
    np.save(tmp_path / "y.npy", np.arange(40) % 3)
    return model, "--data", tmp_path / "x.npy", "--batch-size", 4, "--out"


@pytest.mark.usefixtures("often")
def test_dense_rows_can_be_made_again(main, command, tmp_path, out, capsys):
    labels, dense = ("--labels", tmp_path / "y.npy"), out.with_stem("dense")
    main(*command, out, *labels, "--sparse")
    assert "40 rows of error, feature_indices, feature_values (" in capsys.readouterr().out
    main(*command, dense, *labels)
    expected, found = matrix(dense), rebuilt(out)
    assert 0.1 < (expected != 0).mean() < 0.6
    assert (expected == 0).all(axis=1).any()  # a row without an active unit
    assert found.dtype == "float32"
    np.testing.assert_array_equal(found, expected)
    table, other = (pyarrow.parquet.read_table(place) for place in (out, dense))
    assert table.column_names == ["error", "feature_indices", "feature_values", "label"]
    for name in ("error", "label"):
        assert table[name].equals(other[name])
    assert len(list(out.iterdir())) == len(list(dense.iterdir())) == 10  # four rows of ten numbers each


@pytest.mark.usefixtures("often")
def test_a_run_that_is_stopped_resumes_and_ends_with_the_same_bytes(main, command, out, monkeypatch, capsys):
    main(*command, out.with_stem("undisturbed"), "--sparse")
    with monkeypatch.context() as patched:  # call 0 is the example
        patched.setattr(runtimes.Model, "__call__", failing(6, KeyboardInterrupt(), runtimes.Model.__call__))
        with pytest.raises(SystemExit):
            main(*command, out, "--sparse")
    main(*command, out, "--sparse")
    assert "Resuming after 20 of 40 rows." in capsys.readouterr().out
    assert content(out) == content(out.with_stem("undisturbed"))
    assert not partial(out).exists()


@pytest.mark.usefixtures("often")
def test_the_other_form_does_not_resume(main, refused, command, out, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(runtimes.Model, "__call__", failing(6, KeyboardInterrupt(), runtimes.Model.__call__))
        with pytest.raises(SystemExit):
            main(*command, out, "--sparse")
    assert "Received: another --sparse. Give the first again to resume" in refused(*command, out)


@pytest.mark.parametrize("suffix", [".csv", ".npy"])
def test_it_is_for_parquet(refused, command, out, suffix):
    line = refused(*command, out.with_suffix(suffix), "--sparse")
    assert (
        f"argument --sparse: expected a new directory for Parquet as --out, received: {out.with_suffix(suffix)}" in line
    )
