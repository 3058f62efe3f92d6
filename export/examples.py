"""The rows that exported files are checked on: of a run, or at random, without those whose codes hang on rounding."""

import pathlib

import keras
import numpy as np
import tensorflow as tf

from keras_sae import runs
from keras_sae.errors import InputError

from .check import relative
from .exporting import BOUNDS
from .signatures import Signatures

MADE_UP = 200  # rows
TIMES_LARGER = 20  # they may be doubled
ROUNDING, TRIES = 1e-6, 8  # several times what sums are rounded by, as a part of the largest of a row


def rows_of(run: pathlib.Path, work: pathlib.Path, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the inputs of this name that were given, or else the run's, and their labels or None."""
    given = (work / f"{name}.npz").exists()
    x, labels = runs.load_examples(work if given else run, f"{name}.npz")
    return np.asarray(x, "float32"), labels


def to_compare(found: Signatures, run: pathlib.Path, work: pathlib.Path) -> tuple[np.ndarray, np.ndarray | None, int]:
    """Return the rows to compare files with Keras on, their labels or None, and how many more there were."""
    has_examples = any((place / "examples.npz").exists() for place in (work, run))
    examples, labels = rows_of(run, work, "examples") if has_examples else (made_up_rows(found), None)
    check_features(found, examples)
    kept = steady(found, examples)
    if not kept.any():
        raise InputError(
            f"Expected examples of which rounding decides no code. Received: {len(examples):,} rows, and in each a "
            "unit all but at its threshold, or two that are all but equal. No file can be compared. Give others."
        )
    return examples[kept], None if labels is None else labels[kept], int(np.count_nonzero(~kept))


def check_features(found: Signatures, rows: np.ndarray) -> None:
    """Raise InputError unless rows have as many features as the model takes."""
    expected = found["encode"].spec.shape[1:]
    if rows.shape[1:] != expected:
        raise InputError(
            f"Expected rows of {expected[0]:,} features, as the model takes. Received: shape {rows.shape}. Give rows "
            "like those that it was trained on."
        )


def made_up_rows(found: Signatures) -> np.ndarray:
    """Return rows at random in the range of a model's inputs, as far as the model tells it: (MADE_UP, features).

    They show a wrong conversion as real rows do, for runs that keep none of these. If they are so small that most make
    no unit active, they are made larger.
    """
    encoder, random = found["encode"].models[0], np.random.default_rng(0)
    shape = (MADE_UP, encoder.input_shape[1])
    steps = [step for layer in encoder.layers if layer.name == "preprocessing" for step in getattr(layer, "layers", [])]
    if len(steps) > 1 and all(isinstance(step, keras.layers.Rescaling) for step in steps[:2]):
        # (x - low) / (high - low), or the same with mean and standard deviation before contrast or whitening.
        scaled = random.uniform(size=shape) if steps[1].name == "scale" else random.normal(size=shape)
        return (scaled / np.asarray(steps[1].scale) - np.asarray(steps[0].offset)).astype("float32")
    low, high = 0.0, 1.0
    if "reconstruct" in found:
        activation = getattr(found["reconstruct"].models[0], "output_activation", keras.activations.linear)
        low, high = {"tanh": (-1, 1), "linear": (-2, 2)}.get(activation.__name__, (0, 1))
    rows = random.uniform(low, high, shape).astype("float32")
    for _ in range(TIMES_LARGER):
        active = np.any(encoder(rows, training=False), axis=1)
        rows = rows if active.mean() > 0.5 else 2 * rows
    return rows


def steady(found: Signatures, examples: np.ndarray) -> np.ndarray:
    """Return on which rows rounding decides no code, (rows,) bool.

    Where a unit is all but at its threshold, or the next to the k largest all but among them, Keras and a file may each
    come to another side, because they add up in another order, and differ by a whole code. So codes are computed again
    of pre-activations that are changed by about as much: those that stay within the bound for files are steady.
    """
    kept = np.ones(len(examples), bool)
    for encoder in filter(codes_jump, encoders_of(found)):
        codes = encoder(examples, training=False).numpy()
        rounded = keras.models.clone_model(encoder, clone_function=_rounded, recursive=True)
        for _ in range(TRIES):
            kept &= relative(rounded(examples).numpy(), codes).max(axis=1) <= BOUNDS["none"]
    return kept


def encoders_of(found: Signatures) -> list[keras.Model]:
    """Return the encoder, and after it the fine-tuned one, if there is one."""
    return [found[name].models[0] for name in ("encode", "encode_finetuned") if name in found]


def codes_jump(encoder: keras.Model) -> bool:
    """Return whether codes jump if a pre-activation changes a little, as those of TopK and of thresholds."""
    return any(getattr(layer, "no_lbfgs", "") for layer in encoder._flatten_layers())


def _rounded(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Return a layer as it is, or if its codes jump one that changes pre-activations a little before."""
    if not getattr(layer, "no_lbfgs", ""):
        return layer
    noise = keras.random.SeedGenerator(0)

    def codes(before):
        size = ROUNDING * tf.reduce_max(tf.abs(before), axis=-1, keepdims=True)
        return layer(before + size * keras.random.normal(tf.shape(before), seed=noise))

    return keras.layers.Lambda(codes)
