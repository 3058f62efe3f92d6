"""What an exported model offers: named functions on tensors with named inputs and outputs."""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_sae import runs
from keras_sae.autoencoder import Autoencoder
from keras_sae.errors import InputError
from keras_sae.runs.model_files import load_model

STRONGEST = 100  # units of a row that `top` gives at most


@dataclasses.dataclass(frozen=True)
class Signature:
    """One function of a SavedModel.

    function: tensor -> dict of tensors by name.  spec: of its one input.  models: Keras models whose weights it uses.
    to_input: rows of examples, (batch, features) -> what the function takes.  on_device: whether a LiteRT file has it.
    """

    function: Callable[[tf.Tensor], dict[str, tf.Tensor]]
    spec: tf.TensorSpec
    models: tuple[keras.Model, ...]
    to_input: Callable[[np.ndarray], Any]
    on_device: bool = True

    def example(self, rows: np.ndarray, number: int = 1) -> np.ndarray:
        """Return an input of this function, made from the first rows of examples."""
        return np.asarray(self.to_input(rows[:number]), self.spec.dtype.as_numpy_dtype)


Signatures = Mapping[str, Signature]


def of_run(run: pathlib.Path) -> dict[str, Signature]:
    """Return the signatures of a run's model, by name.

    serving_default, encode    inputs (batch, features) -> features (batch, units), as learned without labels
    encode_finetuned           the same of the network below the softmax, after it learned from labels
    top                        inputs -> indices (batch, k) int32 and values (batch, k) of the k strongest units, those
                               of the largest magnitude, in this order; k is 100, or all units if there are fewer
    classify                   inputs -> probabilities (batch, classes), label (batch,) int64, score (batch,), the
                               largest probability; if the run has a softmax head
    reconstruct                inputs -> features, outputs (batch, features), error (batch,): half the squared distance
                               of outputs to the input, scaled if the model does that, but never cut off: the farther
                               a row is from the training data, the larger it is
    decode                     features (batch, units) -> outputs
    score                      inputs -> error as of `reconstruct`, column_errors (batch, features), its terms
                               A transcoder, and an autoencoder that normalises each row, have no `score`, and
                               `reconstruct` without an error; `decode` if codes alone tell the outputs
    images                     images (batch, height, width[, 3]) uint8 -> features; if the run's data are images

    Fine-tuning leaves no decoder, so that `reconstruct`, `decode` and `score` are of the stack as pretrained, with the
    features of `encode`; a LiteRT file of a classifier goes without them. A classifier of an earlier version, which
    kept this stack among its checkpoints alone, has the fine-tuned features as `encode`, and no `encode_finetuned`.
    """
    model, config = runs.load(run), runs.read_config(run)
    pretrained = runs.load_pretrained(run)
    encoder = runs.encoder_of(model if pretrained is None else pretrained)
    check_encoder(encoder, run)
    inputs = tf.TensorSpec((None, *encoder.input_shape[1:]), tf.float32, name="inputs")
    encode = _encode(encoder)
    found = {name: Signature(encode, inputs, (encoder,), as_they_are) for name in ("serving_default", "encode")}
    found["top"] = Signature(_top(encode, encoder.output_shape[1]), inputs, (encoder,), as_they_are)
    autoencoder = pretrained or model
    if _gives_outputs(model):
        autoencoder = None
        found |= _of_outputs(model, encode, inputs)
    elif not isinstance(model, Autoencoder):
        found["classify"] = Signature(_classify(model), inputs, (model,), as_they_are)
        if pretrained is None:
            autoencoder = _former_stack(run)
        else:
            finetuned = runs.encoder_of(model)
            found["encode_finetuned"] = Signature(_encode(finetuned), inputs, (finetuned,), as_they_are)
    if autoencoder is not None:
        found |= _of_the_decoder(autoencoder, inputs, on_device=autoencoder is model)
    if "pixel_range" in config:
        found["images"] = _images(encode, encoder, *image_facts(config, encoder.input_shape[1], run))
    return found


def _gives_outputs(model: keras.Model) -> bool:
    """Return whether a model that is no Autoencoder gives outputs, as `load_sae` makes it, and no probabilities."""
    names = {layer.name for layer in model.layers}
    return not isinstance(model, Autoencoder) and "output" in names and "head" not in names


def _former_stack(run: pathlib.Path) -> keras.Model | None:
    """Return the pretrained stack where earlier versions kept it, or None."""
    path = run / "checkpoints" / "stack.keras"
    return load_model(path) if path.exists() else None


def check_encoder(encoder: keras.layers.Layer, run: pathlib.Path) -> None:
    """Raise InputError unless an encoder takes rows of features and gives rows of codes."""
    shapes = [getattr(encoder, name, None) for name in ("input_shape", "output_shape")]
    if not all(isinstance(shape, tuple) and len(shape) == 2 and shape[1] for shape in shapes):
        raise InputError(
            f"Expected an encoder of rows, (any number, features) to (any number, units). Received: {run}, whose "
            f"encoder has the shapes {shapes[0]} and {shapes[1]}."
        )


def image_facts(config: dict[str, Any], features: int, run: pathlib.Path) -> tuple[tuple[int, ...], float]:
    """Return the shape of images and the range of pixels that a run was trained on, if they fit its model."""
    shape, pixel_range = config.get("image_shape", []), config["pixel_range"]
    right = all(isinstance(size, int) and size > 0 for size in shape) and math.prod(shape) == features
    if not (right and len(shape) in (2, 3) and 0 < pixel_range < math.inf):
        raise InputError(
            f"Expected a run on images of {features} numbers. Received: {run}, whose record says image_shape={shape}, "
            f"pixel_range={pixel_range}."
        )
    return tuple(shape), pixel_range


def as_they_are(rows):
    return rows


def _encode(encoder):
    def encode(inputs):
        return {"features": encoder(inputs, training=False)}

    return encode


def _top(encode, units):
    number = min(units, STRONGEST)

    def top(inputs):
        features = encode(inputs)["features"]
        indices = tf.math.top_k(tf.abs(features), number).indices
        return {"indices": indices, "values": tf.gather(features, indices, batch_dims=1)}

    return top


def _classify(model):
    def classify(inputs):
        probabilities = model(inputs, training=False)
        return {
            "probabilities": probabilities,
            "label": tf.argmax(probabilities, axis=1),
            "score": tf.reduce_max(probabilities, axis=1),
        }

    return classify


def _of_the_decoder(autoencoder, inputs, on_device):
    def column_errors(inputs, outputs):
        return tf.square(outputs - autoencoder.uncut(inputs)) / 2

    def reconstruct(inputs):
        features = autoencoder.encode(inputs)
        outputs = autoencoder.decode(features)
        error = tf.reduce_sum(column_errors(inputs, outputs), axis=1)
        return {"features": features, "outputs": outputs, "error": error}

    def score(inputs):
        terms = column_errors(inputs, autoencoder.decode(autoencoder.encode(inputs)))
        return {"error": tf.reduce_sum(terms, axis=1), "column_errors": terms}

    def decode(features):
        return {"outputs": autoencoder.decode(features)}

    def own_features(rows):
        return reconstruct(tf.constant(rows))["features"]

    features = tf.TensorSpec((None, *autoencoder.encoder.output_shape[1:]), tf.float32, name="features")
    return {
        "reconstruct": Signature(reconstruct, inputs, (autoencoder,), as_they_are, on_device),
        "decode": Signature(decode, features, (autoencoder,), own_features, on_device),
        "score": Signature(score, inputs, (autoencoder,), as_they_are, on_device),
    }


def _of_outputs(model, encode, inputs):
    """Return the signatures of a functional model of `load_sae`, whose layer "output" takes the codes."""
    both = keras.Model(model.inputs, [model.get_layer("output").input, model.output])

    def reconstruct(inputs):
        features, outputs = both(inputs, training=False)
        return {"features": features, "outputs": outputs}

    def decode(features):
        return {"outputs": model.get_layer("output")(features)}

    def own_features(rows):
        return encode(tf.constant(rows))["features"]

    found = {"reconstruct": Signature(reconstruct, inputs, (both,), as_they_are)}
    if {layer.name for layer in model.layers}.isdisjoint({"skip", "normalise"}):
        features = tf.TensorSpec((None, model.get_layer("output").input.shape[1]), tf.float32, name="features")
        found["decode"] = Signature(decode, features, (model,), own_features)
    return found


def _images(encode, encoder, shape, pixel_range):
    """Return a signature that takes pixels from 0 to 255, and scales them to the range that the run was trained on."""
    scale = pixel_range / 255

    def images_to_features(images):
        rows = tf.reshape(tf.cast(images, tf.float32), (-1, encoder.input_shape[1]))
        return encode(rows if scale == 1 else rows * scale)

    spec = tf.TensorSpec((None, *shape), tf.uint8, name="images")
    return Signature(images_to_features, spec, (encoder,), lambda rows: np.round(rows / scale).reshape(-1, *shape))
