"""Actors that hold what their calls made, and are replaced when they die: by others that repeat these calls."""

import itertools
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from ..errors import InputError

TRIES = 3  # of a call whose actor dies

Arguments = Callable[[int], tuple]  # number of an actor -> the arguments of a call


class ActorDied(Exception):
    """An actor ended before it returned a result."""


class Engine(Protocol):
    """What runs workers, each in a process of its own."""

    def room(self) -> int:
        """Return for how many workers there is room."""

    def start(self, number: int) -> list:
        """Return so many new workers."""

    def call(self, worker: Any, method: str, *arguments: Any) -> Any:
        """Begin a call of a method of a worker, and return what stands for its result."""

    def result(self, reference: Any) -> Any:
        """Wait for a result and return it. Raise ActorDied, or what the method raised."""

    def share(self, value: Any) -> Any:
        """Return what stands for a value as an argument, and is sent to each machine once."""

    def stop(self, worker: Any) -> None:
        """End a worker, dead or alive."""

    def close(self) -> None:
        """Leave the cluster."""


class Actors:
    """Some workers of an engine.

    begin: the arguments of `Worker.begin`.
    """

    def __init__(self, engine: Engine, number: int, begin: tuple):
        self.engine, self.number = engine, number
        self._names = map(str, itertools.count())
        self._closed = False
        # What an actor holds follows from these calls: method, arguments.
        self._made: dict[str, tuple[str, Arguments]] = {"": ("begin", lambda _: begin)}
        try:
            self._workers = engine.start(number)
        except ActorDied as error:
            raise InputError(
                f"Expected actors that start. Received: one that died: {error} The logs of Ray on its machine say why: "
                "/tmp/ray/session_latest/logs."
            ) from error
        self.each(*self._made[""])

    def make(self, owner: Any, method: str, arguments: Arguments) -> tuple[str, list]:
        """Let each actor make something that is kept as long as its owner. Return (its name, results)."""
        name = next(self._names)
        self._made[name] = method, lambda i: (name, *arguments(i))
        weakref.finalize(owner, self._forget, name).atexit = False
        return name, self.each(*self._made[name])

    def each(self, method: str, arguments: Arguments) -> list:
        """Call a method of every actor, and return what each returned, in their order."""
        calls = [self.engine.call(worker, method, *arguments(i)) for i, worker in enumerate(self._workers)]
        return [self._result(i, call, method, arguments) for i, call in enumerate(calls)]

    def one(self, number: int, method: str, *arguments: Any) -> Any:
        """Call a method of one actor, and return its result."""
        call = self.engine.call(self._workers[number], method, *arguments)
        return self._result(number, call, method, lambda _: arguments)

    def close(self) -> None:
        """End the actors, which remove their files, and leave the cluster."""
        if self._closed:
            return
        self._closed = True
        for call in [self.engine.call(worker, "end") for worker in self._workers]:
            try:
                self.engine.result(call)
            except ActorDied:  # its files stay, as nobody is left to remove them
                continue
        for worker in self._workers:
            self.engine.stop(worker)
        self.engine.close()

    def _result(self, number: int, call: Any, method: str, arguments: Arguments) -> Any:
        """Return the result of a call; an actor that dies is replaced, and the call repeated."""
        reason: Exception | None = None
        for _ in range(TRIES):
            try:
                return self.engine.result(call if reason is None else self._again(number, method, arguments))
            except ActorDied as error:
                reason = error
        raise InputError(
            f"Expected actors that live. Received: one that died {TRIES} times: {reason} If it was out of memory, give "
            "it fewer rows: more machines, and data in more shards."
        ) from reason

    def _again(self, number: int, method: str, arguments: Arguments) -> Any:
        """Begin a call of a new actor in the place of one that died, once it holds the same."""
        self.engine.stop(self._workers[number])
        [self._workers[number]] = [worker] = self.engine.start(1)
        for made in list(self._made.values()):
            if made != (method, arguments):
                self.engine.result(self.engine.call(worker, made[0], *made[1](number)))
        return self.engine.call(worker, method, *arguments(number))

    def _forget(self, name: str) -> None:
        self._made.pop(name, None)
        if not self._closed:
            for worker in self._workers:
                self.engine.call(worker, "forget", name)
