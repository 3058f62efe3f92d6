"""The attacks on `python -m export.serve`, on this machine alone, by its loopback: what others get, and memory."""

import asyncio
import contextlib
import dataclasses
import json
import pathlib
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from benchmarks.attackers import HOST, PREDICT, asked, first_row, floods, rows_of

HEALTH_SECONDS, PREDICT_SECONDS = 0.2, 1.0
MEGABYTES, MEGABYTES_LATER, LOG_BYTES = 300, 100, 100_000
USEFUL = 0.8  # of the requests a second that are answered without overload
DESCRIPTORS = 1024  # of the server
SECONDS_TO_START, SECONDS_TO_REST, SECONDS_MORE = 120, 3, 30  # SECONDS_MORE: after which an attacker is ended
CLIENTS, TOO_MANY, ROUNDS = 32, 700, 3
REQUESTS, REQUESTS_BEFORE, SECONDS_FOR_REQUESTS = 20_000, 5_000, 240
MEGABYTES_OF_REQUESTS = 20
CHANGES = 20
PRESET = pathlib.Path(__file__).parents[1] / "models" / "mnist_stacked"


@dataclasses.dataclass
class Server:
    process: subprocess.Popen
    port: int
    export: pathlib.Path
    log: pathlib.Path

    def megabytes(self):
        """Return the resident megabytes. End the program if the server has ended."""
        if self.process.poll() is not None:
            raise SystemExit(f"The server ended with status {self.process.returncode}.")
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def attack(self, *arguments, seconds, look=lambda: None):
        """Run an attacker, and look 20 times a second. Return what it counted, or None if it did not end in time."""
        command = [sys.executable, "-m", "benchmarks.attackers", str(self.export), str(self.port), *arguments]
        end = time.monotonic() + seconds + SECONDS_MORE
        with subprocess.Popen([*command, "--seconds", str(seconds)], stdout=subprocess.PIPE, text=True) as attacker:
            while attacker.poll() is None:
                look()
                time.sleep(0.05)
                if time.monotonic() > end:
                    attacker.kill()
                    return None
            return {int(status): number for status, number in json.loads(attacker.stdout.read()).items()}


@contextlib.contextmanager
def serving(export, folder):
    """Serve a copy of an export, whose versions may be changed."""
    shutil.copytree(export, folder / "export")
    log = folder / "log"
    with log.open("wb") as errors, subprocess.Popen(
        [sys.executable, "-m", "export.serve", str(folder / "export"), "--port", "0"],
        stdout=subprocess.PIPE, stderr=errors, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS)),
    ) as process:  # fmt: skip
        late = threading.Timer(SECONDS_TO_START, process.kill)
        late.start()
        try:
            ports = (found[1] for line in process.stdout if (found := re.search(r"predict .*:(\d+)/", line)))
            port = next(ports, None)
            late.cancel()
            if port is None:
                raise SystemExit(f"The server did not start within {SECONDS_TO_START} s: {log.read_text()}")
            yield Server(process, int(port), folder / "export", log)
        finally:
            late.cancel()
            process.kill()


class Bystander(threading.Thread):
    """Ask the same again and again, on a new connection each time; keep how long it took and what came."""

    def __init__(self, port, request, pause):
        super().__init__(daemon=True)
        self.port, self.request, self.pause, self.found, self.stopped = port, request, pause, [], threading.Event()

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
                writer.write(self.request)
                answer = await reader.read(-1)
                writer.close()
        return answer.partition(b"\r\n\r\n")[0].lower()

    def end(self):
        self.stopped.set()
        self.join(15)
        return self.found


@contextlib.contextmanager
def bystanders(server):
    """Two who ask meanwhile, /healthz and for a row: (found, found), to be read when the block has ended."""
    row = rows_of(first_row(server.export))
    closing = "Connection: close"
    both = [
        Bystander(server.port, asked("GET", "/healthz", b"", closing), 0.02),
        Bystander(server.port, asked("POST", PREDICT, row, closing), 0.05),
    ]
    for one in both:
        one.start()
    yield both[0].found, both[1].found
    for one in both:
        one.end()


def flood(server, name, options, idle):
    """Return whether all goals were met; print the row of the table."""
    most, logged = [0.0], server.log.stat().st_size
    with bystanders(server) as (healthy, predicted):
        counts = server.attack(
            name, seconds=options.seconds, look=lambda: most.append(max(most.pop(), server.megabytes()))
        )
    time.sleep(SECONDS_TO_REST)
    slowest = max((seconds for seconds, _ in healthy), default=float("inf"))
    well = sum(answer.startswith(b"http/1.1 200") for _, answer in predicted)
    refused = [seconds for seconds, answer in predicted if b"http/1.1 503" in answer and b"retry-after" in answer]
    lost = len(predicted) - well - len(refused)
    unhealthy = sum(not answer.startswith(b"http/1.1 200") for _, answer in healthy)
    more, later = most[0] - idle, server.megabytes() - idle
    logged = server.log.stat().st_size - logged
    theirs = " ".join(f"{number} x {status}" for status, number in sorted((counts or {}).items()))
    cells = [
        name, f"{slowest:.3f}", f"{unhealthy} of {len(healthy)}", well, len(refused), lost,
        f"{max((seconds for seconds, _ in predicted), default=0):.2f}", f"{more:.0f}", f"{later:.0f}",
        f"{logged / 1000:.0f}", theirs,
    ]  # fmt: skip
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    return (
        counts is not None and slowest <= HEALTH_SECONDS and not unhealthy and not lost
        and max(refused, default=0) <= PREDICT_SECONDS
        and more <= MEGABYTES and later <= MEGABYTES_LATER and logged <= LOG_BYTES
    )  # fmt: skip


def say(name, text):
    print(f"\n{name}: {text}.", flush=True)


def overload(server, name, options, idle):
    """Far more clients than are answered at once: how many useful answers a second there are, beside a few clients'."""
    rates = {CLIENTS: [], TOO_MANY: []}
    for _ in range(ROUNDS):
        for clients in rates:
            counts = server.attack("--clients", str(clients), seconds=options.seconds) or {}
            rates[clients].append(counts.get(200, 0) / options.seconds)
    few, many = (statistics.median(rates[clients]) for clients in rates)
    say(
        name, f"{many:.0f} rows a second of {TOO_MANY} clients, {many / few:.0%} of the {few:.0f} of {CLIENTS} "
        f"(medians of {ROUNDS} rounds; goal: {USEFUL:.0%})"
    )  # fmt: skip
    return many >= USEFUL * few


def many_requests(server, name, options, idle):
    """Requests of all kinds, most of them wrong: each gets its status, and memory stays as it was after the first."""

    def ask(number):
        return server.attack("--requests", str(number), seconds=SECONDS_FOR_REQUESTS) or {}

    ask(REQUESTS_BEFORE)
    before = server.megabytes()
    counts = ask(REQUESTS)
    time.sleep(SECONDS_TO_REST)
    more, wrong, found = server.megabytes() - before, counts.get(0, 0), sum(counts.values())
    say(
        name, f"{found} answers, {wrong} of them with another status than they should have (goals: {REQUESTS}, 0); "
        f"{more:.0f} MB more than after the first {REQUESTS_BEFORE} (goal: {MEGABYTES_OF_REQUESTS} at most)"
    )  # fmt: skip
    return found == REQUESTS and not wrong and more <= MEGABYTES_OF_REQUESTS


def changes(server, name, options, idle):
    """Versions that appear, broken ones among them, and vanish, while clients ask: none of their requests is lost."""
    versions, stopped = server.export / "saved_model", threading.Event()
    source = shutil.copytree(versions / "1", server.export / "source")

    def change():
        for number in range(2, 2 + CHANGES):
            aside = shutil.copytree(source, versions / f".new-{number}")
            for file in ((), ("saved_model.pb",), ("variables/variables.data-00000-of-00001",))[number % 3]:
                (aside / file).write_bytes(b"no model")
            aside.rename(versions / str(number))
            if stopped.wait(options.seconds / CHANGES):
                return
            if number % 2:
                shutil.rmtree(versions / str(number))

    changing = threading.Thread(target=change)
    changing.start()
    counts = server.attack("--clients", str(CLIENTS), seconds=options.seconds) or {}
    stopped.set()
    changing.join()
    lost = sum(number for status, number in counts.items() if status != 200)
    found = sum(counts.values())
    say(name, f"{lost} of {found} requests lost (goal: 0)")
    return bool(found) and not lost


ATTACKS = {
    **dict.fromkeys(floods([0.0], 1), flood),
    f"overload by {TOO_MANY} clients": overload,
    f"{REQUESTS:,} requests of many kinds": many_requests,
    f"{CHANGES} changes of versions": changes,
}


def attack(names, options):
    """Run these of ATTACKS on one server. Return whether all goals were met."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        export = options.export or folder / "made"
        if not options.export:
            command = [sys.executable, "-m", "export", str(PRESET), "--out", str(export), "--to", "saved_model"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=600)
        with serving(export, folder) as server:
            server.attack("--clients", "4", seconds=1)  # what happens once
            idle = server.megabytes()
            print(
                f"The server has {DESCRIPTORS} descriptors and takes {idle:.0f} MB when idle. Goals: /healthz "
                f"within {HEALTH_SECONDS} s, no prediction lost, refusals within {PREDICT_SECONDS:.0f} s, "
                f"{MEGABYTES} MB above idle, {MEGABYTES_LATER} MB {SECONDS_TO_REST} s later, "
                f"{LOG_BYTES / 1000:.0f} kB of log.\n"
            )
            columns = ["attack", "slowest /healthz, s", "not 200", "predicted", "refused", "lost", "slowest, s"]
            print("| " + " | ".join([*columns, "MB more", "MB later", "kB of log", "attackers' answers"]) + " |")
            print("|---" * 11 + "|", flush=True)
            met = [ATTACKS[name](server, name, options, idle) for name in names]
            return all(met)
