import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sae
from keras_sae import dead_units
from keras_sae.callbacks import ResampleDeadUnits
from keras_sae.sparsity import L1, Contractive, Gated, JumpReLU, TopK, WinnerTakeAll
from tests.keras_sae.conftest import FEATURES, autoencoder, dictionary, raises, same_weights, two_layers

DEAD = np.array([1, 4])
ALIVE = np.array([0, 2, 3, 5])


def half_dead(method=None, optimizer="adam", **options):
    """As many units as features, so that kernels look alike, and an optimizer with a past; two of them are dead."""
    ae = dictionary(method or L1(0.1, window=100), units=6, **options)
    ae.compile(optimizer)
    ae.optimizer.build(ae.trainable_variables)
    for slot in ae.optimizer.variables:
        if slot.shape:
            slot.assign(0.1 + np.random.default_rng(3).random(slot.shape))
    ae.sparsity.silent.assign(np.where(np.isin(np.arange(6), DEAD), 101.0, 7.0))
    return ae


def end_of_epoch(ae, x, epoch=0, **options):
    """Let the callback do what it does at the end of an epoch, and return the logs."""
    callback, logs = ResampleDeadUnits(x, **{"every": 1} | options), {}
    callback.set_model(ae)
    callback.on_train_begin()
    callback.on_epoch_end(epoch, logs)
    return logs


def values(variables):
    return {variable.path: np.array(keras.ops.convert_to_numpy(variable)) for variable in variables}


OPTIONS = [
    {},
    {"input_scale": True},
    {"pre_bias": False, "unit_norm": False},
    {"tied": True},
    {"method": Contractive(0.1, window=100), "activation": "relu"},
    {"method": TopK(2, window=100), "dtype": "float32"},
    {"method": JumpReLU(2, threshold=0.25, window=100)},
    {"method": Gated(0.2, window=100), "input_scale": True},
    {"dtype": "mixed_float16"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_dead_units_start_at_rows_and_all_else_stays(options, x):
    ae = half_dead(**options)
    hidden, output = ae.encoder.get_layer("hidden"), ae.output_layer
    before, slots = values(ae.variables), values(ae.optimizer.variables)
    rest = np.asarray(output.activation(keras.ops.convert_to_tensor(output.bias))).astype("float64")
    rows = float(output.scale) * x - rest
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert end_of_epoch(ae, x) == {"resampled_units": 2}
    after = values(ae.variables)

    tolerance = {
        "rtol": 1e-4 if ae.dtype_policy.name != "float64" else 1e-10,
        "atol": 1e-3 if "16" in str(options) else 1e-7,
    }
    length = 0.2 * np.linalg.norm(before[hidden.kernel.path], axis=0)[ALIVE].mean()
    columns = after[hidden.kernel.path][:, DEAD].T
    chosen = [int(np.argmax(rows @ column)) for column in columns]
    assert len(set(chosen)) == 2
    np.testing.assert_allclose(columns, length * rows[chosen], **tolerance)
    np.testing.assert_array_equal(after[ae.sparsity.silent.path], np.where(np.isin(np.arange(6), DEAD), 0, 7))
    changed = {hidden.kernel.path: np.s_[:, DEAD], ae.sparsity.silent.path: DEAD}
    for weight in [*([hidden.bias] if hidden.use_bias else []), *ae.sparsity.trainable_variables]:
        np.testing.assert_array_equal(after[weight.path][DEAD], 0.25 if weight.name == "theta" else 0)
        changed[weight.path] = DEAD
    if not ae.tied:
        np.testing.assert_allclose(after[output.own_kernel.path][DEAD], rows[chosen], **tolerance)
        changed[output.own_kernel.path] = DEAD
    for path, places in changed.items():  # all others are as they were
        before[path][places] = after[path][places]
    for path, value in after.items():
        np.testing.assert_array_equal(value, before[path])

    for path, places in changed.items():
        for name in slots:
            if f"/{path.replace('/', '_')}_" in name:
                assert slots[name][places].all()  # there was something to forget
                slots[name][places] = 0
    for name, value in values(ae.optimizer.variables).items():
        np.testing.assert_array_equal(value, slots[name])


@pytest.mark.parametrize(
    "optimizer",
    [
        keras.optimizers.SGD(0.1, momentum=0.9),
        keras.optimizers.RMSprop(momentum=0.5, centered=True),
        keras.optimizers.Adam(amsgrad=True, use_ema=True),
        keras.optimizers.ScheduleFreeAdamW(use_ema=True),
    ],
    ids=lambda optimizer: optimizer.name,
)
def test_what_any_optimizer_remembers_is_forgotten_but_copies_of_weights_are_the_new_ones(optimizer, x):
    ae = half_dead(optimizer=optimizer)
    end_of_epoch(ae, x)
    kernel = ae.encoder.get_layer("hidden").kernel
    found = {name: value for name, value in values(optimizer.variables).items() if "hidden_kernel" in name}
    copies = ("_average", "_momentum") if isinstance(optimizer, keras.optimizers.ScheduleFreeAdamW) else ("_average",)
    averages = [value for name, value in found.items() if name.endswith(copies)]
    assert len(averages) == len(copies) * optimizer.use_ema
    for value in averages:
        np.testing.assert_array_equal(value[:, DEAD], np.asarray(kernel)[:, DEAD])
        assert not np.isin(np.asarray(kernel)[:, ALIVE], value).any()
    others = [value for name, value in found.items() if not name.endswith(copies)]
    assert len(others) == {"SGD": 1, "ScheduleFreeAdamW": 1}.get(type(optimizer).__name__, 3)
    for value in others:
        assert not value[:, DEAD].any()
        assert value[:, ALIVE].all()


def test_without_a_slope_schedule_free_adamw_leaves_new_units_as_they_are(x):
    """Its momentum is where weights go: of zeros there they would shrink."""
    ae = half_dead(optimizer=keras.optimizers.ScheduleFreeAdamW(0.1))
    end_of_epoch(ae, x)
    new = np.array(ae.kernel)
    ae.optimizer.apply([keras.ops.zeros_like(weight) for weight in ae.trainable_variables])
    np.testing.assert_allclose(np.asarray(ae.kernel)[:, DEAD], new[:, DEAD], rtol=1e-12)
    assert not np.isclose(np.asarray(ae.kernel)[:, ALIVE], new[:, ALIVE]).any()


def test_rows_are_drawn_in_proportion_to_the_square_of_their_loss(monkeypatch):
    ae = half_dead()
    x = np.random.default_rng(4).random((4, FEATURES))
    chances = ae.reconstruction_error(x) ** 2
    chances /= chances.sum()
    rows = x - np.asarray(ae.output_layer.bias)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    once, number = list(dead_units._rows_and_chances(ae, x)), 1000
    monkeypatch.setattr(dead_units, "_rows_and_chances", lambda *_: once)
    random = np.random.default_rng(0)
    drawn = [np.argmax(rows @ dead_units._directions(ae, x, 1, random)[0]) for _ in range(number)]
    found = np.bincount(drawn, minlength=4)
    assert chances.max() > 2 * chances.min()
    assert (np.abs(found - number * chances) < 4 * np.sqrt(number * chances * (1 - chances))).all()


def test_no_row_is_drawn_twice_and_rows_that_are_perfect_never(x):
    ae = half_dead(pre_bias=False)
    ae.sparsity.silent.assign(np.full(6, 101.0))
    few = np.concatenate([x[:3], np.asarray(ae.output_layer.bias)[None]])  # the last is at the bias: no direction
    assert end_of_epoch(ae, few)["resampled_units"] == 3
    np.testing.assert_array_equal(ae.sparsity.dead(), [0, 0, 0, 1, 1, 1])
    kernel = np.asarray(ae.output_layer.own_kernel)[:3]
    assert np.linalg.matrix_rank(kernel) == 3
    np.testing.assert_allclose(np.linalg.norm(kernel, axis=1), 1, rtol=1e-12)


def test_units_that_are_all_dead_take_the_mean_length_of_all(x):
    ae = half_dead()
    ae.sparsity.silent.assign(np.full(6, 101.0))
    kernel = ae.encoder.get_layer("hidden").kernel
    length = 0.5 * np.linalg.norm(kernel, axis=0).mean()
    assert end_of_epoch(ae, x, size=0.5)["resampled_units"] == 6
    np.testing.assert_allclose(np.linalg.norm(kernel, axis=0), [length] * 6, rtol=1e-12)


def test_it_happens_every_so_many_epochs_and_only_if_units_are_dead(x):
    ae = half_dead()
    assert end_of_epoch(ae, None, epoch=1, every=3) == {"resampled_units": 0}
    assert end_of_epoch(ae, None, epoch=5, every=3, until=3) == {"resampled_units": 0}
    assert end_of_epoch(ae, x, epoch=2, every=3, until=3) == {"resampled_units": 2}
    assert end_of_epoch(ae, None, epoch=5, every=3) == {"resampled_units": 0}  # none is dead any more


def test_the_same_rows_are_drawn_from_data_of_every_kind_but_not_in_another_epoch(x, tmp_path):
    np.save(tmp_path / "x.npy", x)
    batches = tf.data.Dataset.from_tensor_slices((x, x)).batch(7)
    ae = half_dead()
    start, kernels = ae.get_weights(), []
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for rows, options in [(x, {}), (batches, {}), (mapped, {}), (x, {"epoch": 1}), (x, {"seed": 1})]:
        ae.set_weights(start)
        end_of_epoch(ae, rows, **options)
        kernels.append(np.array(ae.kernel))
    for other in kernels[1:3]:
        np.testing.assert_allclose(other, kernels[0], rtol=1e-12)
    for other in kernels[3:]:
        assert not np.allclose(other, kernels[0])


def rows_of_a_dictionary():
    """Sums of a few of 40 directions in 16 dimensions."""
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((40, 16))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return ((rng.random((600, 40)) < 0.08) * rng.random((600, 40)) @ directions).astype("float32")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "size", "silenced"),
    [pytest.param(TopK(3, window=1200), 1.0, 0, id="top_k"), pytest.param(L1(0.02, window=1200), 0.2, 30, id="l1")],
)
def test_it_lowers_the_number_of_dead_units_and_the_loss(method, size, silenced, compiled):
    """Of 64 units of TopK some die by themselves; of L1 30 are, with large negative biases."""
    x, histories = rows_of_a_dictionary(), []
    for callbacks in ([], [ResampleDeadUnits(x, every=3, size=size)]):
        keras.utils.set_random_seed(0)
        ae = keras_sae.SparseAutoencoder(64, method)
        ae.build((None, 16))
        ae.encoder.get_layer("hidden").bias.assign(np.where(np.arange(64) < silenced, -5.0, 0.0))
        options = {"optimizer": keras.optimizers.Adam(5e-3), "iterations": 9, "batch_size": 60, "verbose": 0}
        histories.append(keras_sae.fit(ae, x, callbacks=callbacks, **options).history)
    without, resampled = histories
    assert sum(resampled["resampled_units"]) >= without["dead_units"][-1]
    assert without["dead_units"][-1] >= 5
    assert resampled["dead_units"][-1] <= 1
    assert resampled["loss"][-1] < 0.97 * without["loss"][-1]


def test_a_training_that_resumes_is_the_same_bit_for_bit(x, tmp_path):
    x = x.astype("float32")

    def trained(iterations, **options):
        ae = dictionary(TopK(1, window=12), units=12, dtype="float32")
        callbacks = [ResampleDeadUnits(x, every=1, size=1.0)]
        history = keras_sae.fit(
            ae, x, optimizer=None, iterations=iterations, batch_size=23, verbose=0, callbacks=callbacks, **options
        ).history
        return ae, history

    whole, history = trained(3)
    trained(2, checkpoint=tmp_path / "checkpoint.npz")
    resumed, again = trained(3, checkpoint=tmp_path / "checkpoint.npz")
    assert np.count_nonzero(history["resampled_units"]) > 1
    assert again == history
    assert same_weights(resumed, whole)


def test_a_method_without_dead_units_is_left_alone(x):
    ae = half_dead(WinnerTakeAll(0.5, window=1000))
    before = ae.get_weights()
    assert end_of_epoch(ae, x)["resampled_units"] == 0
    assert all(np.array_equal(a, b) for a, b in zip(before, ae.get_weights(), strict=True))


@pytest.mark.parametrize("make", [autoencoder, two_layers])
def test_models_whose_units_are_not_counted_are_refused(make, x):
    with raises(ValueError, "Expected a SparseAutoencoder with a method of keras_sae.sparsity", "loop over `stages`"):
        end_of_epoch(make(), x)


def test_lbfgs_would_lose_the_weights(x):
    with raises(
        ValueError, "L-BFGS keeps weights of its own", "Received: the callback ResampleDeadUnits. Leave it out"
    ):
        keras_sae.fit(dictionary(L1(0.1)), x, callbacks=[ResampleDeadUnits(x, every=1)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "`every` expects 1 epoch or more. Received: 0"),
        ({"every": 3, "until": 2}, "Expected `until` of at least `every` = 3 epochs. Received: 2."),
        ({"every": 1, "size": 0}, "`size` expects a finite number above 0. Received: 0"),
        ({"every": 1, "seed": -1}, "`seed` expects a whole number from 0"),
    ],
)
def test_arguments_out_of_range(options, message):
    with raises(ValueError, message):
        ResampleDeadUnits(None, **options)


def test_lbfgs_refuses_an_aux_k_which_it_would_not_see(x):
    ae = keras_sae.SparseAutoencoder(8, keras_sae.sparsity.L1(0.1), revive=keras_sae.sparsity.AuxK(), dtype="float64")
    with raises(ValueError, "are counted, and revived, in minibatches on one machine.", "with AuxK"):
        keras_sae.fit(ae, x, iterations=1, verbose=0)
