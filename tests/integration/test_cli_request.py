"""`wherry request`, as a user has it."""

from __future__ import annotations

import json

import pytest

import wherry.sync
from serving import DEADLINE_S, Served

TIMED_OUT = 4


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with Served(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


def answer(served, **reply):
    """Answers one request; returns it."""
    with wherry.sync.connect(served.url) as broker:
        (request,) = broker.queue("sums").get(wait=DEADLINE_S)
        request.reply(**reply)
        request.ack().wait()
        return request


def test_it_prints_the_reply(served):
    with served.start("request", "sums", "[1, 2]", "--header", "kind=sum", "--priority", "3", stdin=None) as asking:
        request = answer(served, body=b"3")
        out, err = asking.communicate(timeout=DEADLINE_S)
    assert (asking.returncode, out, err) == (0, b"3\n", b"")
    assert (request.body, request.headers["kind"], request.priority) == (b"[1, 2]", "sum", 3)


def test_it_reads_the_request_from_standard_input(served):
    with served.start("request", "sums", "--json") as asking:
        asking.stdin.write(b"\xff\x00 bytes")
        asking.stdin.close()
        asking.stdin = None
        assert answer(served, body=b"x", headers={"n": 1}).body == b"\xff\x00 bytes"
        out, err = asking.communicate(timeout=DEADLINE_S)
    told = json.loads(out)
    assert (told["body"], told["headers"]["n"], err) == ("x", 1, b"")


def test_nobody_answers(served):
    done = served.run("request", "nobody", "x", "--timeout", "0.2")
    assert (done.returncode, done.stdout) == (TIMED_OUT, "")
    assert done.stderr.startswith("wherry: no reply to a request in nobody came within 0.2 s")
