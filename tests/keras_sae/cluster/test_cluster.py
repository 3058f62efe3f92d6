"""Training over the actors of a cluster, in this process: what one machine gives, the same for any number of them."""

import errno
import gc

import keras
import numpy as np
import pytest

import keras_sae
from keras_sae.cluster import worker
from keras_sae.cluster.actors import ActorDied
from keras_sae.errors import InputError
from tests.keras_sae.cluster.double import Here, cluster
from tests.keras_sae.conftest import SETTINGS, autoencoder, raises, randomise, relative, same_weights, two_layers


def classifier(stack=None):
    model = (stack or two_layers()).classifier(3, weight_decay=0.1)
    randomise(model.get_layer("head"))
    return model


def flat(model):
    return np.concatenate([w.ravel() for w in model.get_weights()])


@pytest.mark.parametrize("make", [autoencoder, two_layers], ids=["autoencoder", "stack"])
@pytest.mark.parametrize("actors", [1, 4])
def test_the_objective_is_that_of_one_machine(x, make, actors):
    model = make()
    expected = keras_sae.objective(model, x)
    with cluster(actors, shards=5) as there:
        found = keras_sae.objective(model, there.rows(x), chunk_size=4)
    assert found.value == pytest.approx(expected.value, rel=1e-14)
    assert found.parts == pytest.approx(expected.parts, rel=1e-14)
    np.testing.assert_allclose(np.concatenate(found.rho_hat), np.concatenate(expected.rho_hat), rtol=1e-14)
    for one, other in zip(found.gradients, expected.gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_training_has_the_same_bits_for_any_number_of_actors_and_is_that_of_one_machine(x, optimizer):
    options = {"optimizer": optimizer, "iterations": 2, "batch_size": 12, "verbose": 0}
    trained = []
    for actors in (1, 2, 4):
        ae = autoencoder()
        with cluster(actors, shards=4) as there:
            history = keras_sae.fit(ae, x, cluster=there, **options)
        trained.append(flat(ae))
    assert np.array_equal(trained[0], trained[1])
    assert np.array_equal(trained[0], trained[2])
    here = autoencoder()
    expected = keras_sae.fit(here, x, **options)
    assert relative(trained[0], flat(here)) < 1e-6  # Keras adds up the loss of a minibatch in float32
    assert {name: len(values) for name, values in history.history.items()} == {
        name: len(values) for name, values in expected.history.items()
    }
    assert history.history["loss"] == pytest.approx(expected.history["loss"], rel=1e-6)


def test_rows_that_the_model_cannot_give_back_are_told_of(x):
    with cluster() as there, pytest.warns(UserWarning, match="sigmoid"):
        keras_sae.objective(autoencoder(), there.rows(10 * x))


def test_weights_of_examples_count(x):
    ae, weights = autoencoder(), np.arange(23.0)
    expected = keras_sae.objective(ae, x, sample_weight=weights)
    with cluster() as there:
        found = keras_sae.objective(ae, there.rows(x, sample_weight=weights))
    assert found.value == pytest.approx(expected.value, rel=1e-14)


def stack_of(x, labels, there=None):
    """Pretrain two layers, train a head, then all of it; return all weights."""
    stack = two_layers()
    options = {"iterations": 1, "verbose": 0, "cluster": there}
    stack.pretrain(x, **options)
    model = classifier(stack)
    keras_sae.fit_head(model, x, labels, **options)
    keras_sae.fit(model, x, labels, **options)
    return np.concatenate([flat(stack), flat(model)])


def test_a_stack_a_head_and_all_of_it_are_trained_where_the_rows_are(x, labels):
    with cluster() as there:
        found = stack_of(x, labels, there)
        gc.collect()
        assert [*there._actors._made] == [""]  # what is not needed any more is forgotten
    assert relative(found, stack_of(x, labels)) < 1e-9


def test_preprocessing_is_done_on_the_actors(x, tmp_path):
    np.save(tmp_path / "x.npy", 255 * x)
    raw = np.load(tmp_path / "x.npy", mmap_mode="r")

    def stack():
        layers = [keras_sae.SparseAutoencoder(units, **SETTINGS) for units in (4, 3)]
        scale = keras.layers.Rescaling(1 / 255, dtype="float64")
        stack = keras_sae.StackedAutoencoder(layers, scale, dtype="float64")
        stack.build((None, 6))
        return randomise(stack)

    here, there = stack(), stack()
    here.pretrain(raw, iterations=1, verbose=0)
    with cluster(cache=tmp_path) as actors:
        there.pretrain(raw, iterations=1, verbose=0, cluster=actors)
    assert relative(flat(there), flat(here)) < 1e-6  # rows that are preprocessed when they are read are float32


def test_layers_that_are_frozen_stay_so(x, labels):
    model = classifier()
    model.get_layer("encoder").trainable = False
    before = model.get_layer("encoder").get_weights()
    with cluster() as there:
        keras_sae.fit(model, x, labels, iterations=2, verbose=0, cluster=there)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_layer("encoder").get_weights(), strict=True))


METHODS = ["begin", "open", "encode", "prepare", "activations", "losses"]


def test_actors_that_die_are_replaced_and_the_round_repeated(x, labels, tmp_path):
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    with cluster(cache=tmp_path) as there:
        expected = stack_of(mapped, labels, there)
        gc.collect()
        assert [*tmp_path.glob("keras_sae-*/*/*")] == []  # features are in files, which go with the rows
    assert [*tmp_path.glob("keras_sae-*")] == []
    engine = Here()
    for number, method in enumerate(METHODS):
        engine.deaths[method] = 1 + number % 2  # a new one dies as well
    with keras_sae.Cluster(actors=2, shards=2, cache=tmp_path, engine=engine) as there:
        found = stack_of(mapped, labels, there)
    assert not any(engine.deaths.values())
    assert engine.started == 2 + 9
    assert np.array_equal(found, expected)


def test_features_are_made_again_of_rows_though_those_between_are_gone(x, tmp_path):
    np.save(tmp_path / "x.npy", x)
    stack = two_layers()
    with cluster(cache=tmp_path) as there:
        rows = there.rows(np.load(tmp_path / "x.npy", mmap_mode="r"))
        for autoencoder_ in stack.autoencoders:
            rows = rows.encoded(autoencoder_.encoder)
        expected = np.concatenate([batch[0] for batch in rows])
        gc.collect()
        there._actors.engine.deaths["read"] = 1
        found = np.concatenate([batch[0] for batch in rows])
    assert np.array_equal(found, expected)
    np.testing.assert_allclose(found, stack.transform(x), rtol=1e-12)


def test_actors_that_do_not_start_are_refused(monkeypatch):
    def start(self, number):
        raise ActorDied("The node has no memory left.")

    monkeypatch.setattr(Here, "start", start)
    with raises(InputError, "Expected actors that start. Received: one that died: The node has no memory left."):
        cluster()


def test_an_actor_that_dies_again_and_again_ends_the_training(x):
    with cluster() as there:
        there._actors.engine.deaths["losses"] = 9
        with raises(
            InputError, "Expected actors that live. Received: one that died 3 times: The actor died.", "memory"
        ):
            keras_sae.fit(autoencoder(), x, iterations=2, verbose=0, cluster=there)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_a_driver_that_was_killed_resumes(x, optimizer, tmp_path):
    options = {"optimizer": optimizer, "iterations": 2, "batch_size": 23, "verbose": 0}
    whole, half = autoencoder(), autoencoder()

    class Killed(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                raise KeyboardInterrupt

    with cluster() as there:
        keras_sae.fit(whole, x, cluster=there, **options)
    checkpoint = tmp_path / "c.npz"
    if optimizer == "adam":  # which writes at the end of an epoch
        with cluster() as there:
            keras_sae.fit(half, x, cluster=there, checkpoint=checkpoint, **{**options, "iterations": 1})
    else:
        with cluster() as there, pytest.raises(KeyboardInterrupt):
            keras_sae.fit(half, x, cluster=there, checkpoint=checkpoint, callbacks=[Killed()], **options)
    resumed = autoencoder()
    with cluster(4) as there:
        history = keras_sae.fit(resumed, x, cluster=there, checkpoint=checkpoint, **options)
    assert len(history.history["loss"]) == 2
    assert same_weights(resumed, whole)


def test_adam_measures_rows_that_are_held_out(x):
    ae = autoencoder()
    with cluster() as there:
        history = keras_sae.fit(ae, x, optimizer="adam", iterations=1, verbose=0, cluster=there, validation_data=x[:5])
    assert history.history["val_loss"] == [pytest.approx(keras_sae.objective(ae, x[:5]).value)]


@pytest.mark.parametrize(
    ("model", "options", "parts"),
    [
        (lambda: autoencoder(corruption=0.2), {}, ["without noise", "corrupt", "MaskingNoise"]),
        (
            lambda: autoencoder(sparsity=keras_sae.KLSparsity(0.1, 3.0, window=128)),
            {},
            ["mean over a whole minibatch", "KLSparsity(window=None)", "window=128"],
        ),
        (autoencoder, {"sample_weight": np.ones(23)}, ["without weights of examples", "Received: weights", "lbfgs"]),
        (
            lambda: keras_sae.SparseAutoencoder(4, keras_sae.sparsity.BatchTopK(2)),
            {},
            ["adds up over the rows of a cluster", "BatchTopK", "on one machine"],
        ),
        (
            lambda: keras_sae.SparseAutoencoder(4, keras_sae.sparsity.TopK(2)),
            {},
            ["Expected KLSparsity, L1 or Contractive", "Received: TopK. Train it on one machine."],
        ),
        (
            lambda: keras_sae.SparseAutoencoder(4, keras_sae.sparsity.L1(0.1), revive=keras_sae.sparsity.AuxK()),
            {},
            ["Expected revive=None", "with AuxK"],
        ),
    ],
    ids=["noise", "window", "weights", "method", "largest", "revive"],
)
def test_minibatches_that_a_cluster_does_not_have(x, model, options, parts):
    with cluster() as there, raises(ValueError, *parts):
        keras_sae.fit(model(), x, optimizer="adam", iterations=1, verbose=0, cluster=there, **options)


@pytest.fixture
def folder(x, labels, tmp_path):
    """Three Parquet files of other sizes, the last without one of the classes; the classes are text."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    for number, rows in enumerate(np.split(np.arange(23), [4, 15])):
        columns = {f"c{i}": x[rows, i] for i in range(6)}
        table = pyarrow.table({**columns, "kind": np.array(["c", "a", "b"])[labels[rows]]})
        parquet.write_table(table, tmp_path / f"part-{number}.parquet")
    return tmp_path


def test_files_are_read_by_the_actors_which_number_their_classes_alike(x, labels, folder):
    with cluster(4) as there:
        rows = there.rows(folder, labels="kind")
        assert (rows.sizes, rows.features, rows.class_names) == ((4, 11, 8), 6, ("a", "b", "c"))
        found, numbers = (np.concatenate(part) for part in zip(*rows, strict=True))
        keras_sae.fit(classifier(), rows, iterations=1, verbose=0)
    np.testing.assert_allclose(found, x, rtol=1e-6)
    assert np.array_equal(numbers, np.array([2, 0, 1])[labels])


def test_rows_without_a_label_have_none_on_the_actors(x, tmp_path):
    for number, kinds in enumerate((["b", None, "c"], [None, "a", "b"])):
        np.savez(tmp_path / f"{number}.npz", x=x[:3], kind=np.array([kind or "" for kind in kinds]))
    with cluster(2) as there:
        rows = there.rows(str(tmp_path / "*.npz"), labels="kind", feature="x")
        assert np.concatenate([y for _, y in rows]).tolist() == [1, -1, 2, -1, 0, 1]


def test_paths_are_given_to_fit_as_they_are(x, folder):
    one, other = autoencoder(), autoencoder()
    parts = [np.load(folder / name) for name in names_of(folder, x)]
    with cluster() as there:
        keras_sae.fit(one, str(folder / "*.npy"), iterations=2, verbose=0, cluster=there)
        keras_sae.fit(other, np.concatenate(parts), iterations=2, verbose=0, cluster=there)
    assert relative(flat(one), flat(other)) < 1e-9


def names_of(folder, x):
    for number, rows in enumerate((x[:4], x[4:])):
        np.save(folder / f"x-{number}.npy", rows)
    return ["x-0.npy", "x-1.npy"]


def test_shards_of_different_widths_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((3, 4)))
    np.save(tmp_path / "b.npy", np.ones((3, 5)))
    with (
        cluster() as there,
        raises(InputError, "Expected shards of one width. Received: 4 features in", "a.npy on", ", 5 in", "b.npy on"),
    ):
        there.rows(tmp_path)


def test_a_shard_without_rows_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((3, 4)))
    np.save(tmp_path / "b.npy", np.ones((0, 4)))
    with (
        cluster() as there,
        raises(InputError, "Expected one row or more. Received: no rows", "b.npy", "(On the machine"),
    ):
        there.rows(tmp_path)


def test_a_shard_that_a_machine_does_not_have_is_named_with_the_machine(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((3, 4)))
    with (
        cluster(shards=2) as there,
        raises(InputError, f"{tmp_path / 'b.npy'}, which does not exist", "(On the machine"),
    ):
        there.rows([tmp_path / "a.npy", tmp_path / "b.npy"])


def test_what_an_actor_left_that_was_killed_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "NEW_SECONDS", -1)
    left = tmp_path / f"{worker.FOLDER}abc"
    left.mkdir()
    (left / "features.npy").touch()
    with cluster(actors=1, cache=tmp_path) as first:
        assert not left.exists()
        with cluster(actors=1, cache=tmp_path):
            assert len([*tmp_path.iterdir()]) == 2  # which are held
        first.rows(np.ones((3, 2)))
    assert [*tmp_path.iterdir()] == []


def test_options_and_arrays_that_do_not_fit_are_refused(x, tmp_path):
    with cluster() as there:
        with raises(ValueError, "Expected `labels` with paths of data. Received: an array."):
            there.rows(x, labels="kind")
        with raises(ValueError, "Expected `y` and `sample_weight` with an array. Received: paths."):
            there.rows(tmp_path, x)
        with raises(ValueError, "one target for each of the 23 inputs. Received: 2"):
            there.rows(x, x[:2])


def test_a_full_disk_is_said_with_its_machine(x, tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    ae = autoencoder()
    with cluster(cache=tmp_path) as there:
        rows = there.rows(mapped)
        monkeypatch.setattr(worker, "predict_to_file", full)
        with raises(InputError, "files on the machine", "No space left on device", "Free some space there"):
            rows.encoded(ae.encoder)
        monkeypatch.setattr("keras_sae.files.shutil.disk_usage", lambda folder: type("Disk", (), {"free": 10}))
        with raises(InputError, "GB of room on the disk of", "0.0 GB free", "(On the machine"):
            rows.encoded(ae.encoder)


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_an_actor_with_another_version_is_refused(monkeypatch):
    begin = worker.Worker.begin
    monkeypatch.setattr(worker.Worker, "begin", lambda self, version, *rest: begin(self, "0.0.9", *rest))
    expected = ["Expected keras_sae 0.0.9, as on the driver", f"Received: {keras_sae.__version__} on", "same version"]
    with raises(InputError, *expected):
        cluster()


@pytest.mark.parametrize("name", ["actors", "threads", "shards"])
def test_numbers_below_one_are_refused(name):
    with raises(ValueError, f"`{name}` expects", "Received: 0"):
        keras_sae.Cluster(**{name: 0}, engine=Here())


def test_closing_leaves_the_cluster_once(x):
    there = cluster()
    rows = there.rows(x)
    there.close()
    there.close()
    assert there._actors.engine.closed
    assert there._actors.engine.calls.count("end") == 2
    del rows
    gc.collect()
    assert "forget" not in there._actors.engine.calls
