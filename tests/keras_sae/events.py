"""Read what TensorBoard shows, with its own reader."""

import io

import numpy as np
import PIL.Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.util.tensor_util import make_ndarray


class Events:
    """All event files of a directory."""

    def __init__(self, directory):
        self.events = EventAccumulator(str(directory), size_guidance={"scalars": 0, "tensors": 0}).Reload()
        self.scalar_tags, tags = set(self.events.Tags()["scalars"]), self.events.Tags()["tensors"]
        kinds = {tag: self.events.SummaryMetadata(tag).plugin_data.plugin_name for tag in tags}
        self.histogram_tags = {tag for tag, kind in kinds.items() if kind == "histograms"}
        self.picture_tags = {tag for tag, kind in kinds.items() if kind == "images"}

    def scalars(self, tag):
        """{step: value}"""
        return {event.step: event.value for event in self.events.Scalars(tag)}

    def histograms(self, tag):
        """{step: (buckets, 3)}, of each bucket its ends and how many values are in it."""
        return {event.step: make_ndarray(event.tensor_proto) for event in self.events.Tensors(tag)}

    def pictures(self, tag):
        """{step: pixels}"""
        found = {}
        for event in self.events.Tensors(tag):
            width, height, png = make_ndarray(event.tensor_proto)
            found[event.step] = np.asarray(PIL.Image.open(io.BytesIO(png)))
            assert found[event.step].shape[:2] == (int(height), int(width))
        return found

    def graph(self):
        """{name: (kind, names of its sources, shape of its output)} of the layers."""
        found = {}
        for node in self.events.Graph().node:
            [shape] = node.attr["_output_shapes"].list.shape
            found[node.name] = node.op, list(node.input), [dim.size for dim in shape.dim]
        return found

    def hparams(self):
        """The settings of the run, and its name in the table."""
        content = self.events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        start = HParamsPluginData.FromString(content).session_start_info
        return {name: getattr(v, v.WhichOneof("kind")) for name, v in start.hparams.items()}, start.group_name


def projector(directory):
    """(codes, labels or None, thumbnails or None) as the configuration of the projector names them."""
    from google.protobuf import text_format
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

    config = text_format.Parse((directory / "projector_config.pbtxt").read_text(), ProjectorConfig())
    [embedding] = config.embeddings
    codes = np.loadtxt(directory / embedding.tensor_path, delimiter="\t", ndmin=2)
    labels = (directory / embedding.metadata_path).read_text().splitlines() if embedding.metadata_path else None
    if not embedding.sprite.image_path:
        return codes, labels, None
    sprite = np.asarray(PIL.Image.open(directory / embedding.sprite.image_path))
    width, height = embedding.sprite.single_image_dim
    columns = sprite.shape[1] // width
    places = [divmod(number, columns) for number in range(len(codes))]
    return codes, labels, np.array([sprite[r * height :, c * width :][:height, :width] for r, c in places])
