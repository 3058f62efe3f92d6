"""Who is let in: what each request holds, who waits for a turn, and what an answer that nobody takes leaves free."""

import asyncio
import pathlib
import subprocess
import sys

import pytest

from export.serve.admission import SMALL_BYTES, SMALL_ROOM, Holding, Room, Turns, memory_to_compute
from export.serve.answers import PIECE_BYTES, Answer
from export.serve.bodies import Pace
from export.serve.rest import RequestError
from tests.export.serve.conftest import ROOT

LARGE = SMALL_BYTES + 1


def test_large_things_leave_room_for_small_ones():
    room = Room("bodies", 3 * LARGE)
    large = [Holding(room) for _ in range(3)]
    for holding in large:
        holding.resize(LARGE)
    one_more, small = Holding(room), Holding(room)
    with pytest.raises(
        RequestError, match=r"^Expected fewer large bodies at once\. Received: more\. Try again\.$"
    ) as caught:
        one_more.resize(LARGE)
    assert caught.value.status == 503
    small.resize(SMALL_BYTES)
    large[0].release()
    one_more.resize(LARGE)
    assert one_more.bytes == LARGE


def test_small_things_are_bounded_too():
    room = Room("bodies", LARGE)
    for _ in range(SMALL_ROOM // SMALL_BYTES):
        Holding(room).resize(SMALL_BYTES)
    with pytest.raises(RequestError, match="fewer small bodies"):
        Holding(room).resize(1)
    Holding(room).resize(LARGE)


def test_what_grows_changes_rooms_and_what_is_refused_keeps_what_it_had():
    room = Room("answers", LARGE)
    holding = Holding(room)
    for size in (10, SMALL_BYTES, LARGE, 5, LARGE, 0):
        holding.resize(size)
    holding.resize(SMALL_BYTES)
    with pytest.raises(RequestError):
        holding.resize(LARGE + 1)
    assert holding.bytes == SMALL_BYTES
    Holding(room).resize(LARGE)
    holding.release()
    holding.release()  # twice is once
    assert holding.bytes == 0


def test_turns_come_in_order():
    """The fourth fits beside the first, but waits until the third had its turn."""

    async def run():
        turns, order, go = Turns(10), [], [asyncio.Event() for _ in range(4)]

        async def take(number, cost):
            async with turns.turn(cost):
                order.append(number)
                await go[number].wait()

        tasks = [asyncio.create_task(take(number, cost)) for number, cost in enumerate((6, 4, 10, 1))]
        await asyncio.sleep(0)
        assert order == [0, 1]
        go[1].set()
        await asyncio.sleep(0.01)
        assert order == [0, 1]
        go[0].set()
        await asyncio.sleep(0.01)
        assert order == [0, 1, 2]
        go[2].set(), go[3].set()
        await asyncio.gather(*tasks)
        assert order == [0, 1, 2, 3]
        async with turns.turn(10):  # all is free again
            pass

    asyncio.run(run())


def test_who_leaves_while_waiting_takes_nothing():
    async def run():
        turns = Turns(10)

        async def take(cost):
            async with turns.turn(cost):
                await asyncio.sleep(0.02)

        first, left, last = (asyncio.create_task(take(cost)) for cost in (10, 10, 10))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.gather(first, last)
        with pytest.raises(asyncio.CancelledError):
            await left
        async with turns.turn(10):
            pass

    asyncio.run(run())


def test_memory_to_compute_by_hand():
    assert memory_to_compute(b"[1,2]") == 28 * 5
    numbers = b"[" + b"1," * SMALL_BYTES + b"1]"
    assert memory_to_compute(numbers) == len(numbers) + 56 * SMALL_BYTES + 80
    lists = b"[" + b"[]," * SMALL_BYTES + b"{}]"
    assert memory_to_compute(lists) == len(lists) + 56 * SMALL_BYTES + 80 * (SMALL_BYTES + 2)
    names = b"{" + b'"a":1,' * SMALL_BYTES + b'"b":1}'
    assert memory_to_compute(names) == len(names) + 56 * SMALL_BYTES + 80 + 120 * (SMALL_BYTES + 1)


@pytest.mark.skipif(not pathlib.Path("/proc/self/statm").exists(), reason="no /proc")
def test_memory_that_is_free_is_given_back_beside_what_is_in_use():
    """Although a large block was freed before, after which the C library would keep smaller ones."""
    code = (
        "import pathlib, sys\n"
        "from export.serve import admission\n"
        "pages = lambda: int(pathlib.Path('/proc/self/statm').read_text().split()[1])\n"
        "large = bytearray(30 * 2**20); del large\n"
        "admission.give_memory_back()\n"
        "before = pages()\n"
        "blocks = [bytearray(b'a' * 2**20) for _ in range(40)]\n"
        "del blocks[:-1]\n"
        "print((pages() - before) * 4096 // 2**20)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 4


class Client:
    """The ASGI side of a client who takes messages when told to."""

    def __init__(self):
        self.messages, self.may_take = [], asyncio.Semaphore(0)

    async def send(self, message):
        await self.may_take.acquire()
        self.messages.append(message)

    def take(self, number=1):
        for _ in range(number):
            self.may_take.release()


def test_an_answer_counts_until_it_is_taken():
    async def run():
        client, taken = Client(), []
        content = bytes(range(256)) * (PIECE_BYTES // 256) + b"end"
        answer = asyncio.create_task(Answer(content, lambda: taken.append(1))({}, None, client.send))
        client.take(3)
        await asyncio.sleep(0.01)
        assert [len(message.get("body", b"")) for message in client.messages] == [0, PIECE_BYTES, 3]
        assert taken == []
        client.take()
        await answer
        assert taken == [1]
        assert b"".join(message.get("body", b"") for message in client.messages) == content
        assert (b"content-length", str(len(content)).encode()) in client.messages[0]["headers"]
        assert [message.get("more_body") for message in client.messages] == [None, True, True, False]

    asyncio.run(run())


def test_an_answer_whose_client_leaves_counts_no_more():
    async def run():
        async def send(message):
            raise OSError

        taken = []
        with pytest.raises(OSError):  # noqa: PT011, of the test's own
            await Answer(b"{}", lambda: taken.append(1))({}, None, send)
        assert taken == [1]

    asyncio.run(run())


def test_large_bodies_are_read_a_few_at_a_time_and_small_ones_at_once():
    async def run():
        pace, order = Pace(), []

        async def stream(size):
            for _ in range(2):
                yield bytes(size)

        async def read(name, size):
            async for _ in pace.paced(stream(size)):
                order.append(name)

        await asyncio.gather(*(read("large", LARGE) for _ in range(40)), *(read("small", 10) for _ in range(40)))
        assert (order.count("large"), order.count("small")) == (80, 80)
        assert order[:40] == ["large"] * 40  # the first piece of each comes unasked
        assert max(i for i, name in enumerate(order) if name == "small") < 140
        await read("large", LARGE)  # it works on

    asyncio.run(run())
