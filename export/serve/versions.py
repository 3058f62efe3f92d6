"""The versions of a SavedModel that a server answers from: loaded, warmed, batched, and replaced while it runs."""

import itertools
import logging
import os
import pathlib
import threading

import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import saved_model_pb2

KEPT = 2  # the newest versions, so that a client who asks for the one before by its number still gets it
SECONDS_BETWEEN_LOOKS = 1.0
LARGEST_BATCH = 64  # rows; a request with more is split
BATCH_MICROSECONDS = 1000  # how long a row waits for others

log = logging.getLogger("export.serve")
_serial = itertools.count()


class RefusedByModel(Exception):
    """The model itself raised an error on these inputs."""


class Signature:
    """One signature of a SavedModel: arrays by name in, arrays by name out.

    Where the first dimension of every input and output is free and the others of the inputs are fixed, rows of requests
    that come at the same time are computed together, by TensorFlow's own batching.
    """

    def __init__(self, function):
        self._alone = function
        # name -> TensorSpec; sorted, because a SavedModel keeps no order
        self.inputs = dict(sorted(function.structured_input_signature[1].items()))
        self.outputs = dict(sorted(function.structured_outputs.items()))
        self.batched = all(is_batch(spec) and spec.shape[1:].is_fully_defined() for spec in self.inputs.values())
        self.batched = self.batched and bool(self.inputs) and all(map(is_batch, self.outputs.values()))
        self._together = self._batching() if self.batched else None

    def _batching(self):
        names = list(self.inputs)

        @tf.nondifferentiable_batch_function(
            # Those that all queues share: threads of a queue's own would outlive its version. Such queues take all that
            # comes (max_enqueued_batches does not hold for them): the application bounds the requests at once.
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
            # The queue goes by the name of its operation: without one of its own, signatures and versions would mix.
            with tf.name_scope(f"queue_{next(_serial)}"):
                return compute(*columns)

        return call.get_concrete_function()

    def __call__(self, arrays):
        """Outputs by name as NumPy arrays, and how many rows were computed together (None without batching).

        Raises RefusedByModel where the model cannot take the arrays.
        """
        tensors = {name: tf.constant(array, self.inputs[name].dtype) for name, array in arrays.items()}
        try:
            if not self.batched:
                return self._compute_alone(tensors), None
            try:
                *columns, rows = self._together(*(tensors[name] for name in self.inputs))
            except tf.errors.InvalidArgumentError:  # perhaps of another request in the batch
                return self._compute_alone(tensors), None
            return {n: c.numpy() for n, c in zip(self.outputs, columns, strict=True)}, int(rows[0])
        except tf.errors.InvalidArgumentError as error:
            raise RefusedByModel(reason(error)) from error

    def _compute_alone(self, tensors):
        return {name: column.numpy() for name, column in self._alone(**tensors).items()}

    def warm(self):
        """Compute one row of zeros, so that the first request does not pay for what happens once."""
        if self.batched:
            shapes = {name: (1, *spec.shape[1:]) for name, spec in self.inputs.items()}
            self({name: tf.zeros(shape, self.inputs[name].dtype).numpy() for name, shape in shapes.items()})


def reason(error):
    """What an error of TensorFlow says in its middle, between where it happened and in which operation."""
    lines = [line.strip() for line in error.message.splitlines()]
    around = ("Graph execution error", "Detected at", "<stack", "[[", "File ")
    return next((line[:300] for line in lines if line and not line.startswith(around)), "an invalid argument")


def is_batch(spec):
    """Whether the first dimension of a TensorSpec is free."""
    return bool(spec.shape.rank) and spec.shape[0] is None


class Version:
    """One version of the model: `signatures` by name, and `signature_def`, what TensorFlow Serving tells of them."""

    def __init__(self, directory):
        self._model = tf.saved_model.load(str(directory))  # kept, because the signatures use its variables
        self.signatures = {name: Signature(function) for name, function in self._model.signatures.items()}
        self.signature_def = read_signature_def(directory / "saved_model.pb")
        for name, signature in self.signatures.items():
            try:
                signature.warm()
            except RefusedByModel as error:  # zeros may be no valid input of it
                log.info("Signature %s cannot be warmed with zeros: %s", name, error)


def read_signature_def(path):
    """The signatures in a saved_model.pb, as TensorFlow Serving writes them in JSON."""
    saved_model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    graph = next(g for g in saved_model.meta_graphs if "serve" in g.meta_info_def.tags)
    return {
        name: json_format.MessageToDict(
            definition, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        for name, definition in graph.signature_def.items()
    }


class ServedModels:
    """The newest versions in a folder that holds 1/, 2/, ...: TensorFlow Serving's layout.

    `refresh` looks at the folder once; between `start` and `stop` a thread does so every second. A version is read
    once, and must be renamed into place (one that is copied there is tried again while its files change). One that
    cannot be loaded is reported, and the others go on. A folder that goes away takes its version with it, but never
    the last one.
    """

    def __init__(self, directory):
        self._directory = pathlib.Path(directory)
        self._versions = {}  # str(number) -> Version, newest first; replaced as a whole, never changed
        self._broken = {}  # number -> the files with which it could not be loaded
        self._loading = None
        self._refreshing = threading.Lock()
        self._stopped = threading.Event()
        self._thread = None

    @property
    def versions(self):
        """str(number) -> Version, newest first."""
        return self._versions

    def states(self):
        """(number, state, error) of each known version, newest first; states as TensorFlow Serving names them."""
        states = {int(number): ("AVAILABLE", "") for number in self._versions}
        states |= dict.fromkeys(list(self._broken), ("END", "It cannot be loaded; the server's log says why."))
        if self._loading is not None:
            states[self._loading] = ("LOADING", "")
        return [(str(number), *states[number]) for number in sorted(states, reverse=True)]

    def refresh(self):
        """Load what is new, drop what is old or gone."""
        with self._refreshing:
            numbers = self._numbers()
            self._broken = {number: files for number, files in self._broken.items() if number in numbers}
            kept = {}
            for number in sorted(numbers, reverse=True):
                if len(kept) < KEPT and (version := self._versions.get(str(number)) or self._load(number)):
                    kept[str(number)] = version
            dropped = self._versions.keys() - kept.keys()
            if kept:
                self._versions = kept
                for number in dropped:
                    log.info("Version %s is no longer served.", number)

    def _numbers(self):
        try:
            names = [path.name for path in self._directory.iterdir() if path.is_dir()]
        except OSError:
            return []
        return [int(name) for name in names if name.isascii() and name.isdigit() and name == str(int(name))]

    def _load(self, number):
        """The Version, warmed, or None if it is broken."""
        directory = self._directory / str(number)
        files = snapshot(directory)
        if self._broken.get(number) == files:
            return None
        self._loading = number
        try:
            version = Version(directory)
        except Exception as error:  # whatever TensorFlow raises for files that it cannot read
            self._broken[number] = files
            log.error("Version %s cannot be loaded, the others go on: %s", number, " ".join(str(error).split()))
            return None
        finally:
            self._loading = None
        self._broken.pop(number, None)
        log.info("Version %s is loaded: %s", number, ", ".join(sorted(version.signatures)))
        return version

    def start(self):
        """Look for new versions from now on, in a thread."""
        self._stopped.clear()
        self._thread = threading.Thread(target=self._watch, name="versions", daemon=True)
        self._thread.start()

    def stop(self):
        self._stopped.set()
        self._thread.join()

    def _watch(self):
        self.refresh()
        while not self._stopped.wait(SECONDS_BETWEEN_LOOKS):
            self.refresh()


def snapshot(directory):
    """Names, sizes and times of all files below a folder: what changes while something is copied there."""
    found = []
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                status = os.stat(os.path.join(folder, name))
            except OSError:  # it went away meanwhile
                continue
            found.append((folder, name, status.st_size, status.st_mtime_ns))
    return sorted(found)
