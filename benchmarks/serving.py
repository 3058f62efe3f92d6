"""Requests a second, and how long they take, of `python -m export.serve`, with 1, 8 and 32 clients on this machine.

A client sends one row a request and waits for the answer, on a connection that stays open. The clients are one process
of their own, which writes bytes that were made before and compares the answers after the time is measured. Every answer
is checked against the SavedModel in this process. EXPORT is what `python -m export` wrote.

  python -m benchmarks.serving exports/mnist
  python -m benchmarks.serving exports/mnist --clients 8 --seconds 20 --signature reconstruct

Exits with 1 if an answer is wrong.
"""

import argparse
import asyncio
import json
import os
import pathlib
import re
import subprocess
import sys
import time

import numpy as np

TOLERANCE = 1e-5  # of a feature of about 1: rows computed in batches of other sizes differ by rounding


def main():
    parser = argparse.ArgumentParser(
        "benchmarks.serving", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("export", metavar="EXPORT", type=pathlib.Path)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32], help="(default: 1 8 32)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement (default: %(default)s)")
    parser.add_argument("--signature", default="serving_default", help="(default: %(default)s)")
    parser.add_argument("--only-ask", type=int, metavar="PORT", help=argparse.SUPPRESS)  # the process of the clients
    arguments = parser.parse_args()
    if arguments.only_ask:
        print(json.dumps(asyncio.run(ask_at_once(arguments, arguments.clients[0]))))
    else:
        sys.exit(bool(measure(arguments)))


def measure(arguments):
    """Print a row for the model in this process and for each number of clients. Returns how many answers were wrong."""
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}\n")
    print("| clients | requests a second | p50 | p99 | wrong answers |\n|---|---|---|---|---|", flush=True)
    print(f"| in process, one row a call | {in_process(arguments):.0f} | | | |", flush=True)
    wrong = 0
    command = [sys.executable, "-m", "export.serve", str(arguments.export), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            port = next(int(found[1]) for line in server.stdout if (found := re.search(r"predict .*:(\d+)/", line)))
            run_clients(arguments, arguments.clients[0], port, seconds=1)  # warm
            for clients in arguments.clients:
                result = run_clients(arguments, clients, port, arguments.seconds)
                wrong += result["wrong"]
                print("| {clients} | {rate:.0f} | {p50:.1f} ms | {p99:.1f} ms | {wrong} |".format(**result), flush=True)
        finally:
            server.terminate()
    print(f"\nload average {os.getloadavg()[0]:.1f} at the end")
    return wrong


def run_clients(arguments, clients, port, seconds):
    command = [sys.executable, "-m", "benchmarks.serving", str(arguments.export), "--only-ask", str(port)]
    command += ["--clients", str(clients), "--seconds", str(seconds), "--signature", arguments.signature]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def rows_of(arguments):
    with np.load(arguments.export / "check.npz") as arrays:
        return arrays["inputs"].astype("float32")


def newest(arguments):
    """The signature that is served, in this process: array -> dict of arrays."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    version = max((arguments.export / "saved_model").iterdir(), key=lambda path: int(path.name))
    model = tf.saved_model.load(str(version))
    signature = model.signatures[arguments.signature]
    (name,) = signature.structured_input_signature[1]

    def call(rows):
        return {key: value.numpy() for key, value in signature(**{name: tf.constant(rows)}).items()}

    call.model = model  # kept, because the signature uses its variables
    return call


def in_process(arguments):
    """Calls of the signature a second, one row each."""
    call, rows = newest(arguments), rows_of(arguments)
    call(rows[:1])
    done, end = 0, time.perf_counter() + min(2.0, arguments.seconds)
    while time.perf_counter() < end:
        call(rows[done % len(rows)][None])
        done += 1
    return done / min(2.0, arguments.seconds)


async def ask_at_once(arguments, clients):
    """Rate, quantiles of the time in ms and wrong answers of clients that ask one after another."""
    rows = rows_of(arguments)
    requests = [request(arguments, row) for row in rows]
    answers, times = [], []
    began = time.perf_counter()
    end = began + arguments.seconds
    await asyncio.gather(*(client(arguments.only_ask, requests, 7 * n, end, answers, times) for n in range(clients)))
    seconds = time.perf_counter() - began
    expected = newest(arguments)(rows)
    wrong = sum(not right(status, body, {name: value[row] for name, value in expected.items()})
                for row, status, body in answers)  # fmt: skip
    p50, p99 = 1000 * np.quantile(times, [0.5, 0.99])
    return {"clients": clients, "rate": len(times) / seconds, "p50": p50, "p99": p99, "wrong": wrong}


def request(arguments, row):
    """The bytes of a request for one row."""
    body = json.dumps({"signature_name": arguments.signature, "instances": [np.round(row, 7).tolist()]}).encode()
    head = f"POST /v1/models/encoder:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def client(port, requests, row, end, answers, times):
    """Ask one request after another until `end`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < end:
        row = (row + 1) % len(requests)
        began = time.perf_counter()
        writer.write(requests[row])
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))
        times.append(time.perf_counter() - began)
        answers.append((row, int(head[9:12]), body))
    writer.close()


def right(status, body, expected):
    """Whether an answer is the model's own."""
    if status != 200:
        return False
    (answer,) = json.loads(body)["predictions"]
    answer = answer if isinstance(answer, dict) else {next(iter(expected)): answer}
    return answer.keys() == expected.keys() and all(
        np.allclose(answer[name], value, rtol=TOLERANCE, atol=TOLERANCE) for name, value in expected.items()
    )


if __name__ == "__main__":
    main()
