"""Answers to predictions, with bounds: how many at once, how large and how slow a body may be. Computes in threads."""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator

import prometheus_client
from starlette.requests import Request

from . import bodies, rest
from .rest import RequestError
from .versions import LARGEST_BATCH, ModelInputError, ServedModels

THREADS = 32  # predictions at once: enough to fill batches
BODIES_AT_ONCE = 4  # of the largest size, in memory at the same time; what comes on top is refused


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a client may ask for; more is refused."""

    rows: int = 1024  # of one request
    body_bytes: int = 16 * 2**20
    body_seconds: float = 20.0  # from the first to the last byte of a body
    waiting: int = 512  # predictions that have begun and are not answered


class Metrics:
    """What /metrics tells, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self.registry)
        self.requests = prometheus_client.Counter(
            "predict_requests", "Predictions asked for", ["signature", "status"], registry=self.registry
        )
        self.seconds = prometheus_client.Histogram(
            "predict_seconds", "From the last byte of a request to its answer", ["signature"],
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5), registry=self.registry,
        )  # fmt: skip
        self.batch_rows = prometheus_client.Histogram(
            "predict_batch_rows", "Rows computed together with a request's, its own included", ["signature"],
            buckets=[2**n for n in range(LARGEST_BATCH.bit_length())], registry=self.registry,
        )  # fmt: skip


class Predictor:
    """Answers predictions: bytes in, bytes out, in threads, so that the event loop stays free."""

    def __init__(self, models: ServedModels, limits: Limits, metrics: Metrics):
        self.models, self.limits, self.metrics = models, limits, metrics
        self._threads = concurrent.futures.ThreadPoolExecutor(THREADS, thread_name_prefix="predict")
        self._begun = 0
        self._bytes = 0

    async def __call__(self, request: Request, number: str | None) -> bytes:
        """Return the answer to a request for a version, or for the newest if it is None. Raises RequestError."""
        if self._begun >= self.limits.waiting:
            raise RequestError(
                503, f"Expected {self.limits.waiting} requests at once or fewer. Received: more. Try again."
            )
        self._begun += 1
        seen = {"signature": "none"}
        code = 500
        try:
            with self._reserved() as reserve:
                body = await bodies.read(request, self.limits.body_bytes, self.limits.body_seconds, reserve)
                began = time.perf_counter()
                loop = asyncio.get_running_loop()
                answer = await loop.run_in_executor(self._threads, self._answer, body, number, seen)
                self.metrics.seconds.labels(seen["signature"]).observe(time.perf_counter() - began)
            code = 200
            return answer
        except RequestError as error:
            code = error.status
            raise
        finally:
            self._begun -= 1
            self.metrics.requests.labels(seen["signature"], str(code)).inc()

    @contextlib.contextmanager
    def _reserved(self) -> Iterator[Callable[[int], None]]:
        """Give a function that reserves bytes for this request; they are free again at its end."""
        mine = 0

        def reserve(size: int) -> None:
            nonlocal mine
            if mine + size > self.limits.body_bytes:
                raise RequestError(413, f"Expected a body of {self.limits.body_bytes} bytes or fewer. Received: more.")
            if self._bytes + size > BODIES_AT_ONCE * self.limits.body_bytes:
                raise RequestError(503, "Expected fewer large requests at once. Received: more. Try again.")
            mine += size
            self._bytes += size

        try:
            yield reserve
        finally:
            self._bytes -= mine

    def _answer(self, body: bytes, number: str | None, seen: dict[str, str]) -> bytes:
        """Compute an answer, in a thread; set seen["signature"] once it is known to exist."""
        _, version = rest.choose_version(self.models.versions, number)
        request = rest.read_object(body)
        name, signature = rest.read_signature(request, version)
        seen["signature"] = name
        arrays, rows = rest.read_arrays(request, signature, self.limits.rows)
        try:
            outputs, together = signature(arrays)
        except ModelInputError as error:
            raise RequestError(400, f"Expected inputs that the model can compute. Received: {error}.") from error
        if together:
            self.metrics.batch_rows.labels(name).observe(together)
        return rest.write_outputs(outputs, rows)

    def close(self) -> None:
        self._threads.shutdown()
