import keras
import numpy as np
import pytest

import keras_sae
from keras_sae import KLSparsity, layers, sparsity
from keras_sae.monitoring import snapshots
from keras_sae.monitoring.snapshots import Subject, hidden_part, scale_of
from keras_sae.visualization import confusion_picture
from tests.keras_sae.conftest import FEATURES, UNITS, Batches, autoencoder, dictionary, raises, two_layers


def subject(model, x, y=None, **options):
    if not model.compiled:
        model.compile()
    return Subject(model, model.trainable_variables, x, y, **options)


def sequential(activation="sigmoid"):
    """A sparse autoencoder of ordinary layers."""
    hidden = layers.SparseDense(UNITS, activation, KLSparsity(0.1) if activation in ("sigmoid", "tanh") else None)
    model = keras.Sequential([keras.Input((FEATURES,)), hidden, keras.layers.Dense(FEATURES, "sigmoid")])
    model.compile(loss=keras_sae.HalfSquaredError())
    return model


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_rho_hat_is_exact_over_all_rows_and_on_the_scale_from_0_to_1(activation, x, monkeypatch):
    monkeypatch.setattr(snapshots, "ROWS", 3)  # of the sample, which has nothing to do with it
    ae = autoencoder(activation=activation)
    found = subject(ae, x)
    assert len(found.rows) <= 3
    rho_hat, frequency = found.units()
    kernel, bias, *_ = ae.get_weights()
    pre = x @ kernel + bias
    expected = 1 / (1 + np.exp(-pre)) if activation == "sigmoid" else (1 + np.tanh(pre)) / 2
    np.testing.assert_allclose(rho_hat, expected.mean(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(frequency, 1)


def test_units_that_rest_and_units_that_are_always_active_are_counted(x):
    ae = autoencoder()
    bias = ae.encoder.get_layer("hidden").bias
    bias.assign([-100.0, -100.0, 100.0, 0.0])
    found = subject(ae, x)
    numbers = found.scalars(*found.units())
    assert (numbers["units/dead"], numbers["units/saturated"]) == (2, 1)
    assert "units/l0" not in numbers  # sigmoid units are never exactly 0
    assert numbers["units/rho_hat"] == pytest.approx(found.units()[0].mean())


def test_units_without_bounds_are_dead_at_0_and_have_an_l0(x):
    ae = dictionary(sparsity.TopK(2))
    found = subject(ae, x)
    codes = np.asarray(ae.encode(x))
    rho_hat, frequency = found.units()
    np.testing.assert_allclose(rho_hat, codes.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(frequency, (codes != 0).mean(axis=0), rtol=1e-12)
    numbers = found.scalars(rho_hat, frequency)
    assert numbers["units/l0"] == pytest.approx((codes != 0).sum(axis=1).mean())
    assert numbers["units/dead"] == (codes == 0).all(axis=0).sum()
    numbers = found.scalars(rho_hat, np.array([0, 0.25, 1, 1]))
    assert {name: numbers[name] for name in ("units/dead", "units/saturated", "units/l0")} == {
        "units/dead": 1, "units/saturated": 2, "units/l0": 2.25
    }  # fmt: skip


@pytest.mark.parametrize(
    ("model", "scale"),
    [
        (autoencoder, 0.0),
        (lambda: autoencoder(activation="tanh"), -1.0),
        (lambda: autoencoder(sparsity=keras.regularizers.L1(0.1), activation="relu"), None),
        (lambda: autoencoder(sparsity=None), 0.0),
        (lambda: dictionary(sparsity.JumpReLU(2)), None),
        (two_layers, 0.0),
        (lambda: two_layers(activation="tanh").classifier(3), -1.0),
        (lambda: sequential("tanh"), -1.0),
        (lambda: sequential("relu"), None),
    ],
)
def test_the_codes_of_a_model_and_their_scale_are_found(model, scale, x):
    model = model()
    hidden = hidden_part(model)
    assert hidden.output_shape[-1] in (UNITS, 3)
    found = scale_of(hidden)
    assert (found and found.inactive) == scale
    assert len(hidden.weights) < len(model.weights)


def test_codes_with_places_count_each_and_are_one_point_a_row(x):
    convolution = keras.layers.Conv2D(3, (1, 2), activation="relu")
    model = keras.Sequential([keras.Input((2, 3, 1)), convolution, keras.layers.Conv2DTranspose(1, (1, 2))])
    model.compile(loss="mse")
    images = x.astype("float32").reshape(-1, 2, 3, 1)
    found, codes = subject(model, images, shape=(2, 3)), np.asarray(convolution(images)).astype("float64")
    rho_hat, frequency = found.units()
    np.testing.assert_allclose(rho_hat, codes.mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(frequency, (codes != 0).mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(found.points(), codes.mean(axis=(1, 2)), rtol=1e-6)
    assert found.pictures()["reconstructions"].shape == (7, 4 * len(images[::2]) + 1)


def test_models_without_codes_have_none():
    class Other(keras.Model):
        def call(self, inputs):
            return inputs

    inputs = keras.Input((4,))
    softmax = keras.layers.Dense(3, "softmax")
    two = keras.Model(inputs, [softmax(inputs), inputs])
    scaled = keras.Sequential([keras.Input((4,)), keras.layers.Rescaling(2.0), softmax])
    sums = keras.Model(inputs, keras.layers.Add()([softmax(inputs), softmax(inputs)]))
    for model in (Other(), keras.Sequential([keras.Input((4,)), softmax]), two, scaled, sums):
        assert hidden_part(model) is None


def gradient_of(model, x, y=None):
    found = keras_sae.objective(model, x, y).gradients
    return np.linalg.norm(np.concatenate([gradient.ravel() for gradient in found]))


@pytest.mark.parametrize("make", [autoencoder, two_layers], ids=["autoencoder", "stack"])
def test_the_gradient_of_a_sample_of_all_rows_is_that_of_the_objective(make, x):
    model = make(dtype="float32")
    assert subject(model, x).gradient_norm() == pytest.approx(gradient_of(model, x), rel=1e-5)


def test_the_gradient_of_a_classifier_needs_labels_and_that_of_a_keras_autoencoder_none(x, labels):
    classifier = two_layers(dtype="float32").classifier(3)
    found = subject(classifier, x, labels).gradient_norm()
    assert found == pytest.approx(gradient_of(classifier, x, labels), rel=1e-5)
    assert subject(classifier, x).gradient_norm() is None
    model = sequential()
    assert subject(model, x, labels).gradient_norm() == pytest.approx(gradient_of(model, x, x), rel=1e-5)


def test_the_gradient_is_that_of_the_variables_that_are_trained(x, labels):
    classifier = two_layers(dtype="float32").classifier(3)
    head = classifier.get_layer("head").trainable_variables
    found = Subject(classifier, head, x, labels).gradient_norm()
    classifier.get_layer("encoder").trainable = False
    assert found == pytest.approx(gradient_of(classifier, x, labels), rel=1e-5)


@pytest.mark.parametrize(
    "model",
    [
        lambda: dictionary(sparsity.BatchTopK(2), dtype="float32"),
        lambda: autoencoder(sparsity=KLSparsity(0.1, window=32), dtype="float32", corruption=0.5),
    ],
    ids=["thresholds and counts", "a moving average and noise"],
)
def test_to_look_changes_nothing(model, x):
    model = model()
    found = subject(model, x, shape=(2, 3))
    before = [np.array(v) for v in model.variables]
    assert found.gradient_norm() > 0
    found.pictures()
    found.units()
    for one, other in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_sample_is_spread_evenly_and_labels_go_with_it(x, labels, monkeypatch):
    monkeypatch.setattr(snapshots, "ROWS", 5)
    names = np.array(["one", "two", "three"])
    found = subject(autoencoder(), x, names[labels])
    np.testing.assert_array_equal(found.rows, x[::5])
    assert found.names() == list(names[labels][::5])
    found = subject(autoencoder(), x, labels[:, None], class_names=names)
    assert found.names() == list(names[labels][::5])
    assert subject(autoencoder(), x).names() is None


def test_wide_rows_or_codes_make_a_small_sample(x, monkeypatch):
    monkeypatch.setattr(snapshots, "NUMBERS", 4 * FEATURES)
    assert len(subject(autoencoder(), x).rows) == 4
    assert len(subject(autoencoder(2 * FEATURES), x).rows) == 2


def test_of_a_data_set_the_sample_are_the_first_rows(x, labels, monkeypatch):
    monkeypatch.setattr(snapshots, "ROWS", 9)
    found = subject(autoencoder(), Batches(x, labels))
    np.testing.assert_array_equal(found.rows, x[:9])
    assert found.names() == [str(label) for label in labels[:9]]
    np.testing.assert_allclose(found.units()[0], subject(autoencoder(), x).units()[0], rtol=1e-12)
    assert subject(autoencoder(), Batches(x, x)).labels is None


def test_reconstructions_are_below_their_inputs(x):
    ae = autoencoder()
    image = subject(ae, x, shape=(2, 3)).pictures()["reconstructions"]
    rows = x[::2]
    tiles = np.concatenate([rows, np.asarray(ae(rows))]).reshape(2, len(rows), 2, 3)
    for line, row in enumerate(tiles):
        for column, tile in enumerate(row):
            found = image[1 + 3 * line :, 1 + 4 * column :][:2, :3]
            np.testing.assert_array_equal(found, np.round(255 * tile))


def test_the_confusion_matrix_counts_labels_by_what_the_model_says(x, labels):
    classifier = two_layers(dtype="float32").classifier(3)
    said = np.asarray(classifier(x.astype("float32"))).argmax(axis=1)
    counts = np.array([[np.sum((labels == i) & (said == j)) for j in range(3)] for i in range(3)])
    found = subject(classifier, x, labels).pictures()
    np.testing.assert_array_equal(found["confusion"], confusion_picture(counts, ["0", "1", "2"]))
    named = subject(classifier, x, labels, class_names=["red", "green", "blue"]).pictures()
    np.testing.assert_array_equal(named["confusion"], confusion_picture(counts, ["red", "green", "blue"]))
    assert subject(autoencoder(), x, labels).pictures() == {}
    assert subject(classifier, x).pictures() == {}


def test_rows_without_a_label_are_in_no_confusion_matrix(x, labels):
    classifier = two_layers(dtype="float32").classifier(3)
    known = subject(classifier, x[:9], labels[:9], class_names=["a", "b", "c"])
    some = subject(classifier, x, np.append(labels[:9], np.full(14, -1)), class_names=["a", "b", "c"])
    np.testing.assert_array_equal(some._confusion(), known._confusion())
    assert some.names() == [*known.names(), *[""] * 14]
    assert some.gradient_norm() == pytest.approx(known.gradient_norm(), rel=1e-6)
    assert subject(classifier, x, np.full(23, -1)).gradient_norm() is None


def test_very_many_classes_have_no_confusion_matrix(x, labels, monkeypatch):
    monkeypatch.setattr(snapshots, "CLASSES", 2)
    assert subject(two_layers(dtype="float32").classifier(3), x, labels).pictures() == {}


def test_thumbnails_are_the_rows(x):
    found = subject(autoencoder(), x, shape=(3, 2)).thumbnails()
    np.testing.assert_array_equal(found, np.round(255 * x).reshape(-1, 3, 2))
    assert subject(autoencoder(), x).thumbnails() is None


def test_weights_are_sampled_evenly_if_they_are_many(monkeypatch):
    ae = autoencoder(name="ae")
    found = snapshots.weights(ae.trainable_variables)
    names = ["hidden/kernel", "hidden/bias", "output/kernel", "output/bias"]
    assert list(found) == [f"weights/ae/{name}" for name in names]
    for values, weight in zip(found.values(), ae.get_weights(), strict=True):
        np.testing.assert_array_equal(values, weight.ravel())
    monkeypatch.setattr(snapshots, "VALUES", 8)
    np.testing.assert_array_equal(
        snapshots.weights(ae.trainable_variables)["weights/ae/hidden/kernel"], ae.kernel.numpy().ravel()[::3]
    )


def test_features_are_tiles_of_the_first_units(monkeypatch):
    ae = autoencoder()
    found = snapshots.features(ae.trainable_variables, (2, 3))
    np.testing.assert_array_equal(found["features"], keras_sae.display_network(ae.kernel, (2, 3)))
    monkeypatch.setattr(snapshots, "TILES", 2)
    found = snapshots.features(ae.trainable_variables, (2, 3))
    np.testing.assert_array_equal(found["features"], keras_sae.display_network(ae.kernel[:, :2], (2, 3)))
    assert snapshots.features(ae.trainable_variables, (7, 7)) == {}


def test_what_does_not_fit_is_refused(x, labels):
    with raises(ValueError, "Expected rows of 9 features, as pictures of shape=(3, 3) have. Received: 6."):
        subject(autoencoder(), x, shape=(3, 3))
    with raises(ValueError, "Expected one label for each of the 23 rows. Received shape: (22,). If they are one-hot"):
        subject(autoencoder(), x, labels[1:])
    with raises(ValueError, "Expected one label", "Received shape: (23, 3)"):
        subject(autoencoder(), x, np.eye(3)[labels])
    with raises(ValueError, "Expected data of shape (examples, 6)", "(23, 5)"):
        subject(autoencoder(), x[:, 1:])
