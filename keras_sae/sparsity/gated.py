"""Units with a gate: one part of them says whether they are active, another how much."""

from typing import Any

import keras
from keras import ops

from ..backend import wide
from ..constraints import check
from ..example_weights import mean
from .method import SparsityMethod, mean_error


@keras.saving.register_keras_serializable("keras_sae")
class Gated(SparsityMethod):
    """Let a gate say which units are active, and what is not penalised how much: no shrinkage as by an L1 penalty.

        pi    = (x - b2) W1                            the pre-activations, of a Dense layer without a bias
        g_j   = pi_j + gate_bias_j
        a_j   = max(pi_j exp(log_scale_j) + magnitude_bias_j, 0) if g_j > 0, else 0
        terms = l1 sum_j max(g_j, 0)  +  1/2 ||max(g, 0) W2 + b2 - x||^2           means over examples

    The gate is a step, which has no slope, so W2 and b2 are held fixed in the terms, and the second error, of what the
    open gates alone can reconstruct, is all that trains the gates to open. It counts as the error of a, as in the
    paper. Both are halves of squares here: with the paper's lambda, which stands beside whole ones, l1 = lambda/2.

    The rows of W2 have length 1. With `unit_norm=False` l1 penalises a unit whatever the length of its row, so that
    longer rows with smaller gates pay less for the same reconstruction, and l1 means nothing on its own.

    Args:
        l1: weight of the first term, beside an error in units of scaled inputs. None is sqrt(features) / 20: lambda=0.1
            for inputs with a mean ||x||^2 of 1, if `input_scale=True`.
        window: as of `SparsityMethod`.

    Raises:
        ValueError: an argument out of range.

    Reference: Rajamanoharan et al. 2024, "Improving Dictionary Learning with Gated Sparse Autoencoders", section 3.2.

    >>> ae = keras_sae.SparseAutoencoder(1000, keras_sae.sparsity.Gated(), input_scale=True)
    >>> history = keras_sae.fit(ae, x, optimizer="adam", iterations=30)
    """

    hidden_bias = False
    no_objective = "its second error gives the decoder no gradient, so that the gradients are of no one function"
    no_lbfgs = "its objective jumps if a gate opens"

    def __init__(self, l1: float | None = None, window: float = 100_000, **kwargs: Any):
        super().__init__(window, **kwargs)
        check("beta", l1, "`l1`")
        self.l1 = l1

    def build(self, input_shape: tuple) -> None:
        super().build(input_shape)
        for name in ("gate_bias", "log_scale", "magnitude_bias"):
            setattr(self, name, self.add_weight(name=name, shape=input_shape[-1:], initializer="zeros"))

    def revive(self, units: Any) -> None:
        super().revive(units)
        for variable in (self.gate_bias, self.log_scale, self.magnitude_bias):
            variable.assign(ops.where(units, 0.0, ops.convert_to_tensor(variable)))

    def codes(self, pre: Any, training: bool) -> Any:
        gate = pre + self.gate_bias
        magnitude = ops.relu(pre * ops.exp(self.log_scale) + self.magnitude_bias)
        return ops.where(gate > 0, magnitude, ops.relu(gate))  # 0, with a gradient of 0: Keras warns if there is none

    def terms(self, autoencoder: Any, x: Any, pre: Any, codes: Any, training: bool) -> list:
        gate = ops.relu(pre + self.gate_bias)
        decoder = autoencoder.output_layer
        kernel, bias = (ops.stop_gradient(ops.convert_to_tensor(w)) for w in (decoder.kernel, decoder.bias))
        outputs = decoder.activation(ops.matmul(gate, kernel) + bias)
        l1 = x.shape[-1] ** 0.5 / 20 if self.l1 is None else self.l1
        return [l1 * mean(ops.sum(wide(gate), axis=-1)), mean_error(outputs, x)]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "l1": self.l1}
