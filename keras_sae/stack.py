"""Stacks of autoencoders: greedy pretraining, the unrolled autoencoder, a classifier on top."""

import keras

from keras_sae.autoencoder import Autoencoder
from keras_sae.chunks import outputs
from keras_sae.lbfgs import fit_lbfgs
from keras_sae.regularizers import WeightDecay


@keras.saving.register_keras_serializable("keras_sae")
class StackedAutoencoder(Autoencoder):
    """Autoencoders one above the other, each learning the features of the one below.

        encode(x) = encode_n(... encode_1(x))          decode(h) = decode_1(... decode_n(h))

    It is itself the unrolled autoencoder, a keras.Model: `stack(x)` is `stack.decode(stack.encode(x))`, and `fit` or
    `fit_lbfgs` on it trains all layers at once, on the error of the whole with the penalties of every layer. The stack
    shares its weights with `stack.autoencoders`.

    Args:
        autoencoders: list of `SparseAutoencoder`, from the input upwards.

    Reference: UFLDL, "Stacked Autoencoders"; Bengio et al. 2007, "Greedy Layer-Wise Training of Deep Networks".

    >>> stack = StackedAutoencoder([SparseAutoencoder(200), SparseAutoencoder(200)])
    >>> histories = stack.pretrain(x, max_iterations=400)
    >>> classifier = stack.classifier(num_classes=10, weight_decay=3e-3)
    >>> history = fit_lbfgs(classifier, x, labels)
    """

    def __init__(self, autoencoders, **kwargs):
        super().__init__(**kwargs)
        if not autoencoders or not all(isinstance(ae, Autoencoder) for ae in autoencoders):
            raise ValueError(f"Expected a list of one or more SparseAutoencoder. Received: {autoencoders}")
        self.autoencoders = list(autoencoders)

    def build(self, input_shape):
        inputs = outputs = keras.Input((input_shape[-1],), name="inputs", dtype=self.compute_dtype)
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

    def decode(self, h):
        """Reconstruction from top features, a tensor: (examples, top units) -> (examples, features)."""
        for autoencoder in reversed(self.autoencoders):
            h = autoencoder.decode(h)
        return h

    def pretrain(self, x, fit=fit_lbfgs, **options):
        """Train each autoencoder in turn on the features of those below it (greedy, layer-wise).

        Args:
            x: (examples, features), an array.
            fit: trains one autoencoder on its inputs and returns a History: `fit(autoencoder, inputs, **options)`.
                By default `fit_lbfgs`, on the exact objective. For minibatches: `fit=SparseAutoencoder.fit`.
            **options: for `fit`: max_iterations, tolerance, ... of `fit_lbfgs`; epochs, batch_size, ... of Keras' fit.

        Returns:
            A list of one keras History for each layer.
        """
        if not self.built:
            self.build(x.shape)
        histories = []
        for autoencoder in self.autoencoders:
            histories.append(fit(autoencoder, x, **options))
            if autoencoder is not self.autoencoders[-1]:
                x = outputs(autoencoder.encoder, x)
        return histories

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
        """A copy of the encoder: Dense layers with the same weights and no penalties."""
        inputs = outputs = keras.Input(self.encoder.input_shape[1:], name="inputs", dtype=self.compute_dtype)
        for number, autoencoder in enumerate(self.autoencoders, 1):
            layer = keras.layers.Dense(
                autoencoder.units, autoencoder.activation, dtype=self.dtype_policy, name=f"hidden_{number}"
            )
            outputs = layer(outputs)
            layer.set_weights(autoencoder.encoder.get_weights())
        return keras.Model(inputs, outputs, name="encoder")

    def get_config(self):
        autoencoders = [keras.saving.serialize_keras_object(ae) for ae in self.autoencoders]
        return {**super().get_config(), "autoencoders": autoencoders}

    @classmethod
    def from_config(cls, config):
        autoencoders = [keras.saving.deserialize_keras_object(ae) for ae in config.pop("autoencoders")]
        return cls(autoencoders, **config)
