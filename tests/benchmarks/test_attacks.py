"""The command of the attacks, and its attackers: what they count of a server's answers."""

import asyncio
import collections
import contextlib
import sys
import types

import pytest

from benchmarks import attackers, attacks

ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 503 Full\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    b"HTTP/1.1 400 Bad Request\r\n\r\nno length",
    b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut",
    b"",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
]


def test_attackers_count_answers_and_what_did_not_come():
    """On the same connection while it is kept."""
    counts, connections, ended, answers = collections.Counter(), [], [], iter(ANSWERS)

    async def serve(reader, writer):
        connections.append(0)
        with contextlib.suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                connections[-1] += 1
                answer = next(answers)
                writer.write(answer)
                if answer[9:12] + answer[-2:] != b"200{}":
                    break
        writer.close()
        await writer.wait_closed()
        ended.append(True)

    async def run():
        async with await asyncio.start_server(serve, attackers.HOST, 0) as server:
            port = server.sockets[0].getsockname()[1]
            await attackers.ask(port, [attackers.asked("GET", "/")] * len(ANSWERS), counts)
            while len(ended) < 5:
                await asyncio.sleep(0.001)

    asyncio.run(run())
    assert counts == {200: 2, 503: 1, 400: 1, 0: 2}
    assert connections == [2, 1, 1, 1, 1]


def test_requests_are_as_long_as_they_say():
    assert attackers.asked("POST", "/a", b"{}", "A: b") == (
        b"POST /a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\nA: b\r\n\r\n{}"
    )
    assert attackers.rows_of([0.5, 1]) == b'{"instances": [[0.5, 1]]}'
    assert len(attackers.rows_of([0.5, 1], 1000)) == pytest.approx(1000, abs=200)


@pytest.fixture
def main(monkeypatch):
    def main(*arguments):
        monkeypatch.setattr(sys, "argv", ["benchmarks.attacks", *arguments])
        with pytest.raises(SystemExit) as ended:
            attacks.main()
        return ended.value.code

    return main


def test_attacks_are_listed(main, capsys):
    assert main("--list") == 0
    names = capsys.readouterr().out.splitlines()
    assert {"answers not read, 380", "overload by 700 clients", "20,000 requests of many kinds"} < set(names)


@pytest.mark.parametrize(("met", "status"), [(True, 0), (False, 1)])
def test_attacks_are_chosen_by_how_their_names_begin(main, monkeypatch, met, status):
    chosen = []
    group = types.SimpleNamespace(
        ATTACKS=dict.fromkeys(("a first", "second", "a third")), run=lambda names, options: chosen.append(names) or met
    )
    monkeypatch.setattr(attacks, "GROUPS", (group,))
    assert main("--only", "second", "a t") == status
    assert main() == status
    assert chosen == [["second", "a third"], ["a first", "second", "a third"]]


def test_attacks_that_are_unknown_are_refused(main, capsys):
    assert main("--only", "nothing of the kind") == 2
    assert "expected beginnings of names that --list prints. Received: nothing of the kind." in capsys.readouterr().err
