"""Units that are active above a threshold of their own, which training finds."""

import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from ..backend import refuse_replicas, single, wide
from ..constraints import check
from ..conventions import SAMPLE
from ..data.batches import Chunks, inputs_of
from ..data.containers import is_repeatable
from ..example_weights import mean
from .method import SparsityMethod, pre_activations_of
from .thresholds import threshold_of

SMALL = 0.01  # where thresholds start that neither the data nor the user determine


@keras.saving.register_keras_serializable("keras_sae")
class JumpReLU(SparsityMethod):
    """Keep the pre-activations that are above a threshold theta, one for each unit, and set the others to 0.

        a_j  = pre_j H_j           H_j = 1 if pre_j > theta_j, else 0
        L0   = mean over examples of sum_j H_j
        term = weight (L0 / target_l0 - 1)^2          of the batch; with target_l0=None: weight L0

    The thresholds themselves are trained, in float32 at least, and kept at 0 or more. A step has no slope, so their
    gradients while training are estimates, straight through the step, from the pre-activations that are within
    bandwidth/2 of the threshold:

        da_j/dtheta_j = -theta_j / bandwidth     dH_j/dtheta_j = -1 / bandwidth     if |pre_j - theta_j| < bandwidth/2
                                                                                     else 0
        da_j/dpre_j   = H_j                      dH_j/dpre_j   = 0

    `threshold` and `bandwidth` are in units of pre-activations, so take `input_scale=True`: in data of another size the
    bandwidth would hold all pre-activations or none, and the term would do nothing. A step of Adam moves a
    threshold by the learning rate at most, about, and thresholds of 1 are usual, so they start where the target is met
    before training, unless `threshold` says otherwise. After training there is a warning if L0 is more than twice the
    target, or less than half of it.

    Args:
        target_l0: active units of an example, which training aims at; None for a penalty in proportion to L0.
        weight: of the term, beside an error in units of scaled inputs. None is features / 2, about half of
            the mean ||scale x||^2. With target_l0=None it has to be given.
        threshold: at which every theta starts. None is the one above which `target_l0` units of an example are, over
            32,768 rows at most, when training starts; without a target 0.01.
        bandwidth: the width of the window, above 0. A wider one has less noise, and more bias.
        window: as of `SparsityMethod`.

    Raises:
        ValueError: an argument out of range, no weight, or a target of several replicas of tf.distribute, which do not
            know each other's L0.

    Reference: Rajamanoharan et al. 2024, "Jumping Ahead: Improving Reconstruction Fidelity with JumpReLU Sparse
    Autoencoders", sections 3 and 4. The target is that of the library dictionary_learning, whose inputs have a mean
    ||x||^2 of 1 and its errors whole squares, so that its weight of 1 is features / 2 here.

    >>> ae = keras_sae.SparseAutoencoder(1000, keras_sae.sparsity.JumpReLU(25), input_scale=True)
    >>> history = keras_sae.fit(ae, x, optimizer="adam", iterations=30)
    """

    no_objective = "its gradients are estimates, and its term is of the mean L0 of a batch, not a mean over examples"
    no_lbfgs = "its objective jumps if a unit crosses its threshold"

    def __init__(
        self,
        target_l0: float | None,
        weight: float | None = None,
        threshold: float | None = None,
        bandwidth: float = 0.05,
        window: float = 100_000,
        **kwargs: Any,
    ):
        super().__init__(window, **kwargs)
        check("target_l0", target_l0)
        check("beta", weight, "`weight`")
        if threshold is not None:
            check("threshold", threshold)
        check("bandwidth", bandwidth)
        if target_l0 is None and weight is None:
            raise ValueError(
                "JumpReLU(target_l0=None) adds weight * L0. Expected a `weight`, such as 1. Received: None"
            )
        self.target_l0, self.weight = target_l0, weight
        self.threshold, self.bandwidth = threshold, bandwidth

    def build(self, input_shape: tuple) -> None:
        if self.target_l0 is not None and self.target_l0 > input_shape[-1]:
            raise ValueError(f"Expected target_l0 of at most the {input_shape[-1]} units. Received: {self.target_l0}.")
        super().build(input_shape)
        self.theta = self.add_weight(
            name="theta",
            shape=input_shape[-1:],
            initializer=keras.initializers.Constant(self._first_threshold()),
            constraint=keras.constraints.NonNeg(),  # below 0 it would let negative codes pass
            autocast=False,
            dtype=single(self.variable_dtype),  # half precision would lose the steps
        )

    def revive(self, units: Any) -> None:
        super().revive(units)
        theta = ops.convert_to_tensor(self.theta)  # a threshold far below the others would let a new unit pass always
        self.theta.assign(ops.where(units, ops.mean(theta) if self.needs_start else self._first_threshold(), theta))

    def _first_threshold(self) -> float:
        return SMALL if self.threshold is None else self.threshold

    @property
    def needs_start(self) -> bool:
        return self.threshold is None and self.target_l0 is not None

    def start_on(self, autoencoder: Any, x: Any) -> None:
        if self.threshold is None and self.target_l0 is not None:
            threshold = threshold_of(pre_activations_of(autoencoder, x), self.target_l0)
            self.theta.assign(np.full(self.theta.shape, threshold))

    def codes(self, pre: Any, training: bool) -> Any:
        codes = ops.where(self._active(pre), pre, ops.zeros_like(pre))
        if not training:
            return codes
        return ops.cast(self._straight_through(wide(codes), pre, ops.stop_gradient(self.theta)), pre.dtype)

    def terms(self, autoencoder: Any, x: Any, pre: Any, codes: Any, training: bool) -> list:
        active = ops.cast(self._active(pre), self.theta.dtype)
        l0 = mean(ops.sum(self._straight_through(active, pre, 1.0), axis=-1))
        if self.target_l0 is None:
            return [self.weight * l0]
        refuse_replicas("JumpReLU(target_l0)")
        weight = x.shape[-1] / 2 if self.weight is None else self.weight
        return [weight * ops.square(l0 / self.target_l0 - 1)]

    def finish(self, autoencoder: Any, x: Any) -> None:
        if self.target_l0 is None or not is_repeatable(x):
            return
        l0 = _mean_l0(autoencoder, x)
        if not self.target_l0 / 2 <= l0 <= 2 * self.target_l0:
            warnings.warn(
                f"After training {autoencoder.name} has {l0:.3g} active units an example. Expected about "
                f"target_l0={self.target_l0:g}. Train longer or with a higher learning rate: a threshold moves by "
                "about that a step. If L0 does not answer, take input_scale=True, because `threshold` and "
                "`bandwidth` are in units of pre-activations, or another `weight`.",
                stacklevel=2,
            )

    def _active(self, pre: Any) -> Any:
        """Return whether units are above their thresholds."""
        return wide(pre) > ops.convert_to_tensor(self.theta)

    def _straight_through(self, values: Any, pre: Any, jump: Any) -> Any:
        """Return values that are `jump` higher above theta than below, with the gradient -jump/bandwidth K for theta.

        K is 1 within bandwidth/2 of theta, else 0.
        """
        theta = ops.convert_to_tensor(self.theta)
        fixed = ops.stop_gradient(theta)
        near = ops.cast(ops.abs(wide(pre) - fixed) < self.bandwidth / 2, fixed.dtype)
        return values - jump / self.bandwidth * near * (theta - fixed)  # theta - fixed is 0, with a gradient

    def get_config(self) -> dict[str, Any]:
        names = ("target_l0", "weight", "threshold", "bandwidth")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _mean_l0(autoencoder: Any, x: Any) -> float:
    """Return the mean number of active units of the first rows of x."""
    active = rows = 0
    for chunk in Chunks(x, **inputs_of(autoencoder.encoder)).read():
        codes = ops.convert_to_numpy(autoencoder.encoder(chunk.x[: SAMPLE - rows], training=False))
        active, rows = active + int((codes != 0).sum()), rows + len(codes)
        if rows == SAMPLE:
            break
    return active / rows
