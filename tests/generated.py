"""Generated models, policies, weights, batches and chunk sizes: `objective` is what `evaluate` and the NumPy twin say.

Nothing here needs TensorFlow, so that the tests of other backends run it too.
"""

import dataclasses

import keras
import numpy as np
from hypothesis import HealthCheck, Phase, given, note, settings, strategies

import keras_sae
from benchmarks import classic
from keras_sae import HalfSquaredError, KLSparsity, SparseAutoencoder, StackedAutoencoder, SummedBinaryCrossentropy
from keras_sae.backend import has_float64
from keras_sae.layers import SparseDense

FEATURES = 6
LOSSES = {"squared": HalfSquaredError, "cross-entropy": SummedBinaryCrossentropy, "mse": lambda: "mse"}
SPARSITIES = {"kl": lambda: KLSparsity(0.1, 3.0), "l1": lambda: keras.regularizers.L1(0.3), "none": lambda: None}


@dataclasses.dataclass(frozen=True)
class Case:
    kind: str
    policy: str
    activation: str
    sparsity: str
    loss: str
    tied: bool
    weights: str
    container: str
    rows: int
    chunk_size: int
    factor: float  # loss_weights
    seed: int


def cases(policies):
    choose = strategies.sampled_from
    return strategies.builds(
        Case,
        kind=choose(["autoencoder", "autoencoder", "stack", "classifier", "layers", "images"]),
        policy=choose(policies),
        activation=choose(["sigmoid", "tanh"]),
        sparsity=choose(list(SPARSITIES)),
        loss=choose(list(LOSSES)),
        tied=strategies.booleans(),
        weights=choose(["none", "counts", "fractions", "one row"]),
        container=choose(["array", "list", "batches"]),
        rows=strategies.integers(2, 40),
        chunk_size=strategies.integers(1, 50),
        factor=choose([1.0, 1.0, 2.5]),
        seed=strategies.integers(0, 2**16),
    )


def property_test(examples, policies):
    def decorate(function):
        checks = [HealthCheck.too_slow]
        options = {"deadline": None, "derandomize": True, "phases": (Phase.generate,), "suppress_health_check": checks}
        return settings(max_examples=examples, **options)(given(cases(policies))(function))

    return decorate


class Batches(keras.utils.PyDataset):
    """Batches of (x, y), or of (x, y, weights), of some rows each."""

    def __init__(self, rows, *arrays):
        super().__init__()
        self.rows, self.arrays = rows, arrays

    def __len__(self):
        return -(-len(self.arrays[0]) // self.rows)

    def __getitem__(self, index):
        return tuple(array[index * self.rows : (index + 1) * self.rows] for array in self.arrays)


def check(case):
    """Compare the objective with `evaluate` on one full batch, with other chunks, and with the NumPy twin."""
    if case.kind in ("classifier", "layers", "images") and case.policy == "bfloat16":
        case = dataclasses.replace(case, policy="mixed_bfloat16")  # Keras adds losses in one dtype
    if case.kind == "images" and case.sparsity == "l1" and "float16" in case.policy:
        case = dataclasses.replace(case, sparsity="kl")  # nor does it add Keras' own penalty in half precision
    if case.kind == "images" and case.loss == "mse":
        case = dataclasses.replace(case, weights="none")  # nor weighs it losses of two positions
    note(f"{case}")
    if case.policy == "float64":
        keras.config.set_floatx("float64")  # for the same reason
    try:
        _check(case)
    finally:
        keras.config.set_floatx("float32")


def _check(case):
    rng = np.random.default_rng(case.seed)
    keras.utils.set_random_seed(case.seed)
    model, x, y = build(case, rng)
    for variable in model.trainable_variables:
        variable.assign(0.5 * rng.standard_normal(variable.shape))
    weights = draw_weights(case, rng)
    targets = x if y is None else y
    data = {"x": x, "y": y, "sample_weight": weights, "chunk_size": case.chunk_size}
    if case.container == "list":
        data |= {"x": x.tolist()}
    if case.container == "batches":
        data = {"x": Batches(case.chunk_size, x, targets, *([] if weights is None else [weights]))}
    found = keras_sae.objective(model, **data)
    rough = "float16" in case.policy  # bfloat16 too
    together = model.evaluate(x, targets, sample_weight=weights, batch_size=len(x), verbose=0, return_dict=True)
    np.testing.assert_allclose(found.value, together["loss"], rtol=0.02 if rough else 3e-5)
    np.testing.assert_allclose(found.value, sum(found.parts.values()), rtol=1e-12)
    whole = keras_sae.objective(model, x, y, sample_weight=weights)
    close = {"rtol": 1e-2 if rough else 1e-5}
    np.testing.assert_allclose(found.value, whole.value, **close)
    compare(found.gradients, whole.gradients, 0.03 if rough else 1e-5)
    if case.kind == "autoencoder" and case.sparsity != "l1" and case.loss != "mse" and case.factor == 1:
        compare_with_twin(case, model, found, x, weights)


def build(case, rng):
    """The model, compiled; the inputs; the targets, None where they are the inputs."""
    options = {"sparsity": SPARSITIES[case.sparsity](), "weight_decay": 0.01, "dtype": case.policy}
    x, y = rng.uniform(0.05, 0.95, (case.rows, FEATURES)), None
    loss, penalty = LOSSES[case.loss](), SPARSITIES[case.sparsity]()
    if case.kind == "autoencoder":
        model = SparseAutoencoder(4, activation=case.activation, tied=case.tied, **options)
        model.build(x.shape)
    elif case.kind in ("stack", "classifier"):
        model = StackedAutoencoder([SparseAutoencoder(n, tied=case.tied, **options) for n in (4, 3)], dtype=case.policy)
        model.build(x.shape)
        if case.kind == "classifier":
            model, y, loss = model.classifier(3), rng.integers(0, 3, case.rows), "sparse_categorical_crossentropy"
    elif case.kind == "layers":
        hidden = SparseDense(4, case.activation, sparsity=penalty, dtype=case.policy)
        output = keras.layers.Dense(FEATURES, "sigmoid", kernel_regularizer="l2", dtype=case.policy)
        model, y = keras.Sequential([keras.Input((FEATURES,)), hidden, output]), x
    else:
        x = y = rng.uniform(0.05, 0.95, (case.rows, 4, 4, 2))
        shared = {"padding": "same", "activation": "sigmoid", "dtype": case.policy}
        hidden = keras.layers.Conv2D(3, 3, activity_regularizer=penalty, **shared)
        model = keras.Sequential([keras.Input((4, 4, 2)), hidden, keras.layers.Conv2D(2, 3, **shared)])
    model.compile(loss=loss, loss_weights=case.factor)
    return model, x, y


def draw_weights(case, rng):
    if case.weights == "none":
        return None
    if case.weights == "counts":
        weights = rng.integers(0, 4, case.rows).astype("float64")
    else:
        weights = rng.uniform(0, 2, case.rows) if case.weights == "fractions" else np.zeros(case.rows)
    weights[rng.integers(case.rows)] = 2.0
    return weights


def compare(found, expected, tolerance):
    """Gradients, each against its own size, or a hundredth of that of all where it nearly vanishes."""
    everything = np.sqrt(sum(np.sum(np.square(g, dtype="float64")) for g in expected))
    for ours, theirs in zip(found, expected, strict=True):
        assert np.linalg.norm(ours - theirs) <= tolerance * max(np.linalg.norm(theirs), 0.01 * everything)


def compare_with_twin(case, model, found, x, weights):
    kl = case.sparsity == "kl"
    twin = classic.Autoencoder(0.1, 3.0 if kl else 0.0, 0.01, case.activation, loss=case.loss, tied=case.tied)
    parameters = [keras.ops.convert_to_numpy(v.value).astype("float64") for v in model.trainable_variables]
    value, gradients = twin.cost(parameters, x, sample_weight=weights)
    exact = case.policy == "float64" and has_float64([keras.activations.get(case.activation)])
    tolerance = 1e-9 if exact else 0.03 if "float16" in case.policy else 1e-4
    np.testing.assert_allclose(found.value, value, rtol=tolerance)
    compare(found.gradients, gradients, tolerance)
    if kl:
        share = np.ones(len(x)) if weights is None else weights
        rest = -1 if case.activation == "tanh" else 0
        mean = np.average(twin.encode(parameters, x), axis=0, weights=share)
        np.testing.assert_allclose(found.rho_hat[0], (mean - rest) / (1 - rest), rtol=max(tolerance, 1e-6))
