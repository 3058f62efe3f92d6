"""Answers to predictions, with bounds: how many at once, how large and how slow a body may be. Computes in threads."""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import math
import threading
import time
from typing import Any

import prometheus_client
from starlette.requests import Request

from . import admission, bodies, rest
from .answers import Answer
from .rest import RequestError
from .versions import LARGEST_BATCH, ModelInputError, ServedModels, ServedSignature

THREADS = 32  # predictions at once: enough to fill batches
BODIES_AT_ONCE = 4  # of the largest size, in memory at the same time; what comes on top is refused
COMPUTED_WITH, ANSWERS = 128 * 2**20, 64 * 2**20  # bytes in memory at once, or a few times a larger --max-megabytes
ROUNDS_FOR_OTHERS, SECONDS_TO_LET_OTHERS = 5, 1.0  # of the event loop, between the steps of a large request; at most
BYTES_OF_A_NUMBER = 16  # in an answer


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
        self._bodies = admission.Room("bodies", BODIES_AT_ONCE * limits.body_bytes)
        self._read = bodies.Reader(limits.body_bytes, limits.body_seconds)
        self._turns = admission.Turns(max(COMPUTED_WITH, 8 * limits.body_bytes))
        self._largest_answer = max(ANSWERS, 4 * limits.body_bytes)
        self._answers = admission.Room("answers that clients take slowly", self._largest_answer)
        self._one_large = asyncio.Lock()
        self._begun = 0
        admission.give_memory_back()

    async def __call__(self, request: Request, number: str | None) -> Answer:
        """Return the answer to a request for a version, or for the newest if it is None. Raises RequestError."""
        seen = {"signature": "none"}
        code = 500
        body, answer = admission.Holding(self._bodies), admission.Holding(self._answers)
        try:
            content = await self._read(request, body)
            began = time.perf_counter()
            with self._one_more():
                written = await self._compute(content, number, seen, answer)
            self.metrics.seconds.labels(seen["signature"]).observe(time.perf_counter() - began)
            code = 200
            return Answer(written, answer.release)
        except RequestError as error:
            code = error.status
            raise
        finally:
            body.release()
            if code != 200:
                answer.release()
            self.metrics.requests.labels(seen["signature"], str(code)).inc()

    @contextlib.contextmanager
    def _one_more(self):
        """Count a request whose body is here. Raise RequestError if there are too many."""
        if self._begun >= self.limits.waiting:
            raise RequestError(
                503, f"Expected {self.limits.waiting} requests at once or fewer. Received: more. Try again."
            )
        self._begun += 1
        try:
            yield
        finally:
            self._begun -= 1

    async def _compute(
        self, content: bytearray, number: str | None, seen: dict[str, str], holding: admission.Holding
    ) -> bytes:
        cost = admission.memory_to_compute(content)
        if cost > self._turns.size:
            raise RequestError(
                413, "Expected fewer numbers and lists in one request. Received: too many. Send several requests."
            )
        async with self._turns.turn(cost):
            loop = asyncio.get_running_loop()
            if len(content) <= admission.SMALL_BYTES:
                return await loop.run_in_executor(self._threads, self._answer, content, number, seen, holding)
            async with self._one_large:
                return await loop.run_in_executor(self._threads, self._answer, content, number, seen, holding, loop)

    def _answer(
        self,
        body: bytearray,
        number: str | None,
        seen: dict[str, str],
        holding: admission.Holding,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> bytes:
        """Compute an answer, in a thread; set seen["signature"] once it is known to exist.

        loop: of a large request, which lets the event loop go round between its steps.
        """
        _, version = rest.choose_version(self.models.versions, number)
        let_others(loop)
        request = rest.read_object(body)
        let_others(loop)
        name, signature = rest.read_signature(request, version)
        seen["signature"] = name
        k = rest.read_k(request, name, signature)
        arrays, rows = rest.read_arrays(request, signature, self.limits.rows)
        del request
        let_others(loop)
        size = bytes_of_answer(arrays, signature)
        if size > self._largest_answer:
            raise RequestError(
                413, f"Expected an answer of {self._largest_answer:,} bytes or fewer. Received: a request for about "
                f"{size:,}. Send several with fewer rows; of many units, top gives the strongest."
            )  # fmt: skip
        holding.resize(size)
        try:
            outputs, together = signature(arrays)
        except ModelInputError as error:
            raise RequestError(400, f"Expected inputs that the model can compute. Received: {error}.") from error
        if together:
            self.metrics.batch_rows.labels(name).observe(together)
        let_others(loop)
        written = rest.write_outputs(outputs, rows, k)
        holding.resize(len(written))
        return written

    def close(self) -> None:
        self._threads.shutdown()


def let_others(loop: asyncio.AbstractEventLoop | None) -> None:
    """Wait until the event loop has gone round a few times: as often as it takes to accept, read, answer and end.

    Large JSON is read in one step, in which Python runs no other thread. Without a pause, the event loop would get its
    turn between two such steps for one call to the system, and wait again.
    """
    if loop is None:
        return
    done = threading.Event()

    def go_round(left: int) -> None:
        loop.call_soon(go_round, left - 1) if left else done.set()

    loop.call_soon_threadsafe(go_round, ROUNDS_FOR_OTHERS)
    done.wait(SECONDS_TO_LET_OTHERS)


def bytes_of_answer(arrays: dict[str, Any], signature: ServedSignature) -> int:
    """Return about how long the answer to these inputs will be, as far as the signature says."""
    rows = max((len(array) for array in arrays.values() if array.ndim), default=1)
    sizes = [
        [size or rows for size in spec.shape] for spec in signature.outputs.values() if spec.shape.rank is not None
    ]
    return BYTES_OF_A_NUMBER * sum(map(math.prod, sizes))
