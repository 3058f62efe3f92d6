"""What `python -m export.serve` does while it is attacked, beside the goals: on this machine alone, by its loopback.

Each attack lasts a few seconds. Meanwhile one bystander asks /healthz and another for a prediction of one row, each on
a new connection every time, and the server's memory is looked at. EXPORT is what `python -m export` wrote, of a model
whose serving_default takes rows.

  python -m benchmarks.attacks                 those on training and its data, without a server: see faults.py
  python -m benchmarks.attacks exports/mnist
  python -m benchmarks.attacks exports/mnist --only "stalled uploads" --seconds 20

Exits with 1 if a goal is missed: /healthz within 0.2 s; every prediction answered, or refused by 503 within a second
with Retry-After; at most 300 MB of memory more than when idle.
"""

import argparse
import asyncio
import contextlib
import json
import pathlib
import re
import resource
import subprocess
import sys
import threading
import time

import numpy as np

from . import faults

HEALTH_SECONDS, PREDICT_SECONDS, MEGABYTES = 0.2, 1.0, 300
DESCRIPTORS = 1024  # of the server
HOST = "127.0.0.1"
PREDICT = "/v1/models/encoder:predict"


def head(length, path=PREDICT):
    return f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\n\r\n".encode()


def rows_of(row, size):
    """A request of about as many bytes, of many rows."""
    text = json.dumps(row).encode()
    return b'{"instances": [' + b",".join([text] * max(size // len(text), 1)) + b"]}"


async def connection(port, content, read=False, seconds=60.0):
    """Send some bytes on a connection and hold it; read the answer only if that is asked for."""
    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(HOST, port, limit=1024)
            if not read:
                writer.transport.pause_reading()
            writer.write(content)
            await writer.drain()
            await (reader.read(-1) if read else asyncio.sleep(seconds))


async def drip(port, content, seconds=60.0):
    """Send a byte a second."""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(HOST, port)
            for byte in content:
                writer.write(bytes([byte]))
                await asyncio.sleep(1)


def attacks(row, seconds):
    """Return name -> coroutines of a port, of all connections of the attack."""
    large, upload = rows_of(row, 1_200_000), 16 * 2**20 - 1000
    burst = rows_of(row, 2_400_000)
    lists = b'{"inputs": [' + b"[]," * (upload // 3 - 10) + b"[]]}"
    nested = b'{"inputs": [' + b"[[[[],[]],[]],[]]," * (upload // 18 - 10) + b"[]]}"
    many = b'{"instances": [[' + b"0.5," * (upload // 4 - 10) + b"0]]}"

    def hold(number, content):
        return lambda port: [connection(port, content, seconds=seconds) for _ in range(number)]

    def ask(number, content):
        return lambda port: [connection(port, head(len(content)) + content, True, seconds) for _ in range(number)]

    return {
        "nothing": lambda port: [],
        "answers not read, 380": hold(380, head(len(large)) + large),
        "idle connections, 1,100": hold(1100, b""),
        "slow headers, 300": lambda port: [drip(port, b"GET /" + b"a" * 100, seconds) for _ in range(300)],
        "stalled uploads, 4 of 16 MB": hold(4, head(upload) + b" " * (upload - 1)),
        "one byte of a body, 513": hold(513, head(2) + b"{"),
        "2.4 MB at once, 120": ask(120, burst),
        "16 MB of []": ask(4, lists),
        "16 MB of nested lists": ask(4, nested),
        "16 MB of numbers": ask(4, many),
        "no HTTP, 2,000": lambda port: [connection(port, b"x\r\n\r\n", True, seconds) for _ in range(2000)],
    }


def attack(arguments):
    """Be the attacker, in a process of its own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))

    async def run():
        await asyncio.gather(*attacks(first_row(arguments.export), arguments.seconds)[arguments.attack](arguments.port))

    asyncio.run(run())


def first_row(export):
    with np.load(export / "check.npz") as arrays:
        return [round(float(value), 4) for value in arrays["inputs"][0]]


class Bystander(threading.Thread):
    """Ask the same again and again, on a new connection each time; keep how long it took and what came."""

    def __init__(self, port, content, pause):
        super().__init__(daemon=True)
        self.port, self.content, self.pause, self.found, self.stopped = port, content, pause, [], threading.Event()

    def run(self):
        while not self.stopped.wait(self.pause):
            began = time.monotonic()
            answer = asyncio.run(self.ask())
            self.found.append((time.monotonic() - began, answer))

    async def ask(self):
        answer = b""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(10):
                reader, writer = await asyncio.open_connection(HOST, self.port)
                writer.write(self.content)
                answer = await reader.read(-1)
                writer.close()
        return answer.partition(b"\r\n\r\n")[0].lower()

    def end(self):
        self.stopped.set()
        self.join(15)
        return self.found


def megabytes(process):
    if process.poll() is not None:
        raise SystemExit(f"The server ended with status {process.returncode}.")
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


def measure(arguments, name, server, port, idle):
    """Run one attack. Return the row of the table, and whether all goals were met."""
    row = json.dumps({"instances": [first_row(arguments.export)]}).encode()
    closing = b"Connection: close\r\n"
    health = Bystander(port, b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n" + closing + b"\r\n", 0.02)
    predict = Bystander(port, head(len(row)).replace(b"Content-Length", closing + b"Content-Length") + row, 0.05)
    command = [sys.executable, "-m", "benchmarks.attacks", str(arguments.export), "--attack", name, "--port", str(port)]
    health.start(), predict.start()
    most = 0.0
    with subprocess.Popen([*command, "--seconds", str(arguments.seconds)]) as attacker:
        while attacker.poll() is None:
            most = max(most, megabytes(server))
            time.sleep(0.05)
    healthy, predicted = health.end(), predict.end()
    slowest = max(seconds for seconds, _ in healthy)
    well = sum(answer.startswith(b"http/1.1 200") for _, answer in predicted)
    refused = [seconds for seconds, answer in predicted if b"http/1.1 503" in answer and b"retry-after" in answer]
    lost = len(predicted) - well - len(refused)
    unhealthy = sum(not answer.startswith(b"http/1.1 200") for _, answer in healthy)
    time.sleep(3)
    cells = [
        name, f"{slowest:.3f}", unhealthy, len(healthy), well, len(refused), lost,
        f"{max((seconds for seconds, _ in predicted), default=0):.2f}", f"{most - idle:.0f}",
        f"{megabytes(server) - idle:.0f}",
    ]  # fmt: skip
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    slow = max(refused, default=0) > PREDICT_SECONDS
    return slowest <= HEALTH_SECONDS and not unhealthy and not lost and not slow and most - idle <= MEGABYTES


def main():
    parser = argparse.ArgumentParser(
        "benchmarks.attacks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("export", metavar="EXPORT", nargs="?", type=pathlib.Path)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each attack (default: %(default)s)")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORDS", help="attacks whose names begin so")
    parser.add_argument("--attack", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.attack:
        attack(arguments)
        return
    if arguments.export is None:
        sys.exit(not faults.attack(arguments.only, gigabytes=1.0))
    names = [name for name in attacks([0.0], 1) if name.startswith(tuple(arguments.only) or "")]
    print(f"Goals: /healthz within {HEALTH_SECONDS} s, none lost, refusals within {PREDICT_SECONDS} s, memory at most")
    print(f"{MEGABYTES} MB above idle. The server has {DESCRIPTORS} descriptors.\n")
    columns = ["attack", "slowest /healthz, s", "not 200", "of", "predicted", "refused", "lost", "slowest, s"]
    print("| " + " | ".join([*columns, "MB more", "3 s later"]) + " |")
    print("|---" * 10 + "|")
    command = [sys.executable, "-m", "export.serve", str(arguments.export), "--port", "0"]
    limit = (DESCRIPTORS, DESCRIPTORS)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit),
    ) as server:  # fmt: skip
        try:
            port = next(int(found[1]) for line in server.stdout if (found := re.search(r"predict .*:(\d+)/", line)))
            for _ in range(20):
                asyncio.run(connection(port, head(2) + b"{}", seconds=0.05))
            idle = megabytes(server)
            met = [measure(arguments, name, server, port, idle) for name in names]
        finally:
            server.terminate()
    sys.exit(not all(met))


if __name__ == "__main__":
    main()
