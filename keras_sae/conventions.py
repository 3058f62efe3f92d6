"""Layers for what modern sparse autoencoders have in common: scaled and centred inputs, a decoder of unit vectors."""

from typing import Any

import keras
import numpy as np
from keras import ops

from .data.batches import mean_over_rows

SAMPLE = 32_768  # rows that tell enough: the geometric median is theirs, and L0 after training


@keras.saving.register_keras_serializable("keras_sae")
class InputCentring(keras.layers.Layer):
    """Return scale * x - bias, (examples, features): the inputs as an encoder takes them.

    bias: (features,), which the decoder adds again and training moves; if `use_bias`.
    scale: a number that training leaves as it is; if `use_scale`.
    """

    def __init__(self, use_bias: bool = True, use_scale: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.use_bias, self.use_scale = use_bias, use_scale

    def build(self, input_shape: tuple) -> None:
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=input_shape[-1:], initializer="zeros")
        if self.use_scale:
            self.scale = self.add_weight(name="scale", shape=(), initializer="ones", trainable=False)

    def call(self, x: Any) -> Any:
        x = x * self.scale if self.use_scale else x
        return x - self.bias if self.use_bias else x

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "use_bias": self.use_bias, "use_scale": self.use_scale}


@keras.saving.register_keras_serializable("keras_sae")
class RowNormalization(keras.layers.Layer):
    """Return (normalised rows, mean, size) of rows x, with x = mean + size * normalised, if `epsilon` is 0.

        kind "layer_norm"               mean and standard deviation (of features - 1) of each row
        kind "constant_norm_rescale"    0 and ||x|| / sqrt(features)

    Shapes: x (examples, features); mean and size (examples, 1).
    """

    def __init__(self, kind: str, epsilon: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.kind, self.epsilon = kind, epsilon

    def call(self, x: Any) -> tuple[Any, Any, Any]:
        mean = ops.mean(x, axis=-1, keepdims=True)
        mean = mean if self.kind == "layer_norm" else ops.zeros_like(mean)
        features = x.shape[-1] - 1 if self.kind == "layer_norm" else x.shape[-1]
        size = ops.sqrt(ops.sum(ops.square(x - mean), axis=-1, keepdims=True) / features)
        return (x - mean) / ops.maximum(size + self.epsilon, float(np.finfo("float32").tiny)), mean, size

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape, (*input_shape[:-1], 1), (*input_shape[:-1], 1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kind": self.kind, "epsilon": self.epsilon}


@keras.saving.register_keras_serializable("keras_sae")
class DictionaryDecoder(keras.layers.Layer):
    """The decoder of modern sparse autoencoders: (activation(h W + b)) / scale, with rows of W of length 1 if asked.

    The b and the scale are those of an `InputCentring`, if it has them; else b is its own and the scale 1. With
    `unit_norm` the rows of the kernel are divided by their lengths before they are used, so that gradients have no part
    along a row, and by a constraint after each step of a Keras optimizer: normalise, project, step, normalise.

    Args:
        centring: the `InputCentring` of the encoder, or None.
        hidden: the Dense layer whose kernel is shared, transposed (tied weights); None for a kernel of its own.
        transposed_start: whether a kernel of its own starts as that of `encoder`, transposed.

    Shapes: h (examples, units), W (units, features), output (examples, features).
    """

    def __init__(
        self,
        features: int,
        encoder: keras.layers.Dense,
        centring: InputCentring | None = None,
        activation: Any = "linear",
        tied: bool = False,
        unit_norm: bool = False,
        transposed_start: bool = False,
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        # Past Keras' tracking, which would count and save the weights of the encoder's layers with this one's.
        object.__setattr__(self, "encoder", encoder)
        object.__setattr__(self, "centring", centring)
        self.features, self.tied, self.unit_norm, self.transposed_start = features, tied, unit_norm, transposed_start
        self.activation = keras.activations.get(activation)
        self.kernel_regularizer = kernel_regularizer
        self.shares_bias = centring is not None and centring.use_bias

    def build(self, input_shape: tuple) -> None:
        if not self.tied:
            self.own_kernel = self.add_weight(
                name="kernel",
                shape=(input_shape[-1], self.features),
                regularizer=self.kernel_regularizer,
                constraint=UnitRows() if self.unit_norm else None,
            )
            self.start()
        if not self.shares_bias:
            self.own_bias = self.add_weight(name="bias", shape=(self.features,), initializer="zeros")

    def start(self) -> None:
        """Give the kernel the values that it has before training, apart from chance."""
        if self.tied:
            return
        if self.transposed_start:
            self.own_kernel.assign(ops.transpose(self.encoder.kernel))
        if self.unit_norm:
            self.own_kernel.assign(unit_rows(ops.convert_to_tensor(self.own_kernel)))

    @property
    def kernel(self) -> Any:
        """The kernel W as it is used, (units, features), a tensor."""
        if self.tied:
            return ops.transpose(self.encoder.kernel)
        return unit_rows(self.own_kernel) if self.unit_norm else ops.convert_to_tensor(self.own_kernel)

    @property
    def bias(self) -> keras.Variable:
        """The decoder's bias b, (features,)."""
        return self.centring.bias if self.shares_bias else self.own_bias

    @property
    def scale(self) -> Any:
        """What the inputs are multiplied with, a scalar."""
        return self.centring.scale if self.centring is not None and self.centring.use_scale else 1.0

    def call(self, h: Any) -> Any:
        return self.reconstruction(h) / self.scale

    def reconstruction(self, h: Any) -> Any:
        """Return activation(h W + b), the reconstruction of scale * x, (examples, features)."""
        return self.activation(self.contribution(h) + self.bias)

    def contribution(self, h: Any) -> Any:
        """Return h W, (examples, features): what codes add to the reconstruction of scale * x."""
        return ops.matmul(h, self.kernel)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (*input_shape[:-1], self.features)


@keras.saving.register_keras_serializable("keras_sae")
class UnitRows(keras.constraints.Constraint):
    """Each row of a kernel has length 1."""

    def __call__(self, kernel: Any) -> Any:
        return unit_rows(kernel)


def unit_rows(kernel: Any) -> Any:
    """Return a kernel with each row divided by its length; rows of zeros stay as they are."""
    kernel = ops.convert_to_tensor(kernel)
    tiny = float(np.finfo("float32").tiny)
    return kernel * ops.rsqrt(ops.maximum(ops.sum(ops.square(kernel), axis=-1, keepdims=True), tiny))


def norm_scale(batches: Any) -> float:
    """Return sqrt(features) divided by the mean of ||x|| over all rows, for batches (x, ...) of (rows, features)."""
    features = 0

    def norms(x: Any, *_: Any) -> list:
        nonlocal features
        features = x.shape[-1]
        return [ops.sum(ops.norm(ops.cast(x, "float32"), axis=-1))]

    [mean] = mean_over_rows(batches, norms)
    return features**0.5 / float(mean) if mean else 1.0


def first_rows(batches: Any, number: int = SAMPLE) -> np.ndarray:
    """Return the first rows of batches (x, ...), as many as `number` or all, (rows, features)."""
    found, rows = [], 0
    for x, *_ in batches:
        found.append(ops.convert_to_numpy(x[: number - rows]))
        rows += len(found[-1])
        if rows == number:
            break
    return np.concatenate(found)


def geometric_median(x: np.ndarray, steps: int = 100, tolerance: float = 1e-6) -> np.ndarray:
    """Return the point whose distances to the rows have the least sum, (features,) float64.

    Unlike the mean it is hardly moved by a few rows far away.

    Reference: Weiszfeld 1937; each step weighs the rows by the inverse of their distance to the point before.
    """
    x = np.asarray(x, "float64")
    median = x.mean(axis=0)
    for _ in range(steps):
        distance = np.maximum(np.linalg.norm(x - median, axis=1), np.finfo("float64").eps)
        before, median = median, (x / distance[:, None]).sum(axis=0) / (1 / distance).sum()
        if np.linalg.norm(median - before) <= tolerance * np.linalg.norm(median):
            break
    return median
