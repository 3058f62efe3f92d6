"""An autoencoder inside of another Keras model: what the model makes of its reconstruction, and of edited codes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from ..autoencoder import Autoencoder
from ..backend import widest_float
from ..data.batches import CHUNK_SIZE, Chunks, inputs_of, mean_over_rows
from ..data_loss import DataLoss
from .layer_outputs import as_rows, check_calls, check_rows, find_layer, layer_outputs, replaced_outputs


@keras.saving.register_keras_serializable("keras_sae")
class Splice(keras.Model):
    """A Keras model with an autoencoder's reconstruction in place of a layer's output.

        z   = encode(a)                          a: what the layer gives, (examples, ..., units), each position a row
        z'  = edit(factor * z + value)           factor and value of each unit, 1 and 0 but for those that are named
        a'  = decode(z')                         or with keep_error:  a' = a + decode(z') - decode(z)

    With `keep_error` and no edit it equals the model exactly, and an edit changes what it is about and nothing else.
    It shares its weights with the model and the autoencoder, which it leaves as they are; penalties of the autoencoder
    are none of its losses. The autoencoder runs in inference mode.

    Args:
        model: any built keras.Model, also one of a class of its own.
        layer: the name of a layer, or itself, however deep in the model; it has one output, and is called once.
        sae: a trained `SparseAutoencoder`, or a stack without preprocessing, of what the layer gives.
        ablate: units whose codes become 0, such as [7].
        clamp: {unit: code}, such as {7: 2.5}.
        scale: {unit: factor}, such as {7: 0.5}.
        edit: a function of the codes, a tensor (rows, units), that returns others; a Keras layer, or a function that is
            registered (`keras.saving.register_keras_serializable`), if the model is to be saved.
        keep_error: whether a - decode(z), what the autoencoder does not give back, stays.

    Raises:
        ValueError: the layer is not in the model, is not called once, or does not fit the autoencoder; or there is no
            such unit, or one is edited twice.

    Reference: Bricken et al. 2023, "Towards Monosemanticity" (ablation, pinning); Templeton et al. 2024, "Scaling
    Monosemanticity" (clamping with the error term kept).

    >>> without = Splice(classifier, "hidden", sae, ablate=[7], keep_error=True)
    >>> probabilities = keras_sae.predict_in_chunks(without, x_test)
    """

    def __init__(
        self,
        model: keras.Model,
        layer: Any,
        sae: Autoencoder,
        ablate: Sequence[int] = (),
        clamp: Mapping[int, float] | None = None,
        scale: Mapping[int, float] | None = None,
        edit: Callable | None = None,
        keep_error: bool = False,
        **kwargs: Any,
    ):
        super().__init__(autocast=False, **kwargs)  # inputs are the model's, which casts them itself
        model, sae, edit = (_from_saved(part) for part in (model, sae, edit))
        if not isinstance(sae, Autoencoder) or getattr(sae, "preprocessing", None) is not None:
            raise ValueError(
                "Expected an autoencoder of this library, without preprocessing, so that it gives back what it takes. "
                f"Received: {type(sae).__name__}."
            )
        self.model, self.sae, self.edit = model, sae, edit
        self.layer_name = layer
        # Its name alone is kept, as the layer itself would be saved with the model and once more.
        self.layer_name = self.find_layer().name
        self.find_layer()
        # Pairs, as Keras' files know no numbers as keys.
        self.ablate = [int(unit) for unit in ablate]
        self.clamp = [(int(unit), float(value)) for unit, value in dict(clamp or {}).items()]
        self.scale = [(int(unit), float(factor)) for unit, factor in dict(scale or {}).items()]
        self.keep_error = keep_error
        self._factor, self._value = self._linear_edit()
        self.built = True

    def _linear_edit(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (factor, value) of each unit, (units,). Raise ValueError if a unit is none, or is edited twice."""
        units = self.sae.encoder.output_shape[-1]
        factor, value = np.ones(units), np.zeros(units)
        edits = [(unit, 0.0, 0.0) for unit in self.ablate]
        edits += [(unit, 0.0, code) for unit, code in self.clamp]
        edits += [(unit, share, 0.0) for unit, share in self.scale]
        seen: set[int] = set()
        for unit, share, code in edits:
            if not 0 <= unit < units:
                raise ValueError(f"Expected units from 0 to {units - 1}. Received: {unit}.")
            if unit in seen:
                raise ValueError(f"Expected one edit of each unit. Received: two of unit {unit}. Leave one out.")
            seen.add(unit)
            factor[unit], value[unit] = share, code
        return factor, value

    @property
    def inputs(self) -> list | None:
        """The symbolic inputs of the model, if it has them."""
        return getattr(self.model, "inputs", None)

    @property
    def losses(self) -> list:
        """The losses of the model, without the penalties of the autoencoder."""
        return self.model.losses

    def find_layer(self) -> keras.layers.Layer:
        """Return the layer whose output is replaced: that of the model, not one of an autoencoder in it."""
        model = self.model
        while isinstance(model, Splice):
            model = model.model
        return find_layer(model, self.layer_name)

    def call(self, inputs: Any, training: bool = False) -> Any:
        layer, calls = self.find_layer(), []

        def replacing(outputs: Any) -> Any:
            calls.append(outputs)
            check_rows(layer, outputs)
            return self.replaced(outputs)

        with replaced_outputs(layer, replacing):
            outputs = self.model(inputs, training=training)
        check_calls(self.model, layer, calls)
        return outputs

    def replaced(self, a: Any) -> Any:
        """Return what takes the place of a, a tensor (examples, ..., units)."""
        width = self.sae.encoder.input_shape[-1]
        if a.shape[-1] != width:
            raise ValueError(
                f"Expected a layer of {width} units, as the autoencoder takes. Received: {self.layer_name}, which has "
                f"{a.shape[-1]}."
            )
        z = self.sae.encode(as_rows(a))
        edited = self.edited(z)
        if not self.keep_error:
            return _like(a, self.sae.decode(edited))
        return a + _like(a, self.sae.decode(edited) - self.sae.decode(z))

    def edited(self, z: Any) -> Any:
        """Return the codes that are decoded in place of z, a tensor (rows, units)."""
        if self.ablate or self.clamp or self.scale:
            z = z * ops.cast(self._factor, z.dtype) + ops.cast(self._value, z.dtype)
        return z if self.edit is None else self.edit(z)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            **{name: keras.saving.serialize_keras_object(getattr(self, name)) for name in ("model", "sae", "edit")},
            "layer": self.layer_name,
            **{name: getattr(self, name) for name in ("ablate", "clamp", "scale", "keep_error")},
        }


def _from_saved(part: Any) -> Any:
    """Return a part of a saved configuration as what was saved; others as they are."""
    return keras.saving.deserialize_keras_object(part) if isinstance(part, dict) else part


def _like(a: Any, rows: Any) -> Any:
    """Return rows (examples * positions, units) in the shape and type of a, (examples, ..., units)."""
    return ops.cast(ops.reshape(rows, ops.shape(a)), a.dtype)


class LossRecovered(NamedTuple):
    """What `loss_recovered` returns: the share, and the mean losses of an example that it is made of."""

    value: float
    clean: float
    spliced: float
    ablated: float


def loss_recovered(
    spliced: Splice,
    x: Any,
    y: Any = None,
    ablation: str = "zero",
    sample_weight: Any = None,
    batch_size: int = CHUNK_SIZE,
) -> LossRecovered:
    """Return how much of what a layer is worth to its model is left with an autoencoder in its place.

        value = (L_ablated - L_spliced) / (L_ablated - L_clean)

    L is the mean over all examples of the loss that the model is compiled with, of an example with several outputs the
    mean of theirs, without penalties; examples have their weights in it. L_ablated is that with 0, or the mean over all
    rows, in place of what the layer gives. 1: nothing is lost. 0: the reconstruction is worth no more than that. It is
    NaN if the layer is worth nothing.

    Args:
        spliced: a `Splice`, whose model is compiled. Its edits count.
        x: (examples, ...): an array, or a data set of (x, y) or (x, y, weights), as `keras_sae.objective` takes.
        y: targets, an array.
        ablation: "zero" or "mean", which takes another pass.
        sample_weight: weights of examples, (examples,).
        batch_size: examples that are computed together, of arrays. Sums over batches are in float64.

    Returns:
        A `LossRecovered` with `.value`, `.clean`, `.spliced` and `.ablated`.

    Raises:
        ValueError: there are no targets, the model is not compiled, or its loss is one that `keras_sae.objective` does
            not take.

    Reference: Bricken et al. 2023, "Towards Monosemanticity" (there zero ablation of a layer of a transformer).

    >>> loss_recovered(Splice(classifier, "hidden", sae), x_test, y_test).value
    """
    if ablation not in ("zero", "mean"):
        raise ValueError(f'Expected `ablation` as "zero" or "mean". Received: {ablation!r}')
    model, loss = spliced.model, DataLoss(spliced.model)
    layer = spliced.find_layer()
    chunks = Chunks(x, y, batch_size, **inputs_of(model), weights=sample_weight)
    instead = _mean_of(model, layer, chunks) if ablation == "mean" else 0.0

    def ablated(a: Any) -> Any:
        return ops.zeros_like(a) + ops.cast(instead, a.dtype)

    def sums(x: Any, y: Any = None, weights: Any = None) -> list:
        if y is None and not isinstance(model, Autoencoder):
            raise ValueError("Expected targets: (spliced, x, y), or a data set of (x, y). Received: x alone.")
        y = model.targets(x) if y is None else y
        outputs = [model(x, training=False), spliced(x, training=False)]
        with replaced_outputs(layer, ablated):
            outputs.append(model(x, training=False))
        losses = [ops.cast(loss(y, output), widest_float()) for output in outputs]
        weights = ops.ones_like(losses[0]) if weights is None else ops.cast(weights, losses[0].dtype)
        return [*(ops.sum(weights * each) for each in losses), ops.sum(weights)]

    *losses, weight = (float(mean) for mean in mean_over_rows(chunks.read(), sums))
    clean, replaced, without = (total / weight for total in losses)
    worth = without - clean
    return LossRecovered((without - replaced) / worth if worth else float("nan"), clean, replaced, without)


def _mean_of(model: keras.Model, layer: keras.layers.Layer, chunks: Chunks) -> np.ndarray:
    """Return the mean of what a layer gives over all rows, (units,) float64."""

    def sums(x: Any, *_: Any) -> list:
        rows = ops.cast(as_rows(layer_outputs(model, layer, x)), widest_float())
        return [ops.sum(rows, axis=0), ops.cast(ops.shape(rows)[0], rows.dtype)]

    total, rows = mean_over_rows(chunks.read(), sums)
    return total / rows
