"""Workers as actors of Ray."""

import os
import re
import socket
from typing import Any

import keras

import keras_sae

from ..errors import InputError
from ..extras import imported
from .actors import ActorDied
from .worker import Worker

START_SECONDS = 300  # that a cluster may take to make room for an actor, which on some starts a machine
CONNECT_SECONDS = 10
_HOST_AND_PORT = re.compile(r"(ray://)?\[?(?P<host>.+?)\]?:(?P<port>\d+)")
_QUIET = {"log_to_driver": False, "logging_level": "ERROR"}


class RayEngine:
    """Actors of a Ray cluster.  address, actors, threads: as of `Cluster`.  worker: the class of what they do."""

    def __init__(self, address: str | None, actors: int | None, threads: int, worker: type = Worker):
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
        if address is None:  # its ports are open to other machines, which do not have the token
            os.environ.setdefault("RAY_AUTH_MODE", "token")
        self.ray: Any = imported("ray", "train on a cluster")
        self.threads, self.joined = threads, self.ray.is_initialized()
        if not self.joined:
            self._connect(address, max(os.cpu_count() or 1, (actors or 1) * threads))
        environment = {"KERAS_BACKEND": keras.backend.backend(), "TF_CPP_MIN_LOG_LEVEL": "2"}
        self._worker = self.ray.remote(worker).options(num_cpus=threads, runtime_env={"env_vars": environment})

    def _connect(self, address: str | None, cores: int) -> None:
        if address is None:
            self.ray.init(num_cpus=cores, include_dashboard=False, **_QUIET)
            return
        try:
            if port := _HOST_AND_PORT.fullmatch(address):  # Ray itself would try for minutes
                socket.create_connection((port["host"], int(port["port"])), CONNECT_SECONDS).close()
            self.ray.init(address, **_QUIET)
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(
                f"Expected a Ray cluster at {address}. Received: none that answers, or one with another version of Ray "
                f"or Python, or another token ({_first_line(error)}). Start one there, ray start --head, set "
                "RAY_AUTH_MODE=token if it has one, or name no address: one is started on this machine."
            ) from error

    def room(self) -> int:
        """Return for how many actors there are cores now."""
        return max(1, int(self.ray.cluster_resources().get("CPU", 0)) // self.threads)

    def start(self, number: int) -> list:
        """Return so many new actors, which answer."""
        workers = [self._worker.remote() for _ in range(number)]
        try:
            self.ray.get([worker.__ray_ready__.remote() for worker in workers], timeout=START_SECONDS)
        except self.ray.exceptions.GetTimeoutError as error:
            cores = int(self.ray.cluster_resources().get("CPU", 0))
            raise InputError(
                f"Expected room for {number} more actors of {self.threads} cores. Received: a cluster of {cores} cores "
                f"that had none in {START_SECONDS} seconds. Ask for fewer actors or threads, or add machines."
            ) from error
        except self.ray.exceptions.RayError as error:
            raise start_error(error) from error
        return workers

    def call(self, worker: Any, method: str, *arguments: Any) -> Any:
        """Begin a call of a method of an actor, and return what stands for its result."""
        return getattr(worker, method).remote(*arguments)

    def result(self, reference: Any) -> Any:
        """Wait for a result and return it. Raise ActorDied, or what the method raised."""
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self.ray.exceptions.RayError as error:  # of actors, machines and objects that are lost
            raise ActorDied(_first_line(error)) from error

    def share(self, value: Any) -> Any:
        """Return what stands for a value as an argument, and is sent to each machine once."""
        return self.ray.put(value)

    def stop(self, worker: Any) -> None:
        """End an actor, dead or alive."""
        self.ray.kill(worker)

    def close(self) -> None:
        """Leave the cluster, unless somebody else joined it; one that was started here ends."""
        if not self.joined:
            self.ray.shutdown()


def start_error(error: Exception) -> Exception:
    """Return an InputError if a machine cannot import what an actor is, else that the actor died."""
    missing = re.search(r"(ModuleNotFoundError|ImportError|AttributeError): .*", str(error))
    if missing is None:
        return ActorDied(_first_line(error))
    return InputError(
        f"Expected keras_sae {keras_sae.__version__} on each machine of the cluster. Received: one without it, or with "
        f"another ({missing[0]}). There: pip install 'keras-sae[cluster]=={keras_sae.__version__}'"
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
