"""The penalties of the objective: sparsity of hidden activations, decay of kernels."""

import math

import keras
from keras import ops

# The value of a resting unit, for activations that are bounded and reach 1 when fully active.
INACTIVE = {"sigmoid": 0.0, "hard_sigmoid": 0.0, "tanh": -1.0, "hard_tanh": -1.0, "softsign": -1.0}


@keras.saving.register_keras_serializable("keras_sae")
class KLSparsity(keras.regularizers.Regularizer):
    """Penalty that pulls each unit's mean activation to rho: beta * sum_j KL(rho || rho_hat_j).

        KL(rho || r) = rho log(rho / r) + (1 - rho) log((1 - rho) / (1 - r))
        rho_hat_j    = mean over examples of (a_j - inactive) / (1 - inactive)

    Summed over units; not divided by their number, nor by the number of examples. `keras_sae.objective` and
    `keras_sae.fit_lbfgs` take the mean over the WHOLE data set, as the notes do. As `activity_regularizer` of any
    Keras layer, `Dense(196, activation="sigmoid", activity_regularizer=KLSparsity(0.1, 3.0))`, it is the mean over
    the batch, at the same strength whatever the batch size.

    Args:
        rho: target mean activation, between 0 and 1 (exclusive). Small: each unit is active for few examples.
        beta: weight of the penalty in the objective, 0 or more.
        inactive: activation of a unit at rest: 0 for sigmoid, -1 for tanh. `SparseAutoencoder` sets it itself.

    Reference: CS294A lecture notes, section 3; UFLDL, "Autoencoders and Sparsity".
    """

    def __init__(self, rho=0.05, beta=3.0, inactive=0.0):
        if not 0 < rho < 1:
            raise ValueError(
                f"`rho`, the target mean activation, must lie between 0 and 1 (exclusive). Received: rho={rho}"
            )
        if not (beta >= 0 and math.isfinite(beta)):
            raise ValueError(f"`beta`, the weight of the penalty, must be finite and 0 or more. Received: beta={beta}")
        if not (inactive < 1 and math.isfinite(inactive)):
            raise ValueError(
                "`inactive`, the activation of a resting unit, must be below 1 (0 for sigmoid, -1 for tanh). "
                f"Received: inactive={inactive}"
            )
        self.rho, self.beta, self.inactive = float(rho), float(beta), float(inactive)

    def for_activation(self, activation):
        """The same penalty for units with this Keras activation, whose value at rest it looks up."""
        name = keras.activations.serialize(keras.activations.get(activation))
        if name not in INACTIVE:
            raise ValueError(
                "KLSparsity compares mean activations with a probability, so it needs units bounded by 1: "
                f"{', '.join(INACTIVE)}. For other units use an L1 penalty, sparsity=keras.regularizers.L1(1e-3), or "
                f"none. Received: activation={name!r}"
            )
        return KLSparsity(self.rho, self.beta, INACTIVE[name])

    def penalty(self, rho_hat, dtype=None):
        """beta * sum_j KL(rho || rho_hat_j), a scalar, for rho_hat of shape (units,), each between 0 and 1.

        Computed in float32 at least. A rounding unit is added inside the logarithms (its square at 0, where floats are
        denser), so that units which are never or always active keep value and gradient finite.
        """
        rho_hat = ops.convert_to_tensor(rho_hat)
        wide = keras.backend.standardize_dtype(rho_hat.dtype) == "float64"
        if not wide:
            rho_hat = ops.cast(rho_hat, "float32")
        epsilon = 2.0**-52 if wide else 2.0**-23
        if dtype is not None and keras.backend.standardize_dtype(dtype) == "float16":
            rho_hat = 2.0**-10 + (1 - 2.0**-9) * rho_hat  # the gradient, up to beta * 2^10, must stay below 65,504
        active = self.rho * (math.log(self.rho) - ops.log(rho_hat + epsilon**2))
        inactive = (1 - self.rho) * (math.log1p(-self.rho) - ops.log(1 - rho_hat + epsilon))
        return self.beta * ops.sum(active + inactive)

    def rate(self, activations):
        """Activations on the scale from 0 (at rest) to 1 (fully active), whose mean is rho_hat."""
        if self.inactive == 0:
            return activations
        return (activations - self.inactive) / (1 - self.inactive)

    def __call__(self, activations):
        """Batch size times the penalty of the batch's rho_hat: Keras (3.14 and later) divides activity losses by it."""
        wide = activations
        if keras.backend.standardize_dtype(activations.dtype) in ("float16", "bfloat16"):
            wide = ops.cast(activations, "float32")
        rho_hat = ops.mean(self.rate(wide), axis=tuple(range(len(activations.shape) - 1)))
        penalty = self.penalty(rho_hat, activations.dtype)  # in float32 at least: times the batch, it would pass 65,504
        return ops.cast(ops.shape(activations)[0], penalty.dtype) * penalty

    def get_config(self):
        return {"rho": self.rho, "beta": self.beta, "inactive": self.inactive}


@keras.saving.register_keras_serializable("keras_sae")
class WeightDecay(keras.regularizers.Regularizer):
    """lambda/2 times the sum of squares of a kernel; not divided by anything.

    Keras' L2(lambda / 2) is the same to seven digits: it rounds the factor to float32 even in a float64 model.

    Reference: CS294A lecture notes, section 2, the second term of J(W, b).
    """

    def __init__(self, weight_decay):
        if not 0 <= weight_decay < math.inf:
            raise ValueError(f"`weight_decay` must be finite and 0 or more. Received: weight_decay={weight_decay}")
        self.weight_decay = float(weight_decay)

    def __call__(self, kernel):
        return self.weight_decay / 2 * ops.sum(ops.square(kernel))

    def get_config(self):
        return {"weight_decay": self.weight_decay}
