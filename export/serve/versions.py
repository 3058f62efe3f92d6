"""The versions of a SavedModel that a server answers from: loaded, warmed, batched, and replaced while it runs."""

import itertools
import logging
import pathlib
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import saved_model_pb2

from .. import layout
from ..schema import schema_of

KEPT = 2  # the newest versions, so that a client who asks for the one before by its number still gets it
SECONDS_BETWEEN_LOOKS = 1.0
LARGEST_BATCH = 64  # rows; a request with more is split
BATCH_MICROSECONDS = 1000  # how long a row waits for others

log = logging.getLogger("export.serve")
_serial = itertools.count()


class ModelInputError(Exception):
    """An error that the model itself raised on its inputs."""


class ServedSignature:
    """One signature of a SavedModel: arrays by name in, arrays by name out.

    If the first dimension of every input and output is free and the others of the inputs are fixed, rows of requests
    that come at the same time are computed together, by TensorFlow's own batching.
    """

    def __init__(self, function: Callable):
        self._alone = function
        # name -> TensorSpec; sorted, because a SavedModel keeps no order
        self.inputs = dict(sorted(function.structured_input_signature[1].items()))
        self.outputs = dict(sorted(function.structured_outputs.items()))
        self.batched = all(is_batch(spec) and spec.shape[1:].is_fully_defined() for spec in self.inputs.values())
        self.batched = self.batched and bool(self.inputs) and all(map(is_batch, self.outputs.values()))
        self._together = self._batching() if self.batched else None

    def _batching(self) -> Callable:
        names = list(self.inputs)

        @tf.nondifferentiable_batch_function(
            # 0: all queues share their threads, because those of one queue would outlive its version. Such queues take
            # every request (max_enqueued_batches has no effect on them): the application bounds the requests at once.
            num_batch_threads=0,
            max_batch_size=LARGEST_BATCH,
            batch_timeout_micros=BATCH_MICROSECONDS,
        )
        def compute(*columns):
            outputs = self._alone(**dict(zip(names, columns, strict=True)))
            rows = tf.shape(columns[0])[0]
            return [*(outputs[name] for name in self.outputs), tf.fill([rows], rows)]

        @tf.function(autograph=False, input_signature=list(self.inputs.values()))
        def call(*columns):
            # TensorFlow finds the queue by the name of its operation: with one name, signatures and versions would mix.
            with tf.name_scope(f"queue_{next(_serial)}"):
                return compute(*columns)

        return call.get_concrete_function()

    def __call__(self, arrays: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], int | None]:
        """Return the outputs by name, and how many rows were computed together (None without batching).

        Raises ModelInputError if the model cannot take the arrays.
        """
        tensors = {name: tf.constant(array, self.inputs[name].dtype) for name, array in arrays.items()}
        try:
            if not self.batched:
                return self._compute_alone(tensors), None
            try:
                *columns, rows = self._together(*(tensors[name] for name in self.inputs))
            except tf.errors.InvalidArgumentError:  # another request in the batch may have caused it
                return self._compute_alone(tensors), None
            return {n: c.numpy() for n, c in zip(self.outputs, columns, strict=True)}, int(rows[0])
        except tf.errors.InvalidArgumentError as error:
            raise ModelInputError(reason(error)) from error

    def _compute_alone(self, tensors: dict[str, tf.Tensor]) -> dict[str, np.ndarray]:
        return {name: column.numpy() for name, column in self._alone(**tensors).items()}

    def warm(self) -> None:
        """Compute one row of zeros, so that the first request does not pay for what happens once."""
        if self.batched:
            shapes = {name: (1, *spec.shape[1:]) for name, spec in self.inputs.items()}
            self({name: tf.zeros(shape, self.inputs[name].dtype).numpy() for name, shape in shapes.items()})


def reason(error: tf.errors.OpError) -> str:
    """Return the line of an error of TensorFlow that says why, without where it happened and in which operation."""
    lines = [line.strip() for line in error.message.splitlines()]
    around = ("Graph execution error", "Detected at", "<stack", "[[", "File ")
    return next((line[:300] for line in lines if line and not line.startswith(around)), "an invalid argument")


def is_batch(spec: tf.TensorSpec) -> bool:
    """Return whether the first dimension of a TensorSpec is free."""
    return bool(spec.shape.rank) and spec.shape[0] is None


class Version:
    """One version of the model: `signatures` by name, and `signature_def`, how TensorFlow Serving describes them.

    `schema`: what the numbers of a row are, as far as the export says: names of columns, their ranges, classes.
    """

    def __init__(self, directory: pathlib.Path):
        self._model = tf.saved_model.load(str(directory))  # kept, because the signatures use its variables
        self.signatures = {name: ServedSignature(function) for name, function in self._model.signatures.items()}
        self.signature_def = read_signature_def(directory / "saved_model.pb")
        self.schema = schema_of(directory)
        for name, signature in self.signatures.items():
            try:
                signature.warm()
            except ModelInputError as error:  # zeros may be no valid input of it
                log.info("Signature %s cannot be warmed with zeros: %s", name, error)


def read_signature_def(path: pathlib.Path) -> dict[str, Any]:
    """Return the signatures in a saved_model.pb, as TensorFlow Serving writes them in JSON."""
    saved_model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    graph = next(g for g in saved_model.meta_graphs if "serve" in g.meta_info_def.tags)
    return {
        name: json_format.MessageToDict(
            definition, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        for name, definition in graph.signature_def.items()
    }


class ServedModels:
    """The newest versions in a directory that holds 1/, 2/, ...: TensorFlow Serving's layout.

    `refresh` looks at the directory once; between `start` and `stop` a thread does so every second. A version is read
    once, and must be renamed into place (one that is copied there is tried again while its files change). If one cannot
    be loaded, this is reported, and the others stay. A version whose directory is deleted is no longer served, unless
    it is the last one.
    """

    def __init__(self, directory: str | pathlib.Path):
        self._directory = pathlib.Path(directory)
        self._versions: dict[str, Version] = {}  # newest first; replaced by another dict, never changed
        self._broken: dict[int, str] = {}  # number -> state of the files with which it could not be loaded
        self._loading: int | None = None
        self._refreshing = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def versions(self) -> dict[str, Version]:
        """The versions by their numbers as text, newest first."""
        return self._versions

    def states(self) -> list[tuple[str, str, str]]:
        """Return number, state and error of each version, newest first; states as TensorFlow Serving names them."""
        states = {int(number): ("AVAILABLE", "") for number in self._versions}
        states |= dict.fromkeys(list(self._broken), ("END", "It cannot be loaded; the server's log says why."))
        if self._loading is not None:
            states[self._loading] = ("LOADING", "")
        return [(str(number), *states[number]) for number in sorted(states, reverse=True)]

    def refresh(self) -> None:
        """Load what is new, drop what is old or gone."""
        with self._refreshing:
            numbers = layout.versions(self._directory)
            self._broken = {number: files for number, files in self._broken.items() if number in numbers}
            kept = {}
            for number in numbers:
                if len(kept) < KEPT and (version := self._versions.get(str(number)) or self._load(number)):
                    kept[str(number)] = version
            dropped = self._versions.keys() - kept.keys()
            if kept:
                self._versions = kept
                for number in dropped:
                    log.info("Version %s is no longer served.", number)

    def _load(self, number: int) -> Version | None:
        """Return the Version, warmed, or None if it is broken."""
        directory = self._directory / str(number)
        files = layout.file_state(directory)
        if self._broken.get(number) == files:
            return None
        self._loading = number
        try:
            layout.check_files(directory)
            version = Version(directory)
        except Exception as error:  # whatever TensorFlow raises for files that it cannot read
            self._broken[number] = files
            log.error("Version %s cannot be loaded, the others stay: %s", number, " ".join(str(error).split()))
            return None
        finally:
            self._loading = None
        self._broken.pop(number, None)
        log.info("Version %s is loaded: %s", number, ", ".join(sorted(version.signatures)))
        return version

    def start(self) -> None:
        """Look for new versions from now on, in a thread."""
        self._stopped.clear()
        self._thread = threading.Thread(target=self._watch, name="versions", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        self.refresh()
        while not self._stopped.wait(SECONDS_BETWEEN_LOOKS):
            self.refresh()
