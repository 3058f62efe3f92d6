"""The penalties of the objective: sparsity of hidden activations, decay of kernels."""

import copy
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
    `keras_sae.fit_lbfgs` take the mean over the WHOLE data set, as the notes do. Training on minibatches (`fit`) has to
    estimate it, see `average`. As `activity_regularizer` of any Keras layer,
    `Dense(196, activation="sigmoid", activity_regularizer=KLSparsity(0.1, 3.0))`, it is the mean over the batch.
    The strength is the same whatever the batch size.

    Args:
        rho: target mean activation, between 0 and 1 (exclusive). Small: each unit is active for few examples.
        beta: weight of the penalty in the objective, 0 or more.
        inactive: activation of a unit at rest: 0 for sigmoid, -1 for tanh. `SparseAutoencoder` sets it itself.
        average: rho_hat in `fit`: "batch", the mean over the batch, or "moving", a moving average over batches, which
            `SparseAutoencoder` keeps in a `keras_sae.layers.MovingAverage`. That is for batches of 32 or fewer: the
            mean over so few scatters, and KL of it is too large. From 256 on they are alike (benchmarks/rho_hat.py).

    Reference: CS294A lecture notes, section 3; UFLDL, "Autoencoders and Sparsity".
    """

    def __init__(self, rho=0.05, beta=3.0, inactive=0.0, average="batch"):
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
        if average not in ("batch", "moving"):
            raise ValueError(f'`average` must be "batch" or "moving". Received: average={average!r}')
        self.rho, self.beta, self.inactive, self.average = float(rho), float(beta), float(inactive), average
        self.estimate = None

    def for_activation(self, activation):
        """The same penalty for units with this Keras activation, whose value at rest it looks up."""
        name = keras.activations.serialize(keras.activations.get(activation))
        if name not in INACTIVE:
            raise ValueError(
                "KLSparsity compares mean activations with a probability, so it needs units bounded by 1: "
                f"{', '.join(INACTIVE)}. For other units use an L1 penalty, sparsity=keras.regularizers.L1(1e-3), or "
                f"none. Received: activation={name!r}"
            )
        return KLSparsity(self.rho, self.beta, INACTIVE[name], self.average)

    def estimated_by(self, estimate):
        """The same penalty at rho_hat = estimate(batch mean), a function (units,) -> (units,)."""
        penalty = copy.copy(self)
        penalty.estimate = estimate
        return penalty

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

    def batch_mean(self, activations):
        """rho_hat of a batch, (units,), of activations (examples, ..., units), in float32 at least."""
        if keras.backend.standardize_dtype(activations.dtype) in ("float16", "bfloat16"):
            activations = ops.cast(activations, "float32")
        return ops.mean(self.rate(activations), axis=tuple(range(len(activations.shape) - 1)))

    def __call__(self, activations):
        """Batch size times the penalty of rho_hat: Keras (3.14 and later) divides activity losses by it."""
        rho_hat = self.batch_mean(activations)
        if self.average == "moving":
            if self.estimate is None:
                raise ValueError(
                    "A moving average needs a layer that keeps it: put keras_sae.layers.MovingAverage(penalty) after "
                    "this layer instead, use a SparseAutoencoder, which has one, or take average='batch'. "
                    "Received: average='moving' as the activity_regularizer of another layer"
                )
            rho_hat = self.estimate(rho_hat)
        penalty = self.penalty(rho_hat, activations.dtype)  # in float32 at least: times the batch, it would pass 65,504
        return ops.cast(ops.shape(activations)[0], penalty.dtype) * penalty

    def get_config(self):
        return {"rho": self.rho, "beta": self.beta, "inactive": self.inactive, "average": self.average}


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
