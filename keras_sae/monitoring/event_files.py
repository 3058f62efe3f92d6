"""What TensorBoard reads: event files, written by its own package, and the files of its embedding projector.

`tensorboard`, which shows them, also writes them, from NumPy arrays, on every backend and without TensorFlow, which
tf.summary would need. PyTorch's own writer is made of the same parts.
"""

import math
import pathlib
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np

from .. import extras
from ..autoencoder import Autoencoder
from ..files import write_aside
from ..tiles import as_png, halved
from ..visualization import tile_image

FLUSH_SECONDS = 10  # after which what was written can be seen
THUMBNAIL = 64  # pixels of a side at most: the projector takes one picture of 8,192 with all of them

QUICK = {"compress_level": 1}  # of PNG: a tenth larger, in a third of the time

PURPOSE = "write logs with"


class EventFile:
    """An event file in a directory, which is made if there is none. All values of one call have the same time."""

    def __init__(self, directory: str | pathlib.Path):
        writer = extras.imported("tensorboard.summary.writer.event_file_writer", PURPOSE)
        self.directory = str(directory)
        self._file = writer.EventFileWriter(self.directory, flush_secs=FLUSH_SECONDS)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write numbers by their tags."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        # The short form, which readers take for the other one, with a tensor: it is written at every step.
        self._write([Summary(value=[Summary.Value(tag=t, simple_value=v) for t, v in values.items()])], step)

    def histograms(self, values: Mapping[str, np.ndarray], step: int) -> None:
        """Write distributions of values that are finite, of any shape, by their tags."""
        from tensorboard.plugins.histogram.summary_v2 import histogram_pb

        self._write((histogram_pb(tag, array[np.isfinite(array)]) for tag, array in values.items()), step)

    def pictures(self, images: Mapping[str, np.ndarray], step: int) -> None:
        """Write uint8 arrays, (height, width) or (height, width, 3), by their tags."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.image.metadata import create_summary_metadata
        from tensorboard.util.tensor_util import make_tensor_proto

        metadata = create_summary_metadata(display_name=None, description=None)

        def summary(tag: str, image: np.ndarray) -> Any:
            height, width = map(str, image.shape[:2])
            tensor = make_tensor_proto([width.encode(), height.encode(), as_png(image, **QUICK)])
            return Summary(value=[Summary.Value(tag=tag, tensor=tensor, metadata=metadata)])

        self._write((summary(tag, image) for tag, image in images.items()), step)

    def hparams(self, settings: Mapping[str, Any]) -> None:
        """Write what the settings of a run are; what is no number, text or truth value is written as text.

        The directory tells runs apart that have the same ones, which would be one line of the table with their mean.
        """
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb

        plain = {k: v if isinstance(v, (bool, int, float, str)) else str(v) for k, v in settings.items()}
        self._write([hparams_pb(plain, trial_id=self.directory)], 0)

    def graph(self, model: keras.Model) -> None:
        """Write the layers of a model and what leads to each, unless it is a subclass of keras.Model of another."""
        from tensorboard.compat.proto.event_pb2 import Event

        functional = _functional(model)
        if functional is not None:
            self._file.add_event(Event(wall_time=time.time(), graph_def=_Graph(functional).serialized()))

    def flush(self) -> None:
        """Wait until all is in the file, which another thread writes."""
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _write(self, summaries: Iterable[Any], step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        event = Event(wall_time=time.time(), step=step)
        for summary in summaries:
            event.summary.MergeFrom(summary)
        self._file.add_event(event)


def _functional(model: keras.Model) -> keras.Model | None:
    """Return a model of layers, nested in models: of an autoencoder its encoder, and the decoder of each layer."""
    if not isinstance(model, Autoencoder):
        return model if getattr(model, "outputs", None) else None
    inputs = tensor = keras.Input(model.encoder.input_shape[1:], name="inputs", dtype=model.compute_dtype)
    decoders = [autoencoder.decoder for autoencoder in reversed(getattr(model, "autoencoders", [model]))]
    for part in [model.encoder, *decoders]:
        tensor = part(tensor)
    return keras.Model(inputs, tensor)


class _Graph:
    """The layers of a functional model as TensorFlow's GraphDef; those of a model in it are in a scope of its name."""

    def __init__(self, model: keras.Model):
        from tensorboard.compat.proto.graph_pb2 import GraphDef

        self.definition = GraphDef()
        self.times = Counter[str]()  # how often a name was used
        self._add_layers(model, "", [self._add(tensor.name, "Input", [], tensor) for tensor in model.inputs])

    def serialized(self) -> bytes:
        return self.definition.SerializeToString()

    def _add_layers(self, model: keras.Model, scope: str, sources: list[str]) -> list[str]:
        """Add the layers of a model, and return the names of those that give its outputs.

        sources: the names of what gives its inputs.
        """
        names = dict(zip(map(id, model.inputs), sources, strict=True))

        def name_of(tensor: Any) -> str:
            if id(tensor) not in names:
                layer, index, _ = tensor._keras_history
                node = layer._inbound_nodes[index]
                before = [name_of(source) for source in node.input_tensors]
                if getattr(layer, "outputs", None):  # a model of layers
                    found = self._add_layers(layer, f"{self._unique(scope + layer.name)}/", before)
                else:
                    found = [self._add(scope + layer.name, type(layer).__name__, before, tensor)]
                    found *= len(node.output_tensors)
                names.update(zip(map(id, node.output_tensors), found, strict=True))
            return names[id(tensor)]

        return [name_of(tensor) for tensor in model.outputs]

    def _add(self, name: str, kind: str, sources: list[str], output: Any) -> str:
        """Add a node with the shape of its output, and return its name."""
        node = self.definition.node.add(name=self._unique(name), op=kind, input=sources)
        shape = node.attr["_output_shapes"].list.shape.add()
        for size in output.shape:
            shape.dim.add(size=-1 if size is None else size)
        return node.name

    def _unique(self, name: str) -> str:
        """Return a name that no other node has: a layer may be used more than once."""
        self.times[name] += 1
        return name if self.times[name] == 1 else f"{name}_{self.times[name]}"


def write_projector(
    directory: str | pathlib.Path,
    codes: np.ndarray,
    labels: Iterable[Any] | None = None,
    thumbnails: np.ndarray | None = None,
) -> None:
    """Write the files of TensorBoard's embedding projector into the directory of an event file.

    Args:
        directory: of the event file, where the projector looks for them.
        codes: points, (examples, units).
        labels: a text or number of each, or None.
        thumbnails: a picture of each, values 0 to 255, (examples, height, width) or (..., 3), or None.
    """
    from google.protobuf import text_format
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

    directory, config = pathlib.Path(directory), ProjectorConfig()
    embedding = config.embeddings.add(tensor_name="codes", tensor_path="codes.tsv")
    with write_aside(directory / "codes.tsv") as aside:
        np.savetxt(aside, codes, "%.4g", "\t")
    if labels is not None:
        embedding.metadata_path = "labels.tsv"
        with write_aside(directory / "labels.tsv") as aside:  # a text that has a tab or a line break would be several
            aside.write_text("".join(f"{' '.join(str(label).split())}\n" for label in labels), encoding="utf-8")
    if thumbnails is not None:
        while max(thumbnails.shape[1:3]) > THUMBNAIL and min(thumbnails.shape[1:3]) > 1:
            thumbnails = halved(thumbnails)
        embedding.sprite.image_path = "sprite.png"
        embedding.sprite.single_image_dim.extend(thumbnails.shape[2:0:-1])  # width, height
        with write_aside(directory / "sprite.png") as aside:
            sprite = tile_image(thumbnails, math.ceil(math.sqrt(len(thumbnails))), padding=0)
            aside.write_bytes(as_png(sprite, **QUICK))
    with write_aside(directory / "projector_config.pbtxt") as aside:  # last: it names the others
        aside.write_text(text_format.MessageToString(config))
