"""Layers that Keras lacks: a tied decoder, masking noise, and a penalty on moving averages of activations."""

import keras
from keras import ops

# Examples over which a moving average forgets. The fewer, the more it scatters; the more, the staler it is, and units
# overshoot: at batch 32 and Adam's usual rate 1e-3, 500 are too many.
WINDOW = 128


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


@keras.saving.register_keras_serializable("keras_sae")
class MovingAverage(keras.layers.Layer):
    """Returns its input, and penalises a moving average of it over batches: the place of KLSparsity(average="moving").

        rho_hat = sum_b w_b mean_b / sum_b w_b        mean_b: KLSparsity's rho_hat of batch b alone, of n_b examples
        w_b     = (1 - exp(-n_b / WINDOW)) exp(-(examples after batch b) / WINDOW)

    The penalty has the value at rho_hat and, in expectation, the gradient of the whole set: KL'(rho_hat) times the
    gradient of the mean of the present batch, at full strength. Only training moves the average; in evaluation the
    penalty is that of training, and before any training that of the batch.

    `mean` (units,) holds rho_hat, `weight` the sum of w, which tends to 1. As the state of Keras' seed generators they
    are among the layer's `variables` and saved with the model, but no weights: `get_weights` leaves them out.

    Args:
        activity_regularizer: a KLSparsity with average="moving".

    >>> features = keras.layers.Dense(196, "sigmoid")(inputs)
    >>> features = MovingAverage(KLSparsity(0.1, 3.0, average="moving"))(features)
    """

    def __init__(self, activity_regularizer, **kwargs):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        if getattr(self.activity_regularizer, "average", None) != "moving":
            raise ValueError(f"Expected a KLSparsity with average='moving'. Received: {activity_regularizer}")
        self.activity_regularizer = self.activity_regularizer.estimated_by(self.estimate)

    def build(self, input_shape):
        dtype = "float64" if self.variable_dtype == "float64" else "float32"  # half precision would lose the steps
        options = {"initializer": "zeros", "trainable": False, "autocast": False, "dtype": dtype}
        self.mean = self.add_weight(name="mean", shape=input_shape[-1:], **options)
        self.weight = self.add_weight(name="weight", shape=(), **options)

    @property
    def weights(self):
        """None: what training keeps here is no parameter of the model."""
        return []

    def call(self, activations, training=False):
        if training:
            share = -ops.expm1(-ops.cast(ops.shape(activations)[0], self.weight.dtype) / WINDOW)
            batch_mean = ops.stop_gradient(self.activity_regularizer.batch_mean(activations))
            self.weight.assign_add(share * (1 - self.weight))
            self.mean.assign_add(share / self.weight * (batch_mean - self.mean))
        return activations

    def estimate(self, batch_mean):
        """rho_hat, with the gradient of the mean of the present batch."""
        constant = ops.stop_gradient(batch_mean)
        mean, weight = ops.convert_to_tensor(self.mean), ops.convert_to_tensor(self.weight)
        return ops.where(weight > 0, mean, constant) + (batch_mean - constant)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        penalty = keras.regularizers.serialize(self.activity_regularizer)
        return {**super().get_config(), "activity_regularizer": penalty}
