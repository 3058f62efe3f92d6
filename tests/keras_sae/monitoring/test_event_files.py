import keras
import numpy as np
import pytest

import keras_sae
from keras_sae.monitoring import event_files
from keras_sae.monitoring.event_files import EventFile, write_projector
from tests.keras_sae.conftest import autoencoder, two_layers
from tests.keras_sae.events import Events, projector


@pytest.fixture
def written(tmp_path):
    """written(function) -> what TensorBoard reads after `function(event file)`."""

    def written(function):
        file = EventFile(tmp_path / "new" / "directory")
        function(file)
        file.close()
        return Events(tmp_path / "new" / "directory")

    return written


def test_numbers_come_back_by_their_steps(written):
    def write(file):
        file.scalars({"loss": 0.5, "units/dead": 3}, 1)
        file.scalars({"loss": 0.25}, 7)

    found = written(write)
    assert found.scalar_tags == {"loss", "units/dead"}
    assert found.scalars("loss") == {1: 0.5, 7: 0.25}
    assert found.scalars("units/dead") == {1: 3}


def test_distributions_are_those_of_numpy(written):
    """In thirty buckets of equal width; what is not finite has no place in them."""
    values = np.random.default_rng(0).standard_normal((40, 5))
    with_gaps = np.append(values, [np.nan, np.inf])
    found = written(lambda file: file.histograms({"weights/kernel": with_gaps, "all alike": np.ones(4)}, 3))
    assert found.histogram_tags == {"weights/kernel", "all alike"}
    [(step, buckets)] = found.histograms("weights/kernel").items()
    counts, edges = np.histogram(values, 30)
    assert step == 3
    np.testing.assert_allclose(buckets[:, 0], edges[:-1])
    np.testing.assert_allclose(buckets[:, 1], edges[1:])
    np.testing.assert_array_equal(buckets[:, 2], counts)
    assert found.histograms("all alike")[3][:, 2].sum() == 4


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)], ids=["grey", "colour"])
def test_pictures_come_back_pixel_by_pixel(shape, written):
    image = np.random.default_rng(0).integers(0, 255, shape, "uint8")
    found = written(lambda file: file.pictures({"features": image}, 2))
    assert found.picture_tags == {"features"}
    np.testing.assert_array_equal(found.pictures("features")[2], image)


def test_settings_come_back_and_the_directory_tells_runs_apart(written, tmp_path):
    settings = {"rho": 0.1, "units": 64, "tied": True, "optimizer": "adam", "layers": (64, 32)}
    found, name = written(lambda file: file.hparams(settings)).hparams()
    assert found == {**settings, "layers": "(64, 32)"}
    assert name == str(tmp_path / "new" / "directory")


def test_what_is_written_can_be_read_while_the_file_is_open(tmp_path):
    file = EventFile(tmp_path)
    file.scalars({"loss": 1.0}, 1)
    file.flush()
    assert Events(tmp_path).scalars("loss") == {1: 1.0}
    file.close()


def test_the_graph_of_an_autoencoder_is_its_encoder_and_its_decoder(written):
    ae = autoencoder(name="ae")
    assert ae.decoder.name == "ae_decoder"  # makes another node of the output layer, which is not in the graph
    graph = written(lambda file: file.graph(ae)).graph()
    assert graph == {
        "inputs": ("Input", [], [-1, 6]),
        "ae_encoder/hidden": ("Dense", ["inputs"], [-1, 4]),
        "ae_encoder/sparsity": ("SparsityRegularization", ["ae_encoder/hidden"], [-1, 4]),
        "ae_decoder/output": ("Dense", ["ae_encoder/sparsity"], [-1, 6]),
    }


def test_the_graph_of_a_stack_goes_through_all_of_its_layers(written):
    stack = two_layers()
    graph = written(lambda file: file.graph(stack)).graph()
    node, chain = next(name for name in graph if name.endswith("decoder/output") and graph[name][2] == [-1, 6]), []
    while node != "inputs":
        chain.append(node.split("/")[-1])
        [node] = graph[node][1]
    assert chain == ["output", "output", "sparsity", "hidden", "sparsity", "hidden"]
    assert len(graph) == 7


@pytest.mark.parametrize("sparsity", [keras_sae.sparsity.TopK(2), keras_sae.KLSparsity(0.1)])
@pytest.mark.parametrize("tied", [False, True])
def test_every_autoencoder_has_a_graph(sparsity, tied, written):
    ae = keras_sae.SparseAutoencoder(4, sparsity, tied=tied)
    ae.build((None, 6))
    graph = written(lambda file: file.graph(ae)).graph()
    assert [name.split("/")[-1] for name in graph][-1] == "output"


def test_the_graph_of_a_model_of_models_and_of_a_layer_that_is_used_twice(written):
    inputs = keras.Input((4,), name="rows")
    shared = keras.layers.Dense(4, name="shared")
    part = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="narrow")], name="part")
    sums = keras.layers.Add(name="sums")([part(shared(inputs)), part(shared(shared(inputs)))])
    graph = written(lambda file: file.graph(keras.Model(inputs, sums))).graph()
    assert {name: sources for name, (_, sources, _) in graph.items()} == {
        "rows": [],
        "shared": ["rows"],
        "part/narrow": ["shared"],
        "shared_2": ["rows"],
        "shared_3": ["shared_2"],
        "part_2/narrow": ["shared_3"],
        "sums": ["part/narrow", "part_2/narrow"],
    }


def test_a_model_that_is_no_graph_of_layers_has_none(written):
    class Other(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ValueError, match="no graph"):
        written(lambda file: file.graph(Other())).graph()
    inputs = keras.Input((6,), name="rows")
    inside = keras.Model(inputs, Other(name="other")(autoencoder(name="ae", dtype="float32")(inputs)))
    graph = written(lambda file: file.graph(inside)).graph()
    assert {name: kind for name, (kind, *_) in graph.items()} == {
        "rows": "Input", "ae": "SparseAutoencoder", "other": "Other"
    }  # fmt: skip


def test_the_projector_finds_codes_labels_and_thumbnails(tmp_path):
    rng = np.random.default_rng(0)
    codes, thumbnails = rng.random((7, 3)), rng.integers(0, 255, (7, 4, 5, 3), "uint8")
    labels = ["a\tb", "line\nbreak", "ü", "", 4, 5.5, "cat"]
    write_projector(tmp_path, codes, labels, thumbnails)
    found = projector(tmp_path)
    np.testing.assert_allclose(found[0], codes, rtol=1e-3)
    assert found[1] == ["a b", "line break", "ü", "", "4", "5.5", "cat"]
    np.testing.assert_array_equal(found[2], thumbnails)
    write_projector(tmp_path, codes[:2])
    assert projector(tmp_path)[1:] == (None, None)


@pytest.mark.parametrize(("shape", "expected"), [((8, 6), (4, 3)), ((17, 5), (4, 1)), ((1, 30), (1, 30))])
def test_large_thumbnails_become_smaller(shape, expected, monkeypatch, tmp_path):
    monkeypatch.setattr(event_files, "THUMBNAIL", 5)
    write_projector(tmp_path, np.zeros((2, 1)), None, np.full((2, *shape), 9, "uint8"))
    assert projector(tmp_path)[2].shape == (2, *expected)
