"""Time contenders side by side: each in a process of its own, in rounds, because the speed of a machine drifts.

The processes wait while another computes, so that none takes cores or memory of caches from it, and each tells the most
memory that it has had.
"""

import contextlib
import importlib
import multiprocessing
import pathlib
import re
import statistics
import time
import traceback

import numpy as np

from benchmarks.contenders import Seconds


def measure(jobs, repeats):
    """Return for each job, in rounds of one call of each, what it took, or why it could not run.

    Args:
        jobs: name -> (module, function, arguments): the function returns a function without arguments, which is timed.
            The argument x is the name of an .npy file.
        repeats: rounds, after one call of each that is not counted.

    Returns:
        name -> {"seconds": the median, "spread": (least, most), "value": what the calls return, "peak_bytes"}, or
        {"error": a line}.
    """
    context = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        workers = {name: _Worker(context, job) for name, job in jobs.items()}
        for worker in workers.values():
            stack.callback(worker.stop)
        for worker in workers.values():  # all at once, as they wait for disks most of the time
            worker.connection.send("start")
        for worker in workers.values():
            worker.answer()
        found = {name: worker.ask("prepare") for name, worker in workers.items()}
        times = {name: [] for name, answer in found.items() if "error" not in answer}
        for _ in range(repeats):
            for name in times:
                times[name].append(workers[name].ask("run")["seconds"])
        for name, seconds in times.items():
            found[name] |= {"seconds": statistics.median(seconds), "spread": (min(seconds), max(seconds))}
            found[name] |= workers[name].ask("peak")
    return found


class _Worker:
    """A process that prepares a job and runs it whenever it is asked to."""

    def __init__(self, context, job):
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_work, args=(other, *job), daemon=True)
        self.process.start()
        other.close()

    def ask(self, what):
        self.connection.send(what)
        return self.answer()

    def answer(self):
        try:
            return self.connection.recv()
        except EOFError:
            self.process.join()
            return {"error": f"the process ended with exit code {self.process.exitcode}"}

    def stop(self):
        self.connection.close()
        self.process.terminate()
        self.process.join()


def _work(connection, module, function, arguments):
    run = None
    with contextlib.suppress(EOFError):
        while True:
            what = connection.recv()
            try:
                if what == "start":
                    importlib.import_module(module)
                    connection.send({})
                elif what == "prepare":
                    run = getattr(importlib.import_module(module), function)(**_with_data(arguments))
                    value = run()
                    connection.send({"value": value.value if isinstance(value, Seconds) else value})
                elif what == "run":
                    start = time.perf_counter()
                    value = run()
                    seconds = value if isinstance(value, Seconds) else time.perf_counter() - start
                    connection.send({"seconds": float(seconds)})
                else:
                    connection.send({"peak_bytes": _peak_bytes()})
            except Exception as error:
                message = traceback.format_exception_only(error)[-1].strip().splitlines()[0]
                connection.send({"error": message[:200]})


def _peak_bytes():
    """Return the most memory that this process has had. (That of `resource` counts the process that started it.)"""
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path("/proc/self/status").read_text())[1])


def _with_data(arguments):
    """Return the arguments with x read from its file."""
    return {**arguments, "x": np.load(arguments["x"])} if "x" in arguments else arguments
