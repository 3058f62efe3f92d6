"""Layers that Keras lacks: a decoder that borrows the encoder's kernel, and masking noise."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_sae")
class TiedDense(keras.layers.Layer):
    """Decoder of a tied autoencoder: activation(h W^T + b), where W is the encoder's kernel, handed in at each call.

    It owns the bias alone, so the shared kernel is saved, counted and decayed once, by the encoder.

    Shapes: h (examples, hidden), kernel (features, hidden), output (examples, features) with features = `units`.
    """

    def __init__(self, units, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.activation = keras.activations.get(activation)

    def build(self, input_shape):
        self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros")

    def call(self, inputs, kernel):
        return self.activation(ops.matmul(inputs, ops.transpose(kernel)) + self.bias)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        activation = keras.activations.serialize(self.activation)
        return {**super().get_config(), "units": self.units, "activation": activation}


@keras.saving.register_keras_serializable("keras_sae")
class MaskingNoise(keras.layers.Layer):
    """Sets each input to 0 with probability `rate` while training; unlike Dropout it does not scale up the rest.

    Reference: Vincent et al. 2008, "Extracting and Composing Robust Features with Denoising Autoencoders".
    """

    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(
                f"`corruption`, the fraction of inputs set to 0, must be at least 0 and below 1. Received: {rate}"
            )
        self.rate, self.seed = rate, seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, inputs, training=False):
        if not training:
            return inputs
        kept = keras.random.uniform(ops.shape(inputs), seed=self.seed_generator) >= self.rate
        return inputs * ops.cast(kept, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
