import contextlib
import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import keras_sae
from keras_sae import KLSparsity, SparseAutoencoder, StackedAutoencoder
from keras_sae.data import batches
from keras_sae.data.containers import RowSubset
from keras_sae.data.preprocessing import fit_preprocessing
from tests.keras_sae.conftest import Batches, raises, same_weights, two_layers


def unbuilt(**options):
    return StackedAutoencoder([SparseAutoencoder(4, name="one", **options), SparseAutoencoder(3, name="two")])


def test_weights_from_the_input_upwards():
    shapes = [w.shape for w in two_layers().get_weights()]
    assert shapes == [(6, 4), (4,), (4, 6), (6,), (4, 3), (3,), (3, 4), (4,)]


def test_encode_and_decode_go_through_all_layers(x):
    stack = two_layers()
    lower, upper = stack.autoencoders
    features = stack.encode(x)
    np.testing.assert_allclose(features, upper.encode(lower.encode(x)), rtol=1e-12)
    np.testing.assert_allclose(stack.decode(features), lower.decode(upper.decode(features)), rtol=1e-12)
    np.testing.assert_allclose(stack(x), stack.decode(stack.encode(x)), rtol=1e-12)


def test_encoder_is_a_model(x):
    stack = two_layers()
    assert isinstance(stack.encoder, keras.Model)
    assert (stack.encoder.input_shape, stack.encoder.output_shape) == ((None, 6), (None, 3))
    np.testing.assert_allclose(stack.encoder(x), stack.encode(x), rtol=1e-12)


def test_pretraining_is_greedy(x):
    """As training the layers by hand: the second on the features of the first as trained."""
    stack, by_hand = unbuilt(), unbuilt()
    by_hand.build(x.shape)
    stack.build(x.shape)
    by_hand.set_weights(stack.get_weights())
    options = {"iterations": 4, "verbose": 0}
    histories = stack.pretrain(x, **options)
    lower, upper = by_hand.autoencoders
    expected = [keras_sae.fit(lower, x, **options)]
    expected.append(keras_sae.fit(upper, ops.convert_to_numpy(lower.encode(x)), **options))
    for found, wanted in zip(histories, expected, strict=True):
        assert found.history["loss"] == pytest.approx(wanted.history["loss"], rel=1e-5)
    for found, wanted in zip(stack.get_weights(), by_hand.get_weights(), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_moving_averages_in_a_stack(x):
    """Training the whole stack moves the averages of all its layers; the classifier has none of them."""
    penalty = KLSparsity(0.2, 1.0, window=128)
    stack = StackedAutoencoder([SparseAutoencoder(units, penalty) for units in (4, 3)])
    stack.fit(x, batch_size=23, epochs=2, verbose=0)
    averages = [ae.encoder.get_layer("sparsity") for ae in stack.autoencoders]
    exact = keras_sae.objective(stack, x).rho_hat
    for average, rho_hat in zip(averages, exact, strict=True):
        np.testing.assert_allclose(average.rho_hat, rho_hat, atol=0.01)  # two steps of Adam further
    before = [ops.convert_to_numpy(average.rho_hat) for average in averages]
    classifier = stack.classifier(num_classes=3)
    np.testing.assert_allclose(classifier.get_layer("encoder")(x), stack.encode(x), rtol=1e-6)
    classifier.fit(x, np.zeros(23), verbose=0)
    np.testing.assert_array_equal(before[0], averages[0].rho_hat)
    np.testing.assert_array_equal(before[1], averages[1].rho_hat)


def test_pretraining_on_minibatches(x):
    stack = unbuilt()
    histories = stack.pretrain(x, "adam", 3, batch_size=8, verbose=0)
    assert [len(h.history["loss"]) for h in histories] == [3, 3]
    assert all(h.history["loss"][-1] < h.history["loss"][0] for h in histories)


def test_pretraining_keeps_the_loss_an_autoencoder_was_compiled_with(x):
    stack, inputs = unbuilt(), []
    stack.autoencoders[0].compile(loss=keras_sae.SummedBinaryCrossentropy())

    for autoencoder, data in stack.stages(x):
        keras_sae.fit(autoencoder, data, optimizer="adam", iterations=1, verbose=0)
        inputs.append((type(autoencoder.loss), data.shape))
    # the second was not compiled: training takes the default
    assert inputs == [(keras_sae.SummedBinaryCrossentropy, (23, 6)), (keras_sae.HalfSquaredError, (23, 4))]


def test_the_former_way_to_pretrain_warns_and_works(x):
    stack, twin = unbuilt(), unbuilt()
    twin.build(x.shape)
    stack.build(x.shape)
    twin.set_weights(stack.get_weights())
    with pytest.warns(DeprecationWarning, match="is now pretrain"):
        stack.pretrain(x, fit=keras_sae.fit_lbfgs, max_iterations=2, verbose=0)
    with pytest.warns(DeprecationWarning, match="is now pretrain"):
        twin.pretrain(x, max_iterations=2, verbose=0)
    assert same_weights(stack, twin)


def test_stack_trains_as_a_whole(x):
    stack = two_layers(dtype="float32", sparsity=KLSparsity(0.2, 1.0), weight_decay=0.01)
    stack.compile()
    expected = keras_sae.objective(stack, x).value
    assert stack.evaluate(x, batch_size=23, verbose=0) == pytest.approx(expected, rel=1e-5)
    before = stack.get_weights()
    history = keras_sae.fit_lbfgs(stack, x, max_iterations=5, verbose=0).history
    assert history["loss"][-1] < expected
    assert not any(np.array_equal(a, b) for a, b in zip(before, stack.get_weights(), strict=True))


def test_a_stack_of_autoencoders_with_weights_needs_no_build(x):
    below, above = keras_sae.SparseAutoencoder(4), keras_sae.SparseAutoencoder(3)
    below.build((None, x.shape[1]))
    stack = keras_sae.StackedAutoencoder([below, above])
    classifier = stack.classifier(3)
    np.testing.assert_allclose(stack.encode(x), above.encode(below.encode(x)), rtol=1e-6)
    np.testing.assert_allclose(classifier.get_layer("encoder")(x), stack.encode(x), rtol=1e-6)


def test_classifier_begins_with_the_features_of_the_stack(x):
    stack = two_layers()
    classifier = stack.classifier(3)
    np.testing.assert_allclose(classifier.get_layer("encoder")(x), stack.encode(x), rtol=1e-12)
    probabilities = ops.convert_to_numpy(classifier(x))
    assert probabilities.shape == (23, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    assert [w.shape for w in classifier.get_weights()] == [(6, 4), (4,), (4, 3), (3,), (3, 3), (3,)]


@pytest.mark.parametrize("how", ["fit", "fit_lbfgs"])
def test_training_the_classifier_leaves_the_stack_untouched(how, x, labels):
    stack, copy = two_layers(dtype="float32"), two_layers(dtype="float32")
    classifier = stack.classifier(3)
    before = classifier.get_weights()
    if how == "fit":
        classifier.fit(x, labels, epochs=2, verbose=0)
    else:
        keras_sae.fit_lbfgs(classifier, x, labels, max_iterations=2, verbose=0)
    assert not np.array_equal(before[0], classifier.get_weights()[0])
    assert same_weights(stack, copy)


def test_classifier_penalises_the_head_alone(x, labels):
    classifier = two_layers(weight_decay=5.0, sparsity=KLSparsity(0.01, 50.0)).classifier(3, weight_decay=0.1)
    theta = classifier.get_layer("head").get_weights()[0]
    parts = keras_sae.objective(classifier, x, labels).parts
    assert parts["weight_decay"] == pytest.approx(0.05 * np.sum(theta**2), rel=1e-10)
    assert parts["sparsity"] == 0


def test_classifier_is_compiled_for_integer_labels(x, labels):
    classifier = two_layers(dtype="float32").classifier(3, weight_decay=0.1)
    loss, accuracy = classifier.evaluate(x, labels, batch_size=23, verbose=0)
    assert loss == pytest.approx(keras_sae.objective(classifier, x, labels).value, rel=1e-5)
    predicted = classifier.predict(x, verbose=0).argmax(axis=1)
    assert accuracy == pytest.approx(np.mean(predicted == labels), rel=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_reaches_every_layer(dtype, x):
    stack = two_layers(dtype=dtype)
    classifier = stack.classifier(3)
    for output in (stack.encode(x), stack(x), classifier(x)):
        assert keras.backend.standardize_dtype(output.dtype) == dtype


@pytest.mark.parametrize("tied", [False, True])
def test_plain_keras_loads_what_was_saved(tied, x, tmp_path):
    options = {"tied": tied, "activation": "tanh", "corruption": 0.25, "sparsity": KLSparsity(0.2, 5.0)}
    stack = two_layers(dtype="float32", **options)
    stack.save(tmp_path / "stack.keras")
    copy = keras.saving.load_model(tmp_path / "stack.keras")
    assert type(copy) is StackedAutoencoder
    assert (copy.name, copy.dtype) == (stack.name, stack.dtype)
    assert [ae.get_config() for ae in copy.autoencoders] == [ae.get_config() for ae in stack.autoencoders]
    assert same_weights(copy, stack)
    np.testing.assert_allclose(copy(x), stack(x), rtol=1e-6)
    np.testing.assert_allclose(copy.encoder(x), stack.encoder(x), rtol=1e-6)


def test_plain_keras_loads_a_pretrained_stack(x, tmp_path):
    stack = unbuilt()
    stack.pretrain(x, "adam", 1, verbose=0)
    stack.save(tmp_path / "stack.keras")
    copy = keras.saving.load_model(tmp_path / "stack.keras")
    np.testing.assert_allclose(copy(x), stack(x), rtol=1e-6)


def test_plain_keras_loads_a_classifier(x, labels, tmp_path):
    classifier = two_layers(dtype="float32").classifier(3, weight_decay=0.1)
    classifier.fit(x, labels, verbose=0)
    classifier.save(tmp_path / "classifier.keras")
    copy = keras.saving.load_model(tmp_path / "classifier.keras")
    np.testing.assert_allclose(copy(x), classifier(x), rtol=1e-6)
    found, expected = (keras_sae.objective(model, x, labels) for model in (copy, classifier))
    assert found.parts == pytest.approx(expected.parts, rel=1e-6)
    assert found.parts["weight_decay"] > 0


@pytest.mark.parametrize("autoencoders", [[], None, [SparseAutoencoder(3), "four"], [keras.layers.Dense(3)]])
def test_stack_of_something_else(autoencoders):
    with raises(ValueError, "Expected a list of one or more SparseAutoencoder", f"Received: {autoencoders}"):
        StackedAutoencoder(autoencoders)


def test_encoder_before_the_number_of_features_is_known():
    for use in (lambda stack: stack.encoder, lambda stack: stack.classifier(3)):
        with raises(ValueError, "The StackedAutoencoder has no weights yet", "build((None, features)) first"):
            use(unbuilt())


@pytest.mark.parametrize("number", [1, 0, -3])
def test_classifier_of_fewer_than_two_classes(number):
    with raises(ValueError, "`num_classes` must be 2 or more", f"num_classes={number}"):
        two_layers().classifier(number)


# --- raw inputs, preprocessed inside ---


@pytest.fixture
def raw(x):
    """Inputs in units of their own: each feature with another range."""
    return (x * [1, 2, 5, 0.1, 30, 1000] - [0, 1, 0, 5, 100, 0]).astype("float32")


@pytest.fixture
def steps(raw):
    return fit_preprocessing(raw)


def preprocessed(steps, raw):
    return ops.convert_to_numpy(steps(raw))


def raw_stack(steps, **options):
    """A stack 6-4-3 with random weights that takes raw inputs, and another with the same weights that does not."""
    stack = StackedAutoencoder([SparseAutoencoder(units, **options) for units in (4, 3)], steps)
    stack.build((None, 6))
    plain = two_layers(dtype="float32", **options)
    for one, other in zip(stack.autoencoders, plain.autoencoders, strict=True):
        one.set_weights(other.get_weights())
    return stack, plain


def test_everything_takes_raw_inputs(steps, raw):
    stack, plain = raw_stack(steps)
    scaled = preprocessed(steps, raw)
    assert (scaled.min(), scaled.max()) == (0, 1)
    np.testing.assert_allclose(stack.encode(raw), plain.encode(scaled), rtol=1e-5)
    np.testing.assert_allclose(stack.encoder(raw), plain.encoder(scaled), rtol=1e-5)
    np.testing.assert_allclose(stack(raw), plain(scaled), rtol=1e-5)
    np.testing.assert_allclose(stack.targets(raw), scaled, rtol=1e-6)
    np.testing.assert_allclose(stack.classifier(3).get_layer("encoder")(raw), plain.encode(scaled), rtol=1e-5)
    np.testing.assert_allclose(stack.predict(raw, verbose=0), plain(scaled), rtol=1e-5)


def test_the_distance_to_far_rows_is_not_cut_off(steps, raw):
    stack, plain = raw_stack(steps)
    np.testing.assert_allclose(stack.uncut(raw), preprocessed(steps, raw), atol=1e-6)
    width = raw[:, 1].max() - raw[:, 1].min()
    far = raw[:1] + np.outer([0, 1, 10, 1e3, 1e6], np.eye(6)[1] * width).astype("float32")
    np.testing.assert_allclose((stack.uncut(far) - stack.uncut(raw[:1]))[:, 1], [0, 1, 10, 1e3, 1e6], rtol=1e-4)
    np.testing.assert_array_equal(stack.targets(far)[1:, 1], np.ones(4))
    np.testing.assert_array_equal(plain.uncut(raw), raw)  # nothing is preprocessed


def test_what_the_stack_gives_back_in_the_units_of_raw_inputs(steps, raw):
    stack, plain = raw_stack(steps)
    low, high = raw.min(axis=0).astype("float64"), raw.max(axis=0).astype("float64")
    np.testing.assert_allclose(stack.unscaled(stack.targets(raw)), raw, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(stack.unscaled(stack(raw)), low + np.asarray(stack(raw)) * (high - low), rtol=1e-4)
    np.testing.assert_array_equal(plain.unscaled(plain(raw)), np.asarray(plain(raw)))
    for options in ({"contrast": True}, {"whiten": True}):
        assert raw_stack(fit_preprocessing(raw, **options))[0].unscaled(stack.targets(raw)) is None


def test_the_objective_of_raw_inputs_has_what_is_preprocessed_as_targets(steps, raw):
    stack, plain = raw_stack(steps, weight_decay=0.1, sparsity=KLSparsity(0.2, 2.0))
    scaled = preprocessed(steps, raw)
    found = keras_sae.objective(stack, raw, chunk_size=7)
    for expected in (keras_sae.objective(stack, raw, y=scaled), keras_sae.objective(plain, scaled)):
        assert found.parts == pytest.approx(expected.parts, rel=1e-5)
        for one, other in zip(found.gradients, expected.gradients, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    stack.compile()
    assert stack.evaluate(raw, batch_size=23, verbose=0) == pytest.approx(found.value, rel=1e-5)


def test_keras_fit_learns_to_return_what_is_preprocessed(steps, raw):
    stack, _ = raw_stack(steps, sparsity=None, weight_decay=0.0)
    before = keras_sae.objective(stack, raw).value
    frozen = steps.get_weights()
    stack.compile(keras.optimizers.Adam(0.1))
    loss = stack.fit(raw, epochs=60, batch_size=23, verbose=0).history["loss"]
    after = keras_sae.objective(stack, raw).value
    assert after < 0.8 * before
    assert loss[-1] == pytest.approx(after, rel=0.2)
    error = (ops.convert_to_numpy(stack(raw)) - preprocessed(steps, raw)) ** 2
    assert error.sum(axis=1).mean() / 2 == pytest.approx(after, rel=1e-5)
    for one, other in zip(frozen, steps.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("options", [{}, {"contrast": True, "whiten": True}], ids=str)
def test_preprocessing_is_saved_and_loaded_with_the_stack(options, raw, tmp_path):
    steps = fit_preprocessing(raw, **options)
    stack, _ = raw_stack(steps)
    stack.save(tmp_path / "stack.keras")
    copy = keras.saving.load_model(tmp_path / "stack.keras")
    assert type(copy) is StackedAutoencoder
    for name in ("encoder", "targets", "__call__"):
        np.testing.assert_allclose(getattr(copy, name)(raw), getattr(stack, name)(raw), rtol=1e-6, atol=1e-7)
    classifier = stack.classifier(3)
    classifier.save(tmp_path / "classifier.keras")
    copy = keras.saving.load_model(tmp_path / "classifier.keras", compile=False)
    np.testing.assert_allclose(copy(raw), classifier(raw), rtol=1e-6)


def test_a_stack_from_its_config_preprocesses_alike(steps, raw):
    stack, _ = raw_stack(steps)
    copy = StackedAutoencoder.from_config(stack.get_config())
    copy.build((None, 6))
    copy.set_weights(stack.get_weights())
    np.testing.assert_allclose(copy(raw), stack(raw), rtol=1e-6)
    assert two_layers().get_config()["preprocessing"] is None


# --- pretraining on data of every kind ---


@pytest.fixture
def pretrained(steps, raw, tmp_path):
    """pretrained(kind, ...) -> (stack, histories): as many rows at a time whatever the kind of the data."""
    np.save(tmp_path / "raw.npy", raw)
    kinds = {
        "array": lambda: raw,
        "memmap": lambda: np.load(tmp_path / "raw.npy", mmap_mode="r"),
        "RowSubset": lambda: RowSubset(np.load(tmp_path / "raw.npy", mmap_mode="r"), np.arange(23)),
        "tf.data": lambda: tf.data.Dataset.from_tensor_slices(raw).batch(7),
        "PyDataset": lambda: Batches(raw),
    }

    def pretrain(kind, preprocessing=steps, fit=keras_sae.fit, directory=None):
        keras.utils.set_random_seed(0)
        stack = StackedAutoencoder([SparseAutoencoder(units) for units in (5, 4, 3)], preprocessing)
        stack.build((None, 6))
        options = {"iterations": 3, "chunk_size": 7, "verbose": 0}
        stages = stack.stages(kinds[kind](), directory)
        return stack, [fit(autoencoder, inputs, **options) for autoencoder, inputs in stages]

    return pretrain


@pytest.mark.parametrize("kind", ["memmap", "RowSubset", "tf.data", "PyDataset"])
def test_pretraining_on_data_of_every_kind(kind, pretrained):
    expected, histories = pretrained("array")
    found, others = pretrained(kind)
    for one, other in zip(histories, others, strict=True):
        assert other.history["loss"] == pytest.approx(one.history["loss"], rel=1e-4)
    for one, other in zip(found.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


def test_features_of_mapped_data_are_on_disk_while_the_layer_above_is_trained(pretrained, tmp_path):
    folder = tmp_path / "features"
    folder.mkdir()
    seen = []

    def fit(autoencoder, inputs, **options):
        files = sorted(path.name for path in folder.iterdir())
        seen.append((type(inputs).__name__, inputs.shape, files))
        return keras_sae.fit(autoencoder, inputs, **options)

    pretrained("memmap", fit=fit, directory=folder)
    assert seen == [
        ("RowSubset", (23, 6), []),
        ("memmap", (23, 5), ["features_1.npy"]),
        ("memmap", (23, 4), ["features_2.npy"]),
    ]
    assert list(folder.iterdir()) == []


def test_features_of_data_in_memory_stay_there(pretrained, tmp_path):
    seen = []

    def fit(autoencoder, inputs, **options):
        seen.append((type(inputs).__name__, list(folder.iterdir())))

    folder = tmp_path / "features"
    folder.mkdir()
    pretrained("array", fit=fit, directory=folder)
    assert seen == [("ndarray", [])] * 3


def test_pretraining_that_was_stopped_goes_on_with_the_features_that_it_left(pretrained, tmp_path, monkeypatch):
    folder = tmp_path / "features"
    folder.mkdir()

    def fit(autoencoder, inputs, **options):
        if autoencoder.units == 4 and stop:
            raise KeyboardInterrupt
        options["checkpoint"] = tmp_path / f"{autoencoder.units}.npz"
        return keras_sae.fit(autoencoder, inputs, **options)

    stop = True
    with pytest.raises(KeyboardInterrupt):
        pretrained("memmap", fit=fit, directory=folder)
    [left] = folder.iterdir()
    assert left.name == "features_1.npy"
    before = left.stat().st_mtime_ns
    stop, written, write = False, [], batches.predict_to_file

    def remember(model, x, path):
        written.append((path.endswith("features_1.npy"), left.exists() and left.stat().st_mtime_ns == before))
        return write(model, x, path)

    monkeypatch.setattr(batches, "predict_to_file", remember)
    found, _ = pretrained("memmap", fit=fit, directory=folder)
    expected, _ = pretrained("memmap")
    assert written[:2] == [(True, True), (False, True)]  # still the file of the first attempt
    assert same_weights(found, expected)
    assert list(folder.iterdir()) == []


def test_without_a_directory_nothing_stays_behind(pretrained, tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    during = []

    def fit(autoencoder, inputs, **options):
        during.append(len(list(temporary.rglob("*.npy"))))
        if stop and len(during) == 3:
            raise KeyboardInterrupt

    for stop in (False, True):
        during.clear()
        with pytest.raises(KeyboardInterrupt) if stop else contextlib.nullcontext():
            pretrained("tf.data", fit=fit)
        assert during == [0, 1, 1]
        assert list(temporary.iterdir()) == []
