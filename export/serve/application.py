"""The HTTP application that serves an export: create() -> FastAPI, for uvicorn and whatever else runs ASGI.

Paths and JSON are TensorFlow Serving's. Beside them: GET / is a page to try the model with; /healthz, /readyz and
/metrics are for orchestrators and Prometheus.
"""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import html
import logging
import pathlib
import time

import fastapi
import prometheus_client
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from . import rest
from .rest import Refused
from .versions import LARGEST_BATCH, RefusedByModel, ServedModels

PAGE = pathlib.Path(__file__).parent / "page" / "index.html"
PAGE_HEADERS = {  # the page loads nothing from elsewhere, and is told so
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
THREADS = 32  # predictions at once: enough to fill batches
BODIES_AT_ONCE = 4  # of the largest size, in memory at the same time; what comes on top is refused
SECONDS_TO_READ_A_REFUSED_BODY = 2  # so that a client who is still sending sees the answer, and no broken connection

log = logging.getLogger("export.serve")


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a client may ask for; more is refused."""

    rows: int = 1024  # of one request
    body_bytes: int = 16 * 2**20
    body_seconds: float = 20.0  # from the first to the last byte of a body
    waiting: int = 512  # predictions that have begun and are not answered


class Metrics:
    """What /metrics tells, in a registry of its own."""

    def __init__(self):
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
    """Answers predictions: bytes in, bytes out, in threads, so that the event loop goes on."""

    def __init__(self, models, limits, metrics):
        self.models, self.limits, self.metrics = models, limits, metrics
        self._threads = concurrent.futures.ThreadPoolExecutor(THREADS, thread_name_prefix="predict")
        self._begun = 0
        self._bytes = 0

    async def __call__(self, request, number):
        """The answer to a request for a version (None: the newest). Raises Refused."""
        if self._begun >= self.limits.waiting:
            raise Refused(503, f"Expected {self.limits.waiting} requests at once or fewer. Received: more. Try again.")
        self._begun += 1
        seen = {"signature": "none"}
        code = 500
        try:
            with self._reserved() as reserve:
                body = await self._read(request, reserve)
                began = time.perf_counter()
                loop = asyncio.get_running_loop()
                answer = await loop.run_in_executor(self._threads, self._answer, body, number, seen)
                self.metrics.seconds.labels(seen["signature"]).observe(time.perf_counter() - began)
            code = 200
            return answer
        except Refused as error:
            code = error.status
            raise
        finally:
            self._begun -= 1
            self.metrics.requests.labels(seen["signature"], str(code)).inc()

    @contextlib.contextmanager
    def _reserved(self):
        """reserve(bytes) for this request, given back at its end."""
        mine = 0

        def reserve(size):
            nonlocal mine
            if mine + size > self.limits.body_bytes:
                raise Refused(413, f"Expected a body of {self.limits.body_bytes} bytes or fewer. Received: more.")
            if self._bytes + size > BODIES_AT_ONCE * self.limits.body_bytes:
                raise Refused(503, "Expected fewer large requests at once. Received: more. Try again.")
            mine += size
            self._bytes += size

        try:
            yield reserve
        finally:
            self._bytes -= mine

    async def _read(self, request, reserve):
        """The body, counted while it comes; a Content-Length that is too large is refused before."""
        chunks = []
        declared = request.headers.get("content-length", "")
        stream = request.stream()
        try:
            if declared.isdigit() and int(declared) > self.limits.body_bytes:
                raise Refused(413, f"Expected a body of {self.limits.body_bytes} bytes or fewer. Received: {declared}.")
            async with asyncio.timeout(self.limits.body_seconds):
                async for chunk in stream:
                    reserve(len(chunk))
                    chunks.append(chunk)
        except TimeoutError as error:
            raise Refused(408, f"Expected the body within {self.limits.body_seconds} s. Received: a part.") from error
        except ClientDisconnect as error:
            raise Refused(400, "Expected the whole body. Received: a part, then the client went.") from error
        except Refused:
            chunks.clear()
            if request.headers.get("expect", "").lower() != "100-continue":
                await throw_away(stream)
            raise
        return b"".join(chunks)

    def _answer(self, body, number, seen):
        """Runs in a thread; sets seen["signature"] once it is known to exist."""
        _, version = choose(self.models, number)
        request = rest.read_object(body)
        name, signature = rest.read_signature(request, version)
        seen["signature"] = name
        arrays, rows = rest.read_arrays(request, signature, self.limits.rows)
        try:
            outputs, together = signature(arrays)
        except RefusedByModel as error:
            raise Refused(400, f"Expected inputs that the model can compute. Received: {error}.") from error
        if together:
            self.metrics.batch_rows.labels(name).observe(together)
        return rest.write_outputs(outputs, rows)

    def close(self):
        self._threads.shutdown()


async def throw_away(stream):
    """Read what is left of a body for a while, and keep nothing."""
    with contextlib.suppress(TimeoutError, ClientDisconnect):
        async with asyncio.timeout(SECONDS_TO_READ_A_REFUSED_BODY):
            async for _ in stream:
                pass


def choose(models, number):
    """(number, Version) of a version, the newest for None."""
    versions = models.versions
    if not versions:
        raise Refused(503, "Expected a loaded version. Received: none yet. Try again, and see the server's log.")
    number = next(iter(versions)) if number is None else number
    if number not in versions:
        raise Refused(404, f"Expected one of the versions {', '.join(versions)}. Received: {rest.shortened(number)}.")
    return number, versions[number]


def create(export_directory, name="encoder", limits=None):
    """The application that serves the versions in export_directory/saved_model/ under /v1/models/name.

    They are loaded when it starts; until then /readyz answers 503. `app.state.models` are the ServedModels:
    `app.state.models.refresh()` loads them at once.
    """
    models = ServedModels(pathlib.Path(export_directory) / "saved_model")
    metrics = Metrics()

    @contextlib.asynccontextmanager
    async def lifespan(app):
        app.state.predict = Predictor(models, limits or Limits(), metrics)
        models.start()
        yield
        models.stop()
        app.state.predict.close()

    app = fastapi.FastAPI(
        title=f"The model {name}", description="TensorFlow Serving's REST API", version="1",
        lifespan=lifespan, docs_url=None, redoc_url=None, redirect_slashes=False,
    )  # fmt: skip
    app.state.models = models
    answer_errors_as_tensorflow_serving(app)
    add_model(app, name, models)
    add_the_rest(app, name, models, metrics)
    return app


def answer_errors_as_tensorflow_serving(app):
    """{"error": ...} for every error, FastAPI's own as well."""

    def answer(status, message, headers=None):
        # After a body that was not read to its end, the connection is of no use.
        closing = {"Connection": "close"} if status in (408, 413) else {"Retry-After": "1"} if status == 503 else {}
        return json_response({"error": message}, status, {**(headers or {}), **closing})

    async def refused(request, error):
        return answer(error.status, str(error))

    async def unknown_path(request, error):
        return answer(error.status_code, f"{error.detail}: {request.method} {request.url.path}", error.headers)

    async def fault(request, error):
        return answer(500, "A fault of the server; its log says which.")

    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(HTTPException, unknown_path)
    app.add_exception_handler(Exception, fault)


def json_response(value, status=200, headers=None):
    return Response(rest.dump(value), status, headers, "application/json")


REQUEST_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "signature_name": {"type": "string", "default": "serving_default"},
                        "instances": {"type": "array", "description": "one element a row; excludes inputs"},
                        "inputs": {"description": "an array, or an object of arrays by name; excludes instances"},
                    },
                    "oneOf": [{"required": ["instances"]}, {"required": ["inputs"]}],
                }
            }
        },
    }
}
ERRORS = {
    status: {
        "description": description,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {"error": {"type": "string"}},
                    "required": ["error"],
                }
            }
        },
    }
    for status, description in {
        400: "The request is not as the model's signature asks",
        404: "No such model or version",
        408: "The body came too slowly",
        413: "The body is too large",
        503: "Too many requests at once, or no version is loaded yet",
    }.items()
}


def add_model(app, name, models):
    """The paths of TensorFlow Serving."""

    def check(model):
        if model != name:
            raise Refused(404, f"Expected the model {name}. Received: {rest.shortened(model)}.")

    def metadata_of(number):
        number, version = choose(models, number)
        return json_response(rest.metadata(name, number, version))

    @app.post("/v1/models/{model}:predict", responses=ERRORS, openapi_extra=REQUEST_BODY)
    async def predict(request: Request, model: str):
        check(model)
        return Response(await app.state.predict(request, None), media_type="application/json")

    @app.post("/v1/models/{model}/versions/{version}:predict", responses=ERRORS, openapi_extra=REQUEST_BODY)
    async def predict_by_version(request: Request, model: str, version: str):
        check(model)
        return Response(await app.state.predict(request, version), media_type="application/json")

    @app.get("/v1/models/{model}", responses=ERRORS)
    async def status(model: str):
        check(model)
        return json_response(rest.status(models.states()))

    @app.get("/v1/models/{model}/versions/{version}", responses=ERRORS)
    async def status_of_version(model: str, version: str):
        check(model)
        states = [state for state in models.states() if state[0] == version]
        if not states:
            raise Refused(404, f"Expected a version of {name}. Received: {rest.shortened(version)}.")
        return json_response(rest.status(states))

    @app.get("/v1/models/{model}/metadata", responses=ERRORS)
    async def metadata(model: str):
        check(model)
        return metadata_of(None)

    @app.get("/v1/models/{model}/versions/{version}/metadata", responses=ERRORS)
    async def metadata_by_version(model: str, version: str):
        check(model)
        return metadata_of(version)


def add_the_rest(app, name, models, metrics):
    """The page, health and metrics."""
    page = PAGE.read_text(encoding="utf-8").replace("{{model}}", html.escape(name))

    @app.get("/", response_class=HTMLResponse)
    async def try_it():
        return HTMLResponse(page, headers=PAGE_HEADERS)

    @app.get("/healthz", response_class=PlainTextResponse)
    async def live():
        return PlainTextResponse("live\n")

    @app.get("/readyz", response_class=PlainTextResponse, responses={503: ERRORS[503]})
    async def ready():
        number, _ = choose(models, None)
        return PlainTextResponse(f"ready: version {number}\n")

    @app.get("/metrics", response_class=PlainTextResponse)
    async def show_metrics():
        text = prometheus_client.generate_latest(metrics.registry)
        return Response(text, headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST})
