"""Who attacks the server of benchmarks.attacks, in a process of its own: each attack is many connections at once.

  python -m benchmarks.attackers EXPORT PORT "idle connections, 1,100" --seconds 8

Prints how many answers of each status came to those who read them, as JSON; 0 are those that did not come.
"""

import argparse
import asyncio
import collections
import contextlib
import gzip
import itertools
import json
import pathlib
import re
import resource

import numpy as np

HOST = "127.0.0.1"
PREDICT = "/v1/models/encoder:predict"
SECONDS_TO_COME = 2.0  # of clients who ask again and again, until their answers count; of others to end
UPLOAD = 16 * 2**20 - 1000  # bytes: what the server takes at most, all but


def asked(method, path, body=b"", *headers):
    """Return the bytes of a request."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def begun(length):
    """Return the headers of a prediction whose body is so long."""
    return f"POST {PREDICT} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\n\r\n".encode()


def rows_of(row, size=0):
    """Return the body of a request of about so many bytes, of one row or more."""
    text = json.dumps(row).encode()
    return b'{"instances": [' + b",".join([text] * max(size // len(text), 1)) + b"]}"


def first_row(export):
    with np.load(export / "check.npz") as arrays:
        return [round(float(value), 4) for value in arrays["inputs"][0]]


async def hold(port, content, seconds):
    """Send some bytes on a connection, read nothing, and keep it."""
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection(HOST, port, limit=1024)
        writer.transport.pause_reading()
        writer.write(content)
        await writer.drain()
        await asyncio.sleep(seconds)


async def drip(port, content):
    """Send a byte a second."""
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection(HOST, port)
        for byte in content:
            writer.write(bytes([byte]))
            await asyncio.sleep(1)


async def ask(port, requests, counts):
    """Ask one request after another, on one connection as long as it is kept; count the statuses of the answers."""
    reader = writer = None
    for request in requests:
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head.lower())
            await (reader.readexactly(int(length[1])) if length else reader.read(-1))
            counts[int(head[9:12])] += 1
            kept = length and b"connection: close" not in head.lower()
        except (OSError, asyncio.IncompleteReadError):
            counts[0] += 1
            kept = False
        if not kept and writer is not None:
            writer.close()
            writer = None
    if writer is not None:
        writer.close()


def floods(row, seconds):
    """Return name -> coroutines of a port and of counts, one for each connection of an attack."""
    large, burst = asked("POST", PREDICT, rows_of(row, 1_200_000)), asked("POST", PREDICT, rows_of(row, 2_400_000))
    lists = b'{"inputs": [' + b"[]," * (UPLOAD // 3 - 10) + b"[]]}"
    nested = b'{"inputs": [' + b"[[[[],[]],[]],[]]," * (UPLOAD // 18 - 10) + b"[]]}"
    numbers = b'{"instances": [[' + b"0.5," * (UPLOAD // 4 - 10) + b"0]]}"
    names = b"{" + b",".join(b'"%d":0' % number for number in range(UPLOAD // 11)) + b"}"

    def holding(number, content):
        return lambda port, counts: [hold(port, content, seconds) for _ in range(number)]

    def asking(number, content):
        return lambda port, counts: [ask(port, [content], counts) for _ in range(number)]

    def posting(number, body):
        return asking(number, asked("POST", PREDICT, body))

    return {
        "nothing": holding(0, b""),
        "answers not read, 380": holding(380, large),
        "idle connections, 1,100": holding(1100, b""),
        "slow headers, 300": lambda port, counts: [drip(port, b"GET /" + b"a" * 100) for _ in range(300)],
        "stalled uploads, 4 of 16 MB": holding(4, begun(UPLOAD) + b" " * (UPLOAD - 1)),
        "one byte of a body, 513": holding(513, begun(2) + b"{"),
        "2.4 MB at once, 10": asking(10, burst),
        "2.4 MB at once, 40": asking(40, burst),
        "2.4 MB at once, 120": asking(120, burst),
        "16 MB of []": posting(4, lists),
        "16 MB of nested lists": posting(4, nested),
        "16 MB of numbers": posting(4, numbers),
        "16 MB of names": posting(4, names),
        "16 MB in one number": posting(4, b'{"instances": [[0.' + b"7" * UPLOAD + b"]]}"),
        "gzip of 1 GB": asking(4, asked("POST", PREDICT, gzip.compress(b" " * 2**20) * 1024, "Content-Encoding: gzip")),
        "no HTTP, 2,000": lambda port, counts: [ask(port, [b"x\r\n\r\n"], counts) for _ in range(2000)],
    }


def mixed(row):
    """Return requests of many kinds, with the status that each is to get."""
    body, large = rows_of(row), rows_of(row, 1_200_000)
    model = PREDICT.removesuffix(":predict")
    once = [
        (asked("POST", PREDICT, body), 200),
        (asked("POST", PREDICT, gzip.compress(body), "Content-Encoding: gzip"), 200),
        (asked("POST", f"{model}/versions/1:predict", body), 200),
        (asked("POST", PREDICT, b'{"instances": [[1, 2]]}'), 400),
        (asked("POST", PREDICT, b'{"instances": [' + b"[" * 2000), 400),
        (asked("POST", PREDICT, b'{"instances": [[' + b"9" * 1000 + b"]]}"), 400),
        (asked("POST", PREDICT, body[:-9]), 400),
        (asked("POST", PREDICT, body, "Content-Encoding: br"), 415),
        (begun(10**9), 413),
        (asked("POST", f"{model}/versions/7:predict", body), 404),
        (asked("GET", PREDICT), 405),
        (asked("GET", "/", b"", "Origin: https://pages.example.com"), 400),
        *((asked("GET", path), 200) for path in ("/", "/healthz", "/readyz", "/metrics", model, f"{model}/metadata")),
        (asked("GET", "/nothing"), 404),
    ]  # fmt: skip
    return once * 10 + [(asked("POST", PREDICT, large), 200)]


async def attack(arguments, counts):
    row = first_row(arguments.export)
    if arguments.clients:
        asyncio.get_running_loop().call_later(SECONDS_TO_COME, counts.clear)
        again = itertools.repeat(asked("POST", PREDICT, rows_of(row)))
        await asyncio.gather(*(ask(arguments.port, again, counts) for _ in range(arguments.clients)))
    elif arguments.requests:
        kinds = itertools.islice(itertools.cycle(mixed(row)), arguments.requests)
        await asyncio.gather(*(ask_expecting(arguments.port, kinds, counts) for _ in range(8)))
    else:
        await asyncio.gather(*floods(row, arguments.seconds)[arguments.attack](arguments.port, counts))


async def ask_expecting(port, kinds, counts):
    """Ask one request after another; count as 0 those whose answer has another status than it should."""
    for request, status in kinds:
        found = collections.Counter()
        await ask(port, [request], found)
        counts[status if found[status] else 0] += 1


def main():
    parser = argparse.ArgumentParser(
        "benchmarks.attackers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("export", metavar="EXPORT", type=pathlib.Path)
    parser.add_argument("port", metavar="PORT", type=int)
    parser.add_argument("attack", metavar="ATTACK", nargs="?", default="nothing")
    parser.add_argument("--seconds", type=float, default=8.0, help="(default: %(default)s)")
    parser.add_argument("--clients", type=int, help="who ask for a row again and again, instead of an attack")
    parser.add_argument("--requests", type=int, help="of many kinds, by 8 clients, instead of an attack")
    arguments = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    counts = collections.Counter()
    with contextlib.suppress(TimeoutError):
        asyncio.run(asyncio.wait_for(attack(arguments, counts), arguments.seconds + SECONDS_TO_COME))
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
