"""The HTTP application that serves an export: create() -> FastAPI, for uvicorn and whatever else runs ASGI.

Paths and JSON are TensorFlow Serving's. Beside them: GET / is a page to try the model with; /healthz, /readyz and
/metrics are for orchestrators and Prometheus.
"""

import contextlib
import html
import pathlib
from collections.abc import AsyncIterator
from typing import Any

import fastapi
import prometheus_client
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request

from ..layout import SAVED_MODEL
from . import rest
from .access import Access, Gate
from .predictor import Limits, Metrics, Predictor
from .rest import RequestError
from .versions import ServedModels

PAGE = pathlib.Path(__file__).parent / "page" / "index.html"
ANYBODY = Access()
PAGE_HEADERS = {  # the page loads nothing from elsewhere, and is told so
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


def create(
    export_directory: str | pathlib.Path,
    name: str = "encoder",
    limits: Limits | None = None,
    access: Access = ANYBODY,
) -> fastapi.FastAPI:
    """Return the application that serves the versions in export_directory/saved_model/ under /v1/models/name.

    They are loaded when it starts; until then /readyz answers 503. `app.state.models` are the ServedModels:
    `app.state.models.refresh()` loads them at once. `access` says which web pages may use it.
    """
    models = ServedModels(pathlib.Path(export_directory) / SAVED_MODEL)
    metrics = Metrics()

    @contextlib.asynccontextmanager
    async def lifespan(app: fastapi.FastAPI) -> AsyncIterator[None]:
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
    if access.origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=access.origins, allow_methods=["GET", "POST"],
            allow_headers=["Content-Type", "Content-Encoding"], allow_private_network=True,
        )  # fmt: skip
    app.add_middleware(Gate, access=access)  # the outer one
    answer_errors_as_tensorflow_serving(app)
    add_model(app, name, models)
    add_page_and_health(app, name, models, metrics)
    return app


def answer_errors_as_tensorflow_serving(app: fastapi.FastAPI) -> None:
    """Answer {"error": ...} to every error, FastAPI's own as well."""

    def answer(status, message, headers=None):
        more = {"Retry-After": "1"} if status == 503 else {}
        return rest.error_response(status, message, {**(headers or {}), **more})

    async def refused(request, error):
        headers = {"Allow": "POST"} if error.status == 405 else {}
        if error.unread:  # after that the connection is of no use
            headers["Connection"] = "close"
        return answer(error.status, str(error), headers)

    async def unknown_path(request, error):
        return answer(error.status_code, f"{error.detail}: {request.method} {request.url.path}", error.headers)

    async def fault(request, error):
        return answer(500, "A fault of the server; its log says which.")

    app.add_exception_handler(RequestError, refused)
    app.add_exception_handler(HTTPException, unknown_path)
    app.add_exception_handler(Exception, fault)


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(rest.dump(value), status, headers, "application/json")


METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
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
                        "k": {"type": "integer", "minimum": 1, "description": "with top: how many units of a row"},
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
        415: "The body is packed in another way than by gzip",
        503: "Too many requests at once, or no version is loaded yet",
    }.items()
}


def add_model(app: fastapi.FastAPI, name: str, models: ServedModels) -> None:
    """Add the paths of TensorFlow Serving."""

    def check(model):
        if model != name:
            raise RequestError(404, f"Expected the model {name}. Received: {rest.shortened(model)}.")

    def metadata_of(number):
        number, version = rest.choose_version(models.versions, number)
        return json_response(rest.metadata(name, number, version))

    @app.post("/v1/models/{model}:predict", responses=ERRORS, openapi_extra=REQUEST_BODY)
    async def predict(request: Request, model: str):
        check(model)
        return await app.state.predict(request, None)

    @app.post("/v1/models/{model}/versions/{version}:predict", responses=ERRORS, openapi_extra=REQUEST_BODY)
    async def predict_by_version(request: Request, model: str, version: str):
        check(model)
        return await app.state.predict(request, version)

    @app.api_route("/v1/models/{model}:{verb}", methods=METHODS, include_in_schema=False)
    @app.api_route("/v1/models/{model}/versions/{version}:{verb}", methods=METHODS, include_in_schema=False)
    async def other(request: Request, model: str, verb: str):
        check(model)
        if verb != "predict":
            raise RequestError(404, f"Expected {name}:predict, the one method here. Received: {rest.shortened(verb)}.")
        raise RequestError(405, f"Expected POST. Received: {request.method}. To predict, use POST.")

    @app.get("/v1/models/{model}", responses=ERRORS)
    async def status(model: str):
        check(model)
        return json_response(rest.status(models.states()))

    @app.get("/v1/models/{model}/versions/{version}", responses=ERRORS)
    async def status_of_version(model: str, version: str):
        check(model)
        states = [state for state in models.states() if state[0] == version]
        if not states:
            raise RequestError(404, f"Expected a version of {name}. Received: {rest.shortened(version)}.")
        return json_response(rest.status(states))

    @app.get("/v1/models/{model}/metadata", responses=ERRORS)
    async def metadata(model: str):
        check(model)
        return metadata_of(None)

    @app.get("/v1/models/{model}/versions/{version}/metadata", responses=ERRORS)
    async def metadata_by_version(model: str, version: str):
        check(model)
        return metadata_of(version)


def add_page_and_health(app: fastapi.FastAPI, name: str, models: ServedModels, metrics: Metrics) -> None:
    """Add the page, health and metrics."""
    page = PAGE.read_text(encoding="utf-8").replace("{{model}}", html.escape(name))

    @app.get("/", response_class=HTMLResponse)
    async def try_it():
        return HTMLResponse(page, headers=PAGE_HEADERS)

    @app.get("/healthz", response_class=PlainTextResponse)
    async def live():
        return PlainTextResponse("live\n")

    @app.get("/readyz", response_class=PlainTextResponse, responses={503: ERRORS[503]})
    async def ready():
        number, _ = rest.choose_version(models.versions, None)
        return PlainTextResponse(f"ready: version {number}\n")

    @app.get("/metrics", response_class=PlainTextResponse)
    async def show_metrics():
        text = prometheus_client.generate_latest(metrics.registry)
        return Response(text, headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST})
