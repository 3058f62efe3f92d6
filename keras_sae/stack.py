"""Stacks of autoencoders: greedy pretraining, the unrolled autoencoder, a classifier on top."""

import contextlib
import itertools
import os
import tempfile

import keras

from .autoencoder import Autoencoder
from .data.batches import Chunks, RowSubset, TransformedDataset, in_memory, predict_in_chunks, predict_to_file
from .files import check_space
from .regularizers import WeightDecay
from .training.lbfgs import fit_lbfgs


@keras.saving.register_keras_serializable("keras_sae")
class StackedAutoencoder(Autoencoder):
    """Autoencoders one above the other, each learning the features of the one below.

        encode(x) = encode_n(... encode_1(x))          decode(h) = decode_1(... decode_n(h))

    It is itself the unrolled autoencoder, a keras.Model: `stack(x)` is `stack.decode(stack.encode(x))`, and `fit` or
    `fit_lbfgs` on it trains all layers at once, on the error of the whole with the penalties of every layer. The stack
    shares its weights with `stack.autoencoders`.

    Args:
        autoencoders: list of `SparseAutoencoder`, from the input upwards.
        preprocessing: a Keras layer or model that scales raw inputs for the first autoencoder, (examples, features) ->
            (examples, features), such as `fit_preprocessing` gives, or None. Then `encode`, `encoder` and classifiers
            take raw inputs, and what the stack gives back is the input as preprocessed.

    Reference: UFLDL, "Stacked Autoencoders"; Bengio et al. 2007, "Greedy Layer-Wise Training of Deep Networks".

    >>> stack = StackedAutoencoder([SparseAutoencoder(200), SparseAutoencoder(200)])
    >>> histories = stack.pretrain(x, max_iterations=400)
    >>> classifier = stack.classifier(num_classes=10, weight_decay=3e-3)
    >>> history = fit_lbfgs(classifier, x, labels)
    """

    def __init__(self, autoencoders, preprocessing=None, **kwargs):
        super().__init__(**kwargs)
        if not autoencoders or not all(isinstance(ae, Autoencoder) for ae in autoencoders):
            raise ValueError(f"Expected a list of one or more SparseAutoencoder. Received: {autoencoders}")
        self.autoencoders = list(autoencoders)
        self.preprocessing = preprocessing

    def build(self, input_shape):
        inputs = keras.Input((input_shape[-1],), name="inputs", dtype=self.compute_dtype)
        outputs = self.targets(inputs)
        for autoencoder in self.autoencoders:
            if not autoencoder.built:
                autoencoder.build((None, outputs.shape[-1]))
            outputs = autoencoder.encoder(outputs)
        self._encoder = keras.Model(inputs, outputs, name=f"{self.name}_encoder")

    @property
    def autoencoder(self):
        """The stack unrolled, encoding through all layers and decoding through all: the stack itself."""
        return self

    def __dir__(self):
        """Without `autoencoder`: Keras walks all attributes to save weights, and would find the stack in itself."""
        return [name for name in super().__dir__() if name != "autoencoder"]

    def targets(self, x):
        """What the stack learns to return for x: x as preprocessed."""
        return x if self.preprocessing is None else self.preprocessing(x)

    def decode(self, h):
        """Reconstruction from top features, a tensor: (examples, top units) -> (examples, features)."""
        for autoencoder in reversed(self.autoencoders):
            h = autoencoder.decode(h)
        return h

    def pretrain(self, x, fit=fit_lbfgs, directory=None, **options):
        """Train each autoencoder in turn on the features of those below it (greedy, layer-wise).

        Features of data in memory are kept in memory. Those of memory-mapped data and of datasets are written to disk,
        layer by layer, and removed when the layer above is trained: read at every pass, they cost less than the
        layers below them would (see benchmarks/streaming.py).

        Args:
            x: (examples, features): an array, in memory or memory-mapped, a batched tf.data.Dataset or a PyDataset.
            fit: trains one autoencoder on its inputs and returns a History: `fit(autoencoder, inputs, **options)`.
                By default `fit_lbfgs`, on the exact objective. For minibatches: `fit=keras_sae.fit_minibatches`.
            directory: folder for features on disk, by default a temporary one. What an earlier call left there, which
                was stopped, is used again.
            **options: for `fit`: max_iterations, tolerance, ... of `fit_lbfgs`; epochs, batch_size, ... of Keras' fit.

        Returns:
            A list of one keras History for each layer.
        """
        if not self.built:
            self.build((None, Chunks(x).num_features()))
        if self.preprocessing is not None:
            x = self._preprocessed(x)
        histories, written = [], None
        with tempfile.TemporaryDirectory() if directory is None else contextlib.nullcontext(directory) as folder:
            if hasattr(x, "shape") and not in_memory(x):
                check_space(folder, 4 * len(x) * self._widest_pair())
            for number, autoencoder in enumerate(self.autoencoders, 1):
                histories.append(fit(autoencoder, x, **options))
                below, written = written, os.path.join(folder, f"features_{number}.npy")
                if number < len(self.autoencoders):
                    inner = in_memory(x)
                    x = (
                        predict_in_chunks(autoencoder.encoder, x)
                        if inner
                        else predict_to_file(autoencoder.encoder, x, written)
                    )
                if below and os.path.exists(below):
                    os.remove(below)
        return histories

    def _widest_pair(self):
        """Units of two adjacent layers at most, the last aside: their features are on disk at the same time."""
        units = [0, *(autoencoder.units for autoencoder in self.autoencoders[:-1])]
        return max(map(sum, itertools.pairwise(units)), default=0)

    def _preprocessed(self, x):
        """x as the first autoencoder sees it: data that are not in memory are preprocessed anew at every pass."""
        if not hasattr(x, "shape"):
            return TransformedDataset(x, self.preprocessing)
        return predict_in_chunks(self.preprocessing, x) if in_memory(x) else RowSubset(x, transform=self.preprocessing)

    def classifier(self, num_classes, weight_decay=1e-4):
        """A softmax head on a copy of the stack's encoders, a keras.Model: (examples, features) -> probabilities.

            J = mean cross-entropy + weight_decay/2 ||theta||^2          theta: the kernel of the head

        Training it leaves the stack as it is. Fine-tuning penalises neither the encoders' weights nor their
        activations, as the classic exercise. `get_layer("encoder").trainable = False` trains the head alone. It is
        compiled with Adam and "sparse_categorical_crossentropy" (integer labels); compile it again for others.

        Reference: UFLDL, "Fine-tuning Stacked AEs" and "Softmax Regression", where the decay covers theta alone.
        """
        if num_classes < 2:
            raise ValueError(f"`num_classes` must be 2 or more. Received: num_classes={num_classes}")
        encoder = self._plain_encoder()
        head = keras.layers.Dense(
            num_classes, "softmax", kernel_regularizer=WeightDecay(weight_decay), dtype=self.dtype_policy, name="head"
        )
        inputs = keras.Input(encoder.input_shape[1:], name="inputs", dtype=self.compute_dtype)
        classifier = keras.Model(inputs, head(encoder(inputs)), name="classifier")
        classifier.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        return classifier

    def _plain_encoder(self):
        """A copy of the encoder: Dense layers with the same weights and no penalties, on the same preprocessing."""
        inputs = keras.Input(self.encoder.input_shape[1:], name="inputs", dtype=self.compute_dtype)
        outputs = self.targets(inputs)
        for number, autoencoder in enumerate(self.autoencoders, 1):
            layer = keras.layers.Dense(
                autoencoder.units, autoencoder.activation, dtype=self.dtype_policy, name=f"hidden_{number}"
            )
            outputs = layer(outputs)
            layer.set_weights(autoencoder.encoder.get_weights())
        return keras.Model(inputs, outputs, name="encoder")

    def get_config(self):
        autoencoders = [keras.saving.serialize_keras_object(ae) for ae in self.autoencoders]
        preprocessing = self.preprocessing and keras.saving.serialize_keras_object(self.preprocessing)
        return {**super().get_config(), "autoencoders": autoencoders, "preprocessing": preprocessing}

    @classmethod
    def from_config(cls, config):
        autoencoders = [keras.saving.deserialize_keras_object(ae) for ae in config.pop("autoencoders")]
        preprocessing = config.pop("preprocessing", None)
        if preprocessing is not None:
            preprocessing = keras.saving.deserialize_keras_object(preprocessing)
        return cls(autoencoders, preprocessing, **config)
