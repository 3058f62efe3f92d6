"""The ladder network: a classifier that learns to take noise away while it learns labels, of which few may be known."""

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from .combinator import Combinator
from .data.batches import Chunks
from .data.containers import as_array
from .noise import normal

EPSILON = 1e-8  # added to variances, which are of the order of 1: a constant unit stays one


@keras.saving.register_keras_serializable("keras_sae")
class LadderClassifier(keras.Model):
    """A denoising autoencoder of many layers and a classifier that share their encoder, and are trained as one.

        zt_l = N(ht_{l-1} W_l) + noise         l = 1 ... L, the last layer that of the classes; ht_0 = x + noise
        ht_l = relu(zt_l + beta_l)             of the classes: pt = softmax(gamma (zt_L + beta_L))
        u_l  = N(zhat_{l+1} V_{l+1})           from above; u_L = N(pt), u_0 in the units of the inputs
        zhat_l = g_l(zt_l, u_l)                a small network for each unit, from zt, u and zt u; zt_0 = ht_0
        J    = mean over known labels of -log pt_y + reconstruction_weight / features * mean ||zhat_0 - x||^2

    N subtracts the mean of the minibatch and divides by its deviation. Without noise, and with the means and deviations
    of all training rows in place of the minibatch's, the encoder is an ordinary network, which `classifier()` returns.

    Where a label is below 0 it is unknown. Each step then takes a minibatch of all rows, for their reconstruction, and
    as many rows with labels, drawn at random, for theirs; N is over each of the two alone.

    Args:
        units: of the hidden layers, from the input upwards.
        num_classes: classes, numbered from 0.
        noise: standard deviation of the Gaussian noise, in the units of the inputs and in deviations of units.
        reconstruction_weight: of the mean squared error of an input.

    Reference: Rasmus et al. 2015, "Semi-Supervised Learning with Ladder Networks"; Pezeshki et al. 2016,
    "Deconstructing the Ladder Network Architecture", the AMLP combinator, with the costs of hidden layers at 0.

    >>> ladder = LadderClassifier((1000, 500, 250, 250, 250), num_classes=10)
    >>> history = keras_sae.fit(ladder, x, labels, keras.optimizers.Adam(0.002), iterations=150, batch_size=100)
    >>> classifier = ladder.classifier()
    """

    def __init__(
        self,
        units: Sequence[int],
        num_classes: int,
        noise: float = 0.3,
        reconstruction_weight: float = 2000.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if num_classes < 2:
            raise ValueError(f"`num_classes` must be 2 or more. Received: num_classes={num_classes}")
        if not units or min(units) < 1:
            raise ValueError(f"Expected `units` of one hidden layer or more, each 1 or more. Received: units={units}")
        self.units, self.num_classes = tuple(int(number) for number in units), int(num_classes)
        self.noise, self.reconstruction_weight = float(noise), float(reconstruction_weight)
        self.random = keras.random.SeedGenerator()
        self._labelled: tuple[Any, Any] | None = None
        self._rows: Any = None  # of the training that goes on

    def build(self, input_shape: tuple) -> None:
        widths = [input_shape[-1], *self.units, self.num_classes]
        number = len(widths) - 1

        def weight(shape: tuple, name: str, start: Any = "zeros", trainable: bool = True) -> keras.Variable:
            return self.add_weight(shape=shape, initializer=start, trainable=trainable, name=name)

        def kernel(inputs: int, outputs: int, name: str) -> keras.Variable:
            return weight((inputs, outputs), name, keras.initializers.RandomNormal(stddev=inputs**-0.5))

        self.kernels = [kernel(widths[i], widths[i + 1], f"encoder_{i + 1}") for i in range(number)]
        self.betas = [weight((width,), f"beta_{i}") for i, width in enumerate(widths[1:], 1)]
        self.gamma = weight((self.num_classes,), "gamma", "ones")
        self.decoders = [kernel(widths[i + 1], widths[i], f"decoder_{i + 1}") for i in range(number)]
        self.combinators = [Combinator(name=f"combinator_{i}", dtype=self.dtype_policy) for i in range(number + 1)]
        for combinator, width in zip(self.combinators, widths, strict=True):
            combinator.build(((None, width), (None, width)))
        self.means = [weight((width,), f"mean_{i}", trainable=False) for i, width in enumerate(widths[1:], 1)]
        self.variances = [
            weight((width,), f"variance_{i}", "ones", trainable=False) for i, width in enumerate(widths[1:], 1)
        ]

    def compile(self, optimizer: Any = "adam", loss: Any = None, **kwargs: Any) -> None:
        """As keras.Model.compile; the loss defaults to the cross-entropy of known labels."""
        super().compile(optimizer=optimizer, loss=known_crossentropy if loss is None else loss, **kwargs)

    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """As keras.Model.fit; afterwards the means and deviations are those of all rows."""
        if not self.compiled:
            self.compile()
        arguments = inspect.signature(super().fit).bind(*args, **kwargs).arguments
        with self.trained_on(arguments.get("x"), arguments.get("y")):
            return super().fit(*args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """As keras.Model.evaluate, of validation data as well: with the means and deviations of all rows until then."""
        if self._rows is not None:
            self.finish(self._rows)
        return super().evaluate(*args, **kwargs)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return the probabilities of classes, (examples, features) -> (examples, classes)."""
        if not training:
            return self._clean(inputs, len(self.kernels))
        noisy, probabilities = self._noisy(inputs)
        error = ops.mean(ops.square(self._reconstruct(noisy, probabilities) - inputs))
        self.add_loss(self.reconstruction_weight * error)
        return probabilities

    def _noisy(self, inputs: Any) -> tuple[list, Any]:
        """Return [zt_0, ..., zt_L] and the probabilities of classes."""
        noisy = [self._with_noise(inputs)]
        h = noisy[0]
        for layer, kernel in enumerate(self.kernels, 1):
            noisy.append(self._with_noise(_normalised(ops.matmul(h, kernel))))
            h = self._activate(layer, noisy[-1])
        return noisy, h

    def _with_noise(self, z: Any) -> Any:
        return z + self.noise * normal(ops.shape(z), z.dtype, self.random)

    def _activate(self, layer: int, z: Any) -> Any:
        """Return the activations of a layer, numbered from 1."""
        z = z + self.betas[layer - 1]
        return ops.relu(z) if layer < len(self.kernels) else ops.softmax(self.gamma * z)

    def _reconstruct(self, noisy: list, probabilities: Any) -> Any:
        above = _normalised(probabilities)
        for layer in range(len(self.kernels), 0, -1):
            below = self.combinators[layer]([noisy[layer], above])
            above = _normalised(ops.matmul(below, self.decoders[layer - 1]))
        return self.combinators[0]([noisy[0], above])

    def _clean(self, inputs: Any, layers: int) -> Any:
        """Return the activations of so many layers without noise, by the means and variances of all rows."""
        h = inputs
        for layer in range(1, layers + 1):
            z = ops.matmul(h, self.kernels[layer - 1]) - self.means[layer - 1]
            h = self._activate(layer, z * ops.rsqrt(self.variances[layer - 1] + EPSILON))
        return h

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        if training and self._labelled is not None:
            if sample_weight is not None:
                raise ValueError(
                    "Expected no weights of examples or classes where some labels are unknown: rows with labels are "
                    "drawn at random, each as often. Received: sample_weight or class_weight. Leave it out."
                )
            rows, labels = self._labelled
            shape = (ops.shape(x)[0],)
            chosen = keras.random.randint(shape, 0, len(labels), dtype="int32", seed=self.random)
            y, y_pred = ops.take(labels, chosen, axis=0), self._noisy(ops.take(rows, chosen, axis=0))[1]
        return super().compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)

    @contextlib.contextmanager
    def trained_on(self, x: Any, y: Any = None) -> Iterator[None]:
        """Take the rows with labels before a training on x, and the means and deviations of all rows after it."""
        if self._rows is not None:  # one trainer calls another
            yield
            return
        self._rows = x
        try:
            if y is not None:
                self._take_labelled(x, np.asarray(as_array(y)).reshape(-1))
            yield
            self.finish(x)
        finally:
            self._labelled = self._rows = None

    def _take_labelled(self, x: Any, labels: np.ndarray) -> None:
        known = np.flatnonzero(labels >= 0)
        if len(known) == 0:
            raise ValueError("Expected labels of which some are 0 or more. Received: none that is known.")
        if len(known) < len(labels):
            rows = np.asarray(as_array(x)[known], self.compute_dtype)
            self._labelled = ops.convert_to_tensor(rows), ops.convert_to_tensor(labels[known].astype("int32"))

    def start_from(self, stack: Any, x: Any) -> None:
        """Begin with the weights of a stack of autoencoders, which was trained on x without labels.

        The network without noise then has the activations of the stack, each divided by the deviation that its unit
        has over x before the activation. Decoders begin with those of the stack.

        stack: a `StackedAutoencoder` of ReLU units, as many in each layer as here.  x: (examples, features).
        """
        units = tuple(autoencoder.units for autoencoder in stack.autoencoders)
        functions = sorted({autoencoder.activation.__name__ for autoencoder in stack.autoencoders})
        if units != self.units or functions != ["relu"]:
            raise ValueError(
                f"Expected a stack of {self.units} units, all 'relu'. Received: {units}, {', '.join(functions)}."
            )
        if not self.built:
            self.build((None, stack.autoencoders[0].kernel.shape[0]))
        below: Any = 1.0  # the deviation by which the activations below are divided
        for layer, autoencoder in enumerate(stack.autoencoders, 1):
            kernel, bias, decoder = (_as_float64(weight) for weight in autoencoder.get_weights()[:3])
            self.kernels[layer - 1].assign(below * kernel)
            mean, variance = self._measure(layer, x)
            below = np.sqrt(variance + EPSILON)[:, None]
            self.betas[layer - 1].assign((bias + mean) / below[:, 0])
            self.decoders[layer - 1].assign(below * decoder)

    def finish(self, x: Any) -> None:
        """Set the mean and the variance of each unit before its activation, over all rows of x, layer after layer."""
        for layer in range(1, len(self.kernels) + 1):
            self._measure(layer, x)

    def _measure(self, layer: int, x: Any) -> tuple[np.ndarray, np.ndarray]:
        """Set the means and variances of one layer, over all rows of x, and return them, (units,) float64."""
        number, total, squares = 0, np.zeros(()), np.zeros(())
        for chunk in Chunks(x, dtype=self.compute_dtype).read():
            z = _as_float64(ops.matmul(self._clean(chunk.x, layer - 1), self.kernels[layer - 1]))
            number, total, squares = number + len(z), total + z.sum(axis=0), squares + (z**2).sum(axis=0)
        mean = total / number
        variance = np.maximum(squares / number - mean**2, 0)
        self.means[layer - 1].assign(mean)
        self.variances[layer - 1].assign(variance)
        return mean, variance

    def classifier(self, preprocessing: keras.Layer | None = None) -> keras.Model:
        """Return the encoder as an ordinary model of Dense layers, (examples, features) -> probabilities.

        preprocessing: the layer that made the rows that were learned from, for a model of rows as they were before.

        W' = W / deviation     b' = beta - mean / deviation     of the classes both times gamma

        Its layers "encoder", a keras.Model, and "head" are named so, as those of `StackedAutoencoder.classifier`.
        """
        inputs = keras.Input((self.kernels[0].shape[0],), name="inputs", dtype=self.compute_dtype)
        h = inputs if preprocessing is None else preprocessing(inputs)
        layers = [
            keras.layers.Dense(width, "relu", dtype=self.dtype_policy, name=f"hidden_{number}")
            for number, width in enumerate(self.units, 1)
        ]
        head = keras.layers.Dense(self.num_classes, "softmax", dtype=self.dtype_policy, name="head")
        for layer in layers:
            h = layer(h)
        encoder = keras.Model(inputs, h, name="encoder")
        classifier = keras.Model(inputs, head(encoder(inputs)), name="classifier")
        for number, layer in enumerate([*layers, head]):
            layer.set_weights(self._folded(number))
        classifier.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        return classifier

    def _folded(self, number: int) -> list[np.ndarray]:
        weights = self.kernels[number], self.betas[number], self.means[number], self.variances[number]
        kernel, beta, mean, variance = map(_as_float64, weights)
        slope = (variance + EPSILON) ** -0.5
        kernel, bias = kernel * slope, beta - mean * slope
        gamma = _as_float64(self.gamma) if number == len(self.units) else 1.0
        return [kernel * gamma, bias * gamma]

    def get_config(self) -> dict[str, Any]:
        names = ("units", "num_classes", "noise", "reconstruction_weight")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("keras_sae")
def known_crossentropy(y: Any, probabilities: Any) -> Any:
    """Return -log p_y of each example, (examples,), in proportion to the share of labels that are known; 0 where not.

    Its mean over all examples is then the mean over those with labels, which are 0 or more.
    """
    known = ops.cast(ops.reshape(y, (-1,)) >= 0, probabilities.dtype)
    labels = ops.maximum(ops.cast(ops.reshape(y, (-1,)), "int32"), 0)
    losses = keras.losses.sparse_categorical_crossentropy(labels, probabilities)
    return losses * known / ops.maximum(ops.mean(known), keras.config.epsilon())


def _as_float64(weight: Any) -> np.ndarray:
    return ops.convert_to_numpy(weight).astype("float64")


def _normalised(z: Any) -> Any:
    mean, variance = ops.moments(z, axes=0)
    return (z - mean) * ops.rsqrt(variance + EPSILON)
