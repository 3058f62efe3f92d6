"""Serve an export by TensorFlow Serving's REST API, where there is no docker.

EXPORT is the --out of `python -m export`. Its SavedModel versions, EXPORT/saved_model/1/, 2/, ..., answer at
  POST /v1/models/NAME:predict                 {"instances": [[...]]} -> {"predictions": [[...]]}
  POST /v1/models/NAME/versions/1:predict      the same of one version; {"inputs": ...} -> {"outputs": ...} as well
  GET  /v1/models/NAME, .../metadata           the versions and their states; the signatures
  GET  /                                       a page to try it with
  GET  /healthz, /readyz, /metrics             for orchestrators and Prometheus

  python -m export.serve exports/mnist
  curl -d '{"signature_name": "encode", "inputs": [[0.1, 0.2]]}' http://127.0.0.1:8501/v1/models/encoder:predict

A new version that is renamed into place (mv) takes over within seconds, without a dropped request; the one before stays
for those who ask for it by number. Requests that come at the same time are computed together. Anybody who reaches the
port can ask: there is no password, so --host 0.0.0.0 belongs behind a proxy (nginx, Caddy) that has one. Clients that
are slow, or ask for too much, are ended or refused. On 127.0.0.1 only who calls the server localhost or 127.0.0.1 is
answered, and no page but its own, so that no web page from elsewhere reaches it: --allow-host and --cors let others in.
With --host 0.0.0.0 the same holds once --allow-host names what the server is called.
"""

import argparse
import functools
import gc
import importlib.util
import json
import logging
import pathlib
import re
import shlex
import signal
import socket
import sys
from typing import Any

from keras_sae import cli
from keras_sae.archives import read_arrays, reading
from keras_sae.cli import Parser, stderr_suppressed
from keras_sae.errors import InputError

from ..layout import SAVED_MODEL, versions

PROGRAM = "export.serve"
fail = functools.partial(cli.fail, PROGRAM)

PACKAGES = ("fastapi", "uvicorn", "orjson", "prometheus_client", "tensorflow")
SECONDS_TO_FINISH = 10  # for requests that are being answered when the server is told to stop


def main() -> None:
    arguments = parse()
    check(arguments)
    listening = listen(arguments.host, arguments.port)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    logging.getLogger("export.serve").setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        serve(arguments, listening)
    except KeyboardInterrupt:  # uvicorn passes it on when all is answered
        print("\nexport.serve: stopped.", file=sys.stderr)


def parse() -> argparse.Namespace:
    parser = Parser(PROGRAM, __doc__)
    parser.add_argument("export", metavar="EXPORT", type=pathlib.Path, help="directory that python -m export wrote")
    parser.add_argument("--name", default="encoder", help="of the model, in the paths (default: %(default)s)")
    parser.add_argument(
        "--host", default="127.0.0.1", help="0.0.0.0: from everywhere (default: %(default)s, this machine)"
    )
    parser.add_argument("--port", type=int, default=8501, help="0: a free one (default: %(default)s)")
    parser.add_argument("--max-rows", type=int, default=1024, help="of one request (default: %(default)s)")
    parser.add_argument("--max-megabytes", type=float, default=16, help="of one request's body (default: %(default)s)")
    parser.add_argument("--body-seconds", type=float, default=20, help="for one request's body (default: %(default)s)")
    parser.add_argument("--max-waiting", type=int, default=512, help="requests at once (default: %(default)s)")
    parser.add_argument(
        "--cors", nargs="+", default=[], metavar="ORIGIN",
        help="whose web pages may use it, such as https://example.com, or '*' (default: its own page alone)",
    )  # fmt: skip
    parser.add_argument(
        "--allow-host", nargs="+", default=[], metavar="NAME",
        help="by which it may be called as well as localhost and 127.0.0.1 (default with another --host: by any)",
    )  # fmt: skip
    return parser.parse_args()


def check(arguments: argparse.Namespace) -> None:
    """End the program with one line if the flags, the directory or the packages are not right."""
    if not re.fullmatch(r"[\w.-]+", arguments.name, re.ASCII):
        fail(f"--name expects letters, digits, '_', '.' and '-'. Received: {arguments.name}.")
    if not 0 <= arguments.port < 65536:
        fail(f"--port expects a number from 0 to 65535. Received: {arguments.port}.")
    for flag in ("max_rows", "max_megabytes", "body_seconds", "max_waiting"):
        if not 0 < getattr(arguments, flag) < float("inf"):
            fail(f"--{flag.replace('_', '-')} expects a number above 0. Received: {getattr(arguments, flag)}.")
    for origin in arguments.cors:
        if origin != "*" and not re.fullmatch(r"https?://[^/?#\s]+", origin):
            fail(f"--cors expects origins such as https://example.com, or '*'. Received: {origin}.")
    directory = arguments.export / SAVED_MODEL
    if not directory.is_dir():
        fail(
            f"Expected an export, the --out of python -m export. Received: {arguments.export}, which has no directory "
            f"{SAVED_MODEL}."
        )
    if not versions(directory):
        fail(f"Expected a version, a directory 1, 2, ... Received: {directory}, which holds none.")
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        fail(
            f"Expected the packages that serve. Received: no {', '.join(missing)}. pip install 'keras-sae[serve]'.",
        )


def listen(host: str, port: int) -> socket.socket:
    """Return a socket on host and port. It takes connections only when the model is loaded."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        fail(f"--host expects an address of this machine. Received: {host} ({error.strerror}).")
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        listening.close()
        fail(
            f"Expected a free port of this machine. Received: {host}:{port} ({error.strerror}). --port 0",
        )
    return listening


def serve(arguments: argparse.Namespace, listening: socket.socket) -> None:
    """Load the model, say how to call it, answer until the process is told to stop."""
    print(f"Loading {arguments.export} ...", flush=True)
    with stderr_suppressed():
        import tensorflow as tf
        import uvicorn

        from . import access, application, connections

        tf.config.list_physical_devices()

    limits = application.Limits(
        arguments.max_rows, int(arguments.max_megabytes * 2**20), arguments.body_seconds, arguments.max_waiting
    )
    host, port = listening.getsockname()[:2]
    visitors = access.access(host, arguments.allow_host, arguments.cors)
    app = application.create(arguments.export, arguments.name, limits, visitors)
    app.state.models.refresh()
    if not app.state.models.versions:
        fail(f"Expected a SavedModel that can be loaded. Received: {arguments.export}. The line above says why.")
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    everybody = connections.Everybody(connections.most_connections())
    connection = functools.partial(connections.Connection, everybody=everybody)
    for handler in logging.getLogger().handlers:
        handler.addFilter(connections.Few())
    config = uvicorn.Config(
        app, http=connection, backlog=connections.ACCEPTED_AT_ONCE, ws="none", lifespan="on", log_config=None,
        h11_max_incomplete_event_size=connections.LONGEST_HEADERS, log_level="warning", access_log=False,
        server_header=False, proxy_headers=False, timeout_graceful_shutdown=SECONDS_TO_FINISH,
    )  # fmt: skip
    description = describe(arguments, app.state.models.versions, url)

    class Server(uvicorn.Server):
        async def startup(self, sockets=None):
            await super().startup(sockets)
            listening.listen(connections.WAITING_AT_MOST)
            print(description, flush=True)  # now that it listens, so that a script can wait for it

    gc.collect()
    gc.freeze()  # TensorFlow's objects stay: to look through them for garbage again takes most of a second
    Server(config).run(sockets=[listening])


def describe(arguments: argparse.Namespace, versions: dict[str, Any], url: str) -> str:
    """Return what is printed at the start: where, what, and a command that works as it stands."""
    newest = next(iter(versions.values()))
    lines = [f"Serving {arguments.export} as {arguments.name}, version {', '.join(versions)}. Ctrl-C stops it.", ""]
    lines += [f"  try it      {url}/", f"  predict     {url}/v1/models/{arguments.name}:predict"]
    for name, signature in sorted(newest.signatures.items()):
        lines.append(f"  signature   {name}: {describe_specs(signature.inputs)} -> {', '.join(signature.outputs)}")
    return "\n".join([*lines, "", example(arguments, newest, url)])


def describe_specs(inputs: dict[str, Any]) -> str:
    from .rest import describe_shape

    return ", ".join(f"{name} {describe_shape(spec.shape)} {spec.dtype.name}" for name, spec in inputs.items())


def example(arguments: argparse.Namespace, version: Any, url: str) -> str:
    """Return a command line that asks for a prediction, with the numbers in it if they are few."""
    name = "serving_default" if "serving_default" in version.signatures else next(iter(version.signatures), None)
    if name is None or len(version.signatures[name].inputs) != 1:
        return f"curl {url}/v1/models/{arguments.name}/metadata"
    (spec,) = version.signatures[name].inputs.values()
    checks = arguments.export / "check.npz"
    target = f"{url}/v1/models/{arguments.name}:predict"
    row = first_row(checks, spec)
    if row is not None and row.size <= 32:
        body = {"signature_name": name, "instances": [[round(value, 4) for value in row.tolist()]]}
        return f"curl -d {shlex.quote(json.dumps(body))} {target}"
    if row is not None:
        code = f'numpy.load({json.dumps(str(checks))})["inputs"][:1].tolist()'
    elif spec.shape.rank is None:
        return f"curl {url}/v1/models/{arguments.name}/metadata"
    else:
        code = f"numpy.zeros({[size or 1 for size in spec.shape]}, int).tolist()"
    code = f'import json, numpy; print(json.dumps({{"signature_name": {json.dumps(name)}, "instances": {code}}}))'
    return f"python -c {shlex.quote(code)} | curl -d @- {target}"


def first_row(checks: pathlib.Path, spec: Any) -> Any:
    """Return the first input of check.npz, or None if there is none that fits."""
    try:
        with reading(checks, "the inputs that an export was checked on"):
            row = read_arrays(checks)["inputs"][0]
    except InputError:
        return None
    return row if spec.shape.is_compatible_with((1, *row.shape)) and row.ndim == 1 else None


if __name__ == "__main__":
    main()
