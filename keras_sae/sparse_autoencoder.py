"""The sparse autoencoder of one hidden layer."""

from typing import Any

import keras
import numpy as np
from keras import ops

from .autoencoder import Autoencoder, as_single
from .backend import single
from .constraints import check
from .conventions import DictionaryDecoder, InputCentring, first_rows, geometric_median, norm_scale
from .data.batches import Chunks, inputs_of
from .data.containers import is_repeatable
from .layers import DenseTranspose, MaskingNoise, SparsityRegularization, penalty_of
from .regularizers import WeightDecay
from .sparsity import CLASSIC, AuxK, KLSparsity, SparsityMethod
from .sparsity.kl import in_proportion


@keras.saving.register_keras_serializable("keras_sae")
class SparseAutoencoder(Autoencoder):
    """One hidden layer trained to return its input with sparse activations.

        a    = activation(x W1 + b1)                      x (examples, features), W1 (features, units)
        xhat = output_activation(a W2 + b2)               W2 (units, features); tied: W2 = W1^T
        J    = loss(x, xhat) + weight_decay/2 (||W1||^2 + ||W2||^2) + sparsity penalty on a

    Its layers: `hidden` (Dense) and `sparsity` (SparsityRegularization, or a method of `keras_sae.sparsity`) in the
    encoder, `output_layer` (Dense, or DenseTranspose when tied), and `corrupt` (MaskingNoise).

    Weights, as in `get_weights()`: [W1, b1, W2, b2], or [W, b1, b2] when tied; with KLSparsity(window=...) the moving
    average and its sum of weights come after b1. Kernels start uniform in +-sqrt(6 / (inputs + outputs)) (Glorot),
    biases at 0.

    With a method of `keras_sae.sparsity`, such as TopK(32), it is the sparse autoencoder of dictionary learning, unless
    the arguments say otherwise:

        a    = method((scale x - b2) W1 + b1)             pre_bias: b2 is subtracted; input_scale: scale is not 1
        xhat = (a W2 + b2) / scale                        unit_norm: each row of W2 has length 1

    Args:
        units: number of hidden units.
        sparsity: "kl" for KLSparsity(rho=0.1, beta=None), another KLSparsity, any Keras regularizer (L1: the sum over
            units, averaged over examples), a method of `keras_sae.sparsity`, or None.
        weight_decay: lambda. The penalty is lambda/2 times the sum of squares of the kernels, never of the biases;
            a tied kernel counts once. None is 3e-3 for 784 features, in proportion to their number, as beta=None is:
            the notes' settings for digits, which leave all units of a small table alike; for methods it is 0.
        activation: of the hidden units, a Keras activation. KLSparsity needs a bounded one. None is sigmoid, or for
            methods what their `conventions` say.
        output_activation: of the output; "sigmoid" suits data in [0, 1], "linear" unbounded data. None is sigmoid, or
            for methods linear.
        tied: decode with the transposed encoder kernel.
        corruption: denoising: fraction of inputs set to 0 while training, or a Keras layer of another noise, such as
            keras.layers.GaussianNoise(0.3). The target stays clean.
        pre_bias: whether b2 is subtracted from the inputs. It then starts at the geometric median of the data. This
            and the next two are False by default, for methods what their `conventions` say.
        unit_norm, transposed_start: whether the rows of W2 are kept at length 1; whether W2 starts as W1 transposed.
        input_scale: whether inputs are multiplied with sqrt(features) / mean ||x||, so that settings of methods mean
            the same for all data. Inputs and reconstructions stay in the units of the data, and so does the loss.
        revive: an AuxK, whose loss brings dead units of a method back, or None.
        dtype: as of keras.Model: "float32", "float64", "mixed_bfloat16", ... In Keras' `fit` the loss itself has the
            dtype of keras.config.floatx().

    Raises:
        ValueError: an argument out of range; the message says what was expected.

    Reference: CS294A lecture notes, sections 2 and 3; UFLDL tutorial, "Autoencoders and Sparsity". pre_bias, unit_norm:
    Bricken et al. 2023, "Towards Monosemanticity", appendix; Gao et al. 2024, "Scaling and Evaluating Sparse
    Autoencoders", appendix A.

    >>> ae = SparseAutoencoder(units=196, sparsity=KLSparsity(rho=0.1, beta=3.0), weight_decay=3e-3)
    >>> history = keras_sae.fit(ae, x, iterations=400)
    >>> features = ae.encode(x)
    """

    def __init__(
        self,
        units: int,
        sparsity: Any = "kl",
        weight_decay: float | None = None,
        activation: Any = None,
        output_activation: Any = None,
        tied: bool = False,
        corruption: Any = 0.0,
        pre_bias: bool | None = None,
        unit_norm: bool | None = None,
        transposed_start: bool | None = None,
        input_scale: bool = False,
        revive: AuxK | None = None,
        **kwargs: Any,
    ):
        started = kwargs.pop("started", False)
        super().__init__(**kwargs)
        if isinstance(sparsity, dict):  # from a saved configuration
            sparsity = keras.saving.deserialize_keras_object(sparsity)
        if not isinstance(units, (int, np.integer)) or units < 1:
            raise ValueError(
                f"`units`, the number of hidden units, must be a positive integer. Received: units={units}"
            )
        self.units, self._both = int(units), None
        usual = sparsity.conventions if isinstance(sparsity, SparsityMethod) else CLASSIC
        self.activation = keras.activations.get(_first(activation, usual.activation))
        self.output_activation = keras.activations.get(_first(output_activation, usual.output_activation))
        self.sparsity = self._own(sparsity)
        weight_decay = _first(weight_decay, usual.weight_decay)
        check("weight_decay", weight_decay)
        self.weight_decay = None if weight_decay is None else float(weight_decay)
        self.tied, self.input_scale = tied, input_scale
        self.pre_bias = _first(pre_bias, usual.pre_bias)
        self.unit_norm = _first(unit_norm, usual.unit_norm and not tied)
        self.transposed_start = _first(transposed_start, usual.transposed_start and not tied)
        self._check_conventions()
        self.revive = keras.saving.deserialize_keras_object(revive) if isinstance(revive, dict) else revive
        if revive is not None and not isinstance(self.sparsity, SparsityMethod):
            raise ValueError(f"`revive` is for methods of keras_sae.sparsity. Received: sparsity={self.sparsity!r}")
        self.started = started  # whether what begins with the data has done so
        if isinstance(corruption, dict):  # from a saved configuration
            corruption = keras.saving.deserialize_keras_object(corruption)
        self.corruption = corruption
        if isinstance(corruption, keras.layers.Layer):
            self.corrupt = corruption
        elif corruption != 0:
            self.corrupt = MaskingNoise(corruption, name="corrupt", dtype=self.dtype_policy)

    def _own(self, sparsity: Any) -> Any:
        """Return what a `sparsity` argument means for this model: of a method, which has weights, a copy."""
        if isinstance(sparsity, SparsityMethod):
            sparsity.check_activation(self.activation)
            return sparsity.fresh(self.units, self.dtype_policy)
        return penalty_of(sparsity, self.activation)

    def _check_conventions(self) -> None:
        linear = self.output_activation is keras.activations.linear
        for name in ("pre_bias", "input_scale"):
            if getattr(self, name) and not linear:
                raise ValueError(
                    f"{name}=True is for linear outputs, which are in the units of the inputs. Received: "
                    f"output_activation={self.output_activation.__name__!r}. Use output_activation='linear'."
                )
        for name in ("unit_norm", "transposed_start"):
            if getattr(self, name) and self.tied:
                raise ValueError(
                    f"{name}=True is for a decoder with a kernel of its own. Received: tied=True. Leave one out."
                )

    def build(self, input_shape: tuple) -> None:
        features = input_shape[-1]
        if features is None or len(input_shape) != 2:
            raise ValueError(f"Expected data of shape (examples, features). Received shape: {tuple(input_shape)}")
        if self.weight_decay is None:
            self.weight_decay = in_proportion(3e-3, features)
        if isinstance(self.sparsity, KLSparsity):
            self.sparsity = self.sparsity.for_features(features)
        inputs = keras.Input((features,), name="inputs", dtype=self.compute_dtype)
        rows, shared = inputs, {"dtype": self.dtype_policy}
        decay = WeightDecay(self.weight_decay) if self.weight_decay or not self.is_dictionary else None
        if self.pre_bias or self.input_scale:
            self.centring = InputCentring(self.pre_bias, self.input_scale, name="centring", **shared)
            rows = self.centring(inputs)
        has_bias = not isinstance(self.sparsity, SparsityMethod) or self.sparsity.hidden_bias
        hidden = keras.layers.Dense(
            self.units, self.activation, has_bias, name="hidden", kernel_regularizer=decay, **shared
        )
        codes = before = hidden(rows)
        if isinstance(self.sparsity, SparsityMethod):
            codes = self.sparsity(before)
        elif self.sparsity is not None:
            codes = SparsityRegularization(self.sparsity, name="sparsity", **shared)(before)
        self._encoder = keras.Model(inputs, codes, name=f"{self.name}_encoder")
        if isinstance(self.sparsity, SparsityMethod):
            self._both = keras.Model(inputs, [before, codes])
        self.output_layer = self._decoder_of(hidden, features, decay, shared)
        self.output_layer.build((None, self.units))

    @property
    def is_dictionary(self) -> bool:
        """Whether the decoder is that of dictionary learning, a `DictionaryDecoder`."""
        conventions = self.pre_bias or self.unit_norm or self.transposed_start or self.input_scale
        return conventions or isinstance(self.sparsity, SparsityMethod)

    def _decoder_of(self, hidden: Any, features: int, decay: Any, shared: dict[str, Any]) -> keras.layers.Layer:
        shared = {"activation": self.output_activation, "name": "output", **shared}
        if self.is_dictionary:
            return DictionaryDecoder(
                features, hidden, getattr(self, "centring", None), tied=self.tied, unit_norm=self.unit_norm,
                transposed_start=self.transposed_start, kernel_regularizer=decay, **shared,
            )  # fmt: skip
        if self.tied:
            return DenseTranspose(hidden, **shared)
        return keras.layers.Dense(features, kernel_regularizer=decay, **shared)

    @property
    def needs_start(self) -> bool:
        """Whether something begins with the data."""
        return self.pre_bias or self.input_scale or getattr(self.sparsity, "needs_start", False)

    @property
    def needs_finish(self) -> bool:
        """Whether something follows from the trained weights and the data."""
        return isinstance(self.sparsity, SparsityMethod) and type(self.sparsity).finish is not SparsityMethod.finish

    def start(self, x: Any) -> None:
        """Set what begins with the data: the scale of the inputs, b2 at their geometric median, JumpReLU's thresholds.

        Training does so itself, once. It costs a pass over x for the scale; the others are of 32,768 rows at most.

        x: of every kind that `transform` takes.
        """
        if self.started or not self.needs_start:
            return
        if not is_repeatable(x):
            raise ValueError(
                "pre_bias, input_scale and JumpReLU begin with the data, which are then read again. Expected data that "
                f"can be, and have an end. Received: {type(x).__name__}. Call start(rows) with some rows first."
            )
        if not self.built:
            self.build((None, Chunks(x).num_features()))
        chunks = Chunks(x, **inputs_of(self.encoder))
        if self.input_scale:
            self.centring.scale.assign(norm_scale(chunks.read()))
        if self.pre_bias:
            median = geometric_median(first_rows(chunks.read()))
            self.output_layer.bias.assign(float(self.output_layer.scale) * median)
        if getattr(self.sparsity, "needs_start", False):
            self.sparsity.start_on(self, first_rows(chunks.read()))
        self.started = True

    def finish(self, x: Any) -> None:
        """Set what follows from the trained weights, such as the threshold that stands for TopK over a batch.

        `keras_sae.fit` and `fit` do so at their end. It takes passes of the encoder over x.
        """
        if self.needs_finish:
            self.sparsity.finish(self, x)

    @property
    def kernel(self) -> keras.Variable:
        """The encoder's kernel W1, (features, units)."""
        return self.encoder.get_layer("hidden").kernel

    def encode_and_penalize(self, inputs: Any, clean: Any, training: bool = False) -> Any:
        """Return the codes of inputs, and add the terms of a method to the losses; clean: what is to be returned."""
        if self._both is None:
            return self.encoder(inputs, training=training)
        before, codes = self._both(inputs, training=training)
        scale = self.output_layer.scale
        terms = self.sparsity.terms(self, clean * scale, before, codes, training)
        if training and self.revive is not None:
            terms = [*terms, self.revive.term(self, clean * scale, before, codes)]
        for term in terms:
            self.add_loss(term / scale**2)  # terms are in the units of scaled inputs, the loss in those of the data
        return codes

    def pre_activations(self, x: Any) -> Any:
        """Return what a method of sparsity makes codes of, a tensor: (examples, features) -> (examples, units)."""
        if self._both is None:
            raise ValueError(f"Expected a method of keras_sae.sparsity, and weights. Received: {self.sparsity!r}.")
        return self._both(x, training=False)[0]

    def decode(self, h: Any) -> Any:
        """Return the reconstruction from features, a tensor: (examples, units) -> (examples, features)."""
        return self.output_layer(h)

    def folded(self) -> list[np.ndarray]:
        """Return [W1, b1, W2, b2] of the same autoencoder of raw rows, without pre-bias, scale and unit norm.

        W1' = scale W1     b1' = b1 - b2 W1     W2' = W2 / scale     b2' = b2 / scale
        """
        hidden, output = self.encoder.get_layer("hidden"), self.output_layer
        weights = [hidden.kernel, hidden.bias if hidden.use_bias else np.zeros(self.units)]
        weights += [ops.transpose(hidden.kernel) if self.tied else output.kernel, output.bias]
        dtype = single(keras.backend.standardize_dtype(hidden.kernel.dtype))
        w1, b1, w2, b2 = (as_single(ops.convert_to_tensor(weight)) for weight in weights)
        if not (self.pre_bias or self.input_scale):
            return [w1, b1.astype(dtype), w2, b2]
        w1, b1, w2, b2 = (weight.astype("float64") for weight in (w1, b1, w2, b2))
        scale = float(output.scale)
        b1 = b1 - b2 @ w1 if self.pre_bias else b1
        return [weight.astype(dtype) for weight in (scale * w1, b1, w2 / scale, b2 / scale)]

    def get_config(self) -> dict[str, Any]:
        names = ("units", "weight_decay", "tied", "pre_bias", "unit_norm", "transposed_start", "input_scale", "started")
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in names},
            "sparsity": keras.saving.serialize_keras_object(self.sparsity) if self.sparsity else None,
            "activation": keras.activations.serialize(self.activation),
            "output_activation": keras.activations.serialize(self.output_activation),
            "revive": keras.saving.serialize_keras_object(self.revive) if self.revive else None,
            "corruption": keras.saving.serialize_keras_object(self.corruption),
        }


def _first(given: Any, usual: Any) -> Any:
    return usual if given is None else given
