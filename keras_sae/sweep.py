"""Several autoencoders, of several widths, methods or strengths of sparsity, trained in one pass over the data."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from .autoencoder import Autoencoder
from .inputs_as_targets import WeightedSteps


class Sweep(WeightedSteps):
    """Autoencoders that share each minibatch, for data that are read, or computed by another model, as they are needed.

    Each has its own loss, and the gradients of one know nothing of the others. With an optimizer that treats each
    weight by itself, such as Adam or SGD, each becomes what it becomes alone on these minibatches, to rounding. (Noise
    of inputs is drawn for each by itself.) Their losses are in the History by their names.

    Args:
        autoencoders: of as many features; each needs a name of its own.

    >>> sizes = [SparseAutoencoder(units, TopK(k), name=f"{units}_{k}") for units in (512, 2048) for k in (8, 32)]
    >>> history = keras_sae.fit(Sweep(sizes), rows, optimizer="adam", iterations=10)
    >>> codes = sizes[0].transform(rows)
    """

    def __init__(self, autoencoders: Sequence[Autoencoder], **kwargs: Any):
        super().__init__(**kwargs)
        if not autoencoders or not all(isinstance(model, Autoencoder) for model in autoencoders):
            raise ValueError(f"Expected a list of one or more autoencoders. Received: {autoencoders}")
        names = [model.name for model in autoencoders]
        if len(set(names)) < len(names):
            raise ValueError(f"Expected autoencoders with names that differ. Received: {', '.join(names)}. Set name=.")
        self.autoencoders = list(autoencoders)
        self._losses_of = [keras.metrics.Mean(name=name) for name in names]

    def build(self, input_shape: tuple) -> None:
        for autoencoder in self.autoencoders:
            if not autoencoder.built:
                autoencoder.build(input_shape)

    def compile(self, optimizer: Any = "adam", **kwargs: Any) -> None:
        """As keras.Model.compile; each autoencoder keeps the loss that it is compiled with, by default its own."""
        for autoencoder in self.autoencoders:
            if not autoencoder.compiled:
                autoencoder.compile()
        super().compile(optimizer=optimizer, **kwargs)

    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """As keras.Model.fit, with what comes before and after a training of each autoencoder."""
        if not self.compiled:
            self.compile()
        with self.trained_on(args[0] if args else kwargs.get("x")):
            return super().fit(*args, **kwargs)

    def call(self, inputs: Any, training: bool = False) -> list:
        """Return the reconstruction of each autoencoder, tensors (examples, features)."""
        return [autoencoder(inputs, training=training) for autoencoder in self.autoencoders]

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        losses = [
            autoencoder.compute_loss(x, y, output, sample_weight, training)
            for autoencoder, output in zip(self.autoencoders, y_pred, strict=True)
        ]
        for metric, loss in zip(self._losses_of, losses, strict=True):
            metric.update_state(loss, sample_weight=keras.ops.shape(x)[0])
        return sum(losses)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        return self.get_metrics_result()

    @contextlib.contextmanager
    def trained_on(self, x: Any, y: Any = None) -> Iterator[None]:
        """Do what comes before and after a training on x of each autoencoder."""
        with contextlib.ExitStack() as stack:
            for autoencoder in self.autoencoders:
                stack.enter_context(autoencoder.trained_on(x))
            yield
