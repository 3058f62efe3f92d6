"""From patches to images: what an autoencoder has learned on patches, tried everywhere in larger images, and pooled."""

from typing import Any

import keras
import numpy as np

from .autoencoder import as_single
from .sparse_autoencoder import SparseAutoencoder
from .sparsity import SparsityMethod
from .stack import StackedAutoencoder


def convolutional_encoder(
    model: SparseAutoencoder | StackedAutoencoder,
    image_shape: tuple[int, ...],
    patch_shape: tuple[int, int],
    pool_size: int,
) -> keras.Model:
    """Return an encoder of whole images: the features of every patch of an image, averaged over squares of places.

        a[r, c]      = encode(the patch whose upper left corner is at row r and column c)
        pooled[i, j] = mean of a[r, c] over  i pool_size <= r < (i + 1) pool_size  and the same for c

    It is made of Keras' own layers: Reshape, a Conv2D for each autoencoder (the first with the kernel W1 as patches,
    into which preprocessing is folded; those above it 1 x 1), AveragePooling2D and Flatten. Its weights are copies.

    Args:
        model: an autoencoder of patches, or a stack, whose `preprocessing` is None or a linear Dense layer, such as
            `preprocessing.fit_zca` gives.
        image_shape: (height, width) or (height, width, channels) of the images.
        patch_shape: (height, width) of the patches, rows of height * width * channels numbers.
        pool_size: height and width of a square of places. Places that fill none, at the lower and right edges, are
            left out.

    Returns:
        A keras.Model of images as rows: (examples, height * width * channels) -> (examples, squares * units), square by
        square from upper left to lower right. `predict_in_chunks(encoder, x, chunk_size=...)` computes the features of
        many images: before pooling, a chunk takes 4 bytes * rows * places * units.

    Raises:
        ValueError: the shapes do not fit, or the preprocessing is something else.

    Reference: UFLDL, "Feature Extraction Using Convolution" and "Pooling"; Coates, Ng & Lee 2011, "An Analysis of
    Single-Layer Networks in Unsupervised Feature Learning".

    >>> images = convolutional_encoder(ae, image_shape=(28, 28), patch_shape=(8, 8), pool_size=7)
    >>> pooled = keras_sae.predict_in_chunks(images, digits.x_train, chunk_size=200)
    """
    shape = (*image_shape, 1)[:3]
    kernel_shape = (*patch_shape, shape[2])
    _check_shapes(model.encoder.input_shape[-1], shape, kernel_shape, pool_size)
    autoencoders = getattr(model, "autoencoders", [model])
    inputs = keras.Input((int(np.prod(shape)),), name="inputs", dtype=model.compute_dtype)
    dtype = model.dtype_policy
    outputs = keras.layers.Reshape(shape, dtype=dtype)(inputs)
    for number, autoencoder in enumerate(autoencoders, 1):
        kernel, bias = autoencoder.folded()[:2]
        if number == 1:
            kernel, bias = _folded(getattr(model, "preprocessing", None), kernel, bias)
        layer = keras.layers.Conv2D(
            autoencoder.units,
            patch_shape if number == 1 else 1,
            activation=autoencoder.activation,
            data_format="channels_last",
            dtype=autoencoder.dtype_policy,
            name=f"convolution_{number}",
        )
        outputs = layer(outputs)
        layer.set_weights([kernel.reshape(layer.kernel.shape), bias])
        if isinstance(autoencoder.sparsity, SparsityMethod):
            outputs = autoencoder.sparsity.copy(f"sparsity_{number}")(outputs)
    pooling = keras.layers.AveragePooling2D(pool_size, data_format="channels_last", dtype=dtype, name="pooling")
    return keras.Model(inputs, keras.layers.Flatten(dtype=dtype)(pooling(outputs)), name="encoder")


def _check_shapes(features: int, image: tuple, patch: tuple, pool_size: int) -> None:
    """Raise ValueError unless rows of so many features are such patches, and images have such patches and squares."""
    if features != np.prod(patch):
        height, width, channels = patch
        raise ValueError(
            f"Expected an autoencoder of patches of {height} x {width} x {channels} = {np.prod(patch)} numbers. "
            f"Received: one of {features}. Give the patch_shape that it was trained on, and the image_shape with the "
            "number of its channels."
        )
    places = [image[axis] - patch[axis] + 1 for axis in range(2)]
    if not 1 <= pool_size <= min(places):
        raise ValueError(
            f"Expected a pool_size from 1 to the number of places in either direction. Received: {pool_size}, with "
            f"{places[0]} x {places[1]} places of patches of {patch[0]} x {patch[1]} in images of {image[0]} x "
            f"{image[1]}."
        )


def _folded(preprocessing: Any, kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the kernel and bias of hidden units that take rows as they are before a linear preprocessing.

    (x P + p) W + b = x (P W) + (p W + b)
    """
    if preprocessing is None:
        return kernel, bias
    if not isinstance(preprocessing, keras.layers.Dense) or preprocessing.activation is not keras.activations.linear:
        raise ValueError(
            "Expected preprocessing that is a linear Dense layer, as fit_zca gives it, which a convolution can do. "
            f"Received: {type(preprocessing).__name__} {preprocessing.name!r}."
        )
    matrix, *shifts = (as_single(weight).astype("float64") for weight in preprocessing.weights)
    return matrix @ kernel, sum((shift @ kernel for shift in shifts), bias)
