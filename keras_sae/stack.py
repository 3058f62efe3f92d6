"""Stacks of autoencoders: greedy pretraining, the unrolled autoencoder, a classifier on top."""

import contextlib
import itertools
import os
import pathlib
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from .autoencoder import Autoencoder
from .data.batches import Chunks, TransformedDataset, features_of, predict_in_chunks
from .data.containers import RowSubset, as_array, in_memory, is_array, is_distributed, is_repeatable
from .data.preprocessing import scaled_without_cut_off, unscaled
from .files import check_space
from .regularizers import WeightDecay
from .sparse_autoencoder import SparseAutoencoder
from .sparsity import KLSparsity, SparsityMethod
from .training.fit import fit as fit_one


@keras.saving.register_keras_serializable("keras_sae")
class StackedAutoencoder(Autoencoder):
    """Autoencoders one above the other, each learning the features of the one below.

        encode(x) = encode_n(... encode_1(x))          decode(h) = decode_1(... decode_n(h))

    It is itself the unrolled autoencoder, a keras.Model: `stack(x)` is `stack.decode(stack.encode(x))`, and training it
    as a whole trains all layers at once, on the error of the whole with the penalties of every layer. The stack shares
    its weights with `stack.autoencoders`.

    Args:
        autoencoders: list of `SparseAutoencoder`, from the input upwards.
        preprocessing: a Keras layer or model that scales raw inputs for the first autoencoder, (examples, features) ->
            (examples, features), such as `fit_preprocessing` gives, or None. Then `encode`, `encoder` and classifiers
            take raw inputs, and what the stack gives back is the input as preprocessed.

    Reference: UFLDL, "Stacked Autoencoders"; Bengio et al. 2007, "Greedy Layer-Wise Training of Deep Networks".

    >>> stack = StackedAutoencoder([SparseAutoencoder(200), SparseAutoencoder(200)])
    >>> histories = stack.pretrain(x, iterations=400)
    >>> classifier = stack.classifier(num_classes=10, weight_decay=3e-3)
    >>> history = keras_sae.fit_head(classifier, x, labels)
    >>> history = keras_sae.fit(classifier, x, labels)
    """

    def __init__(self, autoencoders: Sequence[SparseAutoencoder], preprocessing: Any = None, **kwargs: Any):
        super().__init__(**kwargs)
        if not autoencoders or not all(isinstance(ae, SparseAutoencoder) for ae in autoencoders):
            raise ValueError(f"Expected a list of one or more SparseAutoencoder. Received: {autoencoders}")
        self.autoencoders = list(autoencoders)
        self.preprocessing = preprocessing

    def build(self, input_shape: tuple) -> None:
        inputs = keras.Input((input_shape[-1],), name="inputs", dtype=self.compute_dtype)
        outputs = self.targets(inputs)
        for autoencoder in self.autoencoders:
            if not autoencoder.built:
                autoencoder.build((None, outputs.shape[-1]))
            outputs = autoencoder.encoder(outputs)
        self._encoder = keras.Model(inputs, outputs, name=f"{self.name}_encoder")

    @property
    def output_activation(self) -> Callable:
        """The activation of the outputs, those of the first autoencoder."""
        return self.autoencoders[0].output_activation

    def targets(self, x: Any) -> Any:
        """Return what the stack learns to return for x: x as preprocessed."""
        return x if self.preprocessing is None else self.preprocessing(x)

    def uncut(self, x: Any) -> Any:
        """Return x as preprocessed, but not cut off where it leaves the range of the training data.

        Half the squared distance of `stack(x)` to it grows without end as x goes away from those data.
        """
        return x if self.preprocessing is None else scaled_without_cut_off(self.preprocessing, x)

    def unscaled(self, reconstruction: Any) -> Any:
        """Return what the stack gave back in the units of raw inputs, (examples, features) float64.

        It is None if the preprocessing does more than to scale: of normalised contrast there is no way back.
        """
        reconstruction = super().unscaled(reconstruction)
        return reconstruction if self.preprocessing is None else unscaled(self.preprocessing, reconstruction)

    def decode(self, h: Any) -> Any:
        """Return the reconstruction from top features, a tensor: (examples, top units) -> (examples, features)."""
        for autoencoder in reversed(self.autoencoders):
            h = autoencoder.decode(h)
        return h

    def encode_and_penalize(self, inputs: Any, clean: Any, training: bool = False) -> Any:
        h = self.targets(inputs)
        for autoencoder in self.autoencoders:
            h = autoencoder.encode_and_penalize(h, h, training)
        return h

    def start(self, x: Any) -> None:
        if not all(autoencoder.started or not autoencoder.needs_start for autoencoder in self.autoencoders):
            for autoencoder, inputs in self.stages(x):
                autoencoder.start(inputs)

    def finish(self, x: Any) -> None:
        if any(autoencoder.needs_finish for autoencoder in self.autoencoders):
            # Of what cannot be read again no features are computed: each method says what it does without.
            every = self.stages(x) if is_repeatable(x) else ((layer, x) for layer in self.autoencoders)
            for autoencoder, inputs in every:
                autoencoder.finish(inputs)

    @property
    def sparsities(self) -> list:
        """The penalties on the features of each layer."""
        return [autoencoder.sparsity for autoencoder in self.autoencoders]

    @property
    def decoder(self) -> keras.Model:
        """The decoder alone, top features -> reconstruction: at each access a new keras.Model that shares weights."""
        features = keras.Input(self.encoder.output_shape[1:], name="features", dtype=self.compute_dtype)
        outputs = features
        for autoencoder in reversed(self.autoencoders):
            outputs = autoencoder.decoder(outputs)  # not decode: names of layers are unique within a model only
        return keras.Model(features, outputs, name=f"{self.name}_decoder")

    def stages(self, x: Any, directory: str | pathlib.Path | None = None) -> Iterator[tuple[SparseAutoencoder, Any]]:
        """Yield each autoencoder with its inputs, the features of those below it: train it before asking for the next.

        Features of data in memory are kept in memory. Those of memory-mapped data and of data sets are written to disk,
        layer by layer, and removed once the layer above is trained: read at every pass, they cost less than the layers
        below them would (see benchmarks/streaming.py).

        Args:
            x: (examples, features): an array, in memory or memory-mapped, a batched tf.data.Dataset or a PyDataset; or
                the rows of a `Cluster`, where the features stay as well.
            directory: directory for features on disk, by default a temporary one. What an earlier call left there,
                which was interrupted, is used again if it is of the same weights and data.

        >>> for autoencoder, inputs in stack.stages(x):
        ...     keras_sae.fit(autoencoder, inputs, optimizer="adam", iterations=30)
        """
        if is_distributed(x):
            x = x.inputs()
        if is_array(x):
            x = as_array(x)
        elif next(iter(Chunks(x).read())).weights is not None:
            raise ValueError(
                "The layers above the first learn from features, which have no weights. Expected batches of x. "
                "Received: weights of examples too. Give x and sample_weight as arrays."
            )
        if not self.built:
            self.build((None, Chunks(x).num_features()))
        if self.preprocessing is not None:
            x = self._preprocessed(x)
        with contextlib.nullcontext(directory) if directory else tempfile.TemporaryDirectory() as folder:
            if is_array(x) and not in_memory(x):
                check_space(folder, 4 * len(x) * self._widest_pair())
            below = None
            for number, autoencoder in enumerate(self.autoencoders, 1):
                yield autoencoder, x
                above = os.path.join(folder, f"features_{number}.npy")
                if number < len(self.autoencoders):
                    x = features_of(autoencoder.encoder, x, above)
                if below and os.path.exists(below):
                    os.remove(below)
                below = above

    def pretrain(
        self,
        x: Any,
        optimizer: Any = "lbfgs",
        iterations: int | None = None,
        *,
        directory: str | pathlib.Path | None = None,
        cluster: Any = None,
        fit: Callable | None = None,
        **options: Any,
    ) -> list[keras.callbacks.History]:
        """Train each autoencoder in turn on the features of those below it (greedy, layer-wise).

        Args:
            x, directory: as of `stages`.
            optimizer, iterations, **options: of `keras_sae.fit`, which trains each. A checkpoint is for one model: to
                resume, loop over `stages`.
            cluster: a `Cluster`, which x is sent to once, or read on: see `Cluster.rows`.
            fit: the former way, for one release: a function that trains one, `fit(autoencoder, inputs, **options)`.

        Returns:
            A list of one keras History for each layer.
        """
        if fit is not None or "max_iterations" in options:
            message = "pretrain(fit=..., max_iterations=...) is now pretrain(optimizer=..., iterations=...)"
            warnings.warn(message, DeprecationWarning, stacklevel=2)
        if fit is not None:
            return [fit(autoencoder, inputs, **options) for autoencoder, inputs in self.stages(x, directory)]
        iterations = options.pop("max_iterations", iterations)
        x = x if cluster is None else cluster.rows(x)
        return [
            fit_one(autoencoder, inputs, None, optimizer, iterations, **options)
            for autoencoder, inputs in self.stages(x, directory)
        ]

    def _widest_pair(self) -> int:
        """Return the units of two adjacent layers at most, the last aside: their features are on disk together."""
        units = [0, *(autoencoder.units for autoencoder in self.autoencoders[:-1])]
        return max(map(sum, itertools.pairwise(units)), default=0)

    def _preprocessed(self, x: Any) -> Any:
        """Return x as the first autoencoder sees it: data that are not in memory are preprocessed at every pass."""
        if is_distributed(x):
            return x.encoded(self.preprocessing, lazily=True)
        if not is_array(x):
            return TransformedDataset(x, self.preprocessing)
        return predict_in_chunks(self.preprocessing, x) if in_memory(x) else RowSubset(x, transform=self.preprocessing)

    def classifier(self, num_classes: int, weight_decay: float = 1e-4) -> keras.Model:
        """Return a softmax head on a copy of the stack's encoders: (examples, features) -> probabilities.

            J = mean cross-entropy + weight_decay/2 ||theta||^2          theta: the kernel of the head

        Training it leaves the stack as it is. `keras_sae.fit_head` trains the head alone, `keras_sae.fit` all of it.
        Fine-tuning penalises neither the encoders' weights nor their activations, as the classic exercise. It is
        compiled with Adam and "sparse_categorical_crossentropy" (integer labels); compile it again for others.
        Its layers "encoder", a keras.Model, and "head" are named so.

        Reference: UFLDL, "Fine-tuning Stacked AEs" and "Softmax Regression", where the decay covers theta alone.
        """
        if num_classes < 2:
            raise ValueError(f"`num_classes` must be 2 or more. Received: num_classes={num_classes}")
        encoder = self._plain_encoder()
        decay, dtype = WeightDecay(weight_decay), self.dtype_policy
        head = keras.layers.Dense(int(num_classes), "softmax", kernel_regularizer=decay, dtype=dtype, name="head")
        inputs = keras.Input(encoder.input_shape[1:], name="inputs", dtype=self.compute_dtype)
        classifier = keras.Model(inputs, head(encoder(inputs)), name="classifier")
        classifier.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        return classifier

    def _plain_encoder(self) -> keras.Model:
        """Return a copy of the encoder: Dense layers with the same weights, no penalties, the same preprocessing."""
        if not self.built and self.preprocessing is None and self.autoencoders[0].built:
            self.build(self.autoencoders[0].encoder.input_shape)
        inputs = keras.Input(self.encoder.input_shape[1:], name="inputs", dtype=self.compute_dtype)
        outputs = self.targets(inputs)
        for number, ae in enumerate(self.autoencoders, 1):
            layer = keras.layers.Dense(ae.units, ae.activation, dtype=self.dtype_policy, name=f"hidden_{number}")
            outputs = layer(outputs)
            layer.set_weights(ae.folded()[:2])
            if isinstance(ae.sparsity, SparsityMethod):
                outputs = ae.sparsity.copy(f"sparsity_{number}")(outputs)
        return keras.Model(inputs, outputs, name="encoder")

    def get_config(self) -> dict[str, Any]:
        autoencoders = [keras.saving.serialize_keras_object(ae) for ae in self.autoencoders]
        preprocessing = self.preprocessing and keras.saving.serialize_keras_object(self.preprocessing)
        return {**super().get_config(), "autoencoders": autoencoders, "preprocessing": preprocessing}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "StackedAutoencoder":
        config = dict(config)
        autoencoders = [keras.saving.deserialize_keras_object(ae) for ae in config.pop("autoencoders")]
        preprocessing = config.pop("preprocessing", None)
        if preprocessing is not None:
            preprocessing = keras.saving.deserialize_keras_object(preprocessing)
        return cls(autoencoders, preprocessing, **config)


def build_stack(
    units: Sequence[int],
    half_variance: float,
    rho: float = 0.1,
    beta: float | None = None,
    weight_decay: float | None = None,
    preprocessing: Any = None,
    output_activation: Any = "sigmoid",
) -> StackedAutoencoder:
    """Return an untrained stack whose penalties are in proportion to the error that there is to reduce.

    So are the classic 3 and 3e-3 to that of MNIST (26): for a table of few columns they would leave all units alike.
    The inputs of a layer above the first are taken to have the largest variance that units of mean rho can have,
    rho (1 - rho) each.

    Args:
        units: hidden units of each layer, from the input upwards.
        half_variance: of the inputs as preprocessed, see `keras_sae.metrics.half_variance`.
        rho: the target mean activation of a hidden unit.
        beta, weight_decay: weights of the penalties of every layer; by default 0.1 and 0.0001 of the half variance.
        preprocessing: as of `StackedAutoencoder`.
        output_activation: of the first autoencoder, which gives the inputs back.
    """
    autoencoders = []
    for number, width in enumerate(units, 1):
        sparsity = KLSparsity(rho, 0.1 * half_variance if beta is None else beta)
        decay = 1e-4 * half_variance if weight_decay is None else weight_decay
        outputs = output_activation if number == 1 else "sigmoid"
        autoencoder = SparseAutoencoder(width, sparsity, decay, output_activation=outputs, name=f"layer_{number}")
        autoencoders.append(autoencoder)
        half_variance = width * rho * (1 - rho) / 2
    return StackedAutoencoder(autoencoders, preprocessing)
