"""examples/web, as a user would run it: a real ASGI framework, a real broker, and the worker as a process."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

import wherry
from serving import Served

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "web"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with Served(tmp_path_factory.mktemp("web"), WHERRY_QUEUE_LEASE_MS="60000") as running:
        yield running


@pytest.fixture
def example(served, monkeypatch):
    monkeypatch.setenv("WHERRY_URL", served.url)
    spec = importlib.util.spec_from_file_location("web_example", FOLDER / "app.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)
    return module


async def test_a_full_queue_is_a_503_that_says_when_to_come_back(example, served):
    async with (
        example.lifespan(example.app),
        httpx.AsyncClient(transport=httpx.ASGITransport(example.app), base_url="http://web") as web,
        wherry.connect(served.url) as broker,
    ):
        first = await web.post("/reports?kind=yearly")
        assert first.status_code == 202
        made = first.json()["id"]
        await broker.queue("reports").alter(max_messages=1)
        refused = await web.post("/reports")
        assert refused.status_code == 503
        assert 1 <= int(refused.headers["Retry-After"]) <= 30
        assert "is full" in refused.json()["error"]
        assert made_by_worker(served) == f"{made}: a yearly report"
        assert (await web.post("/reports")).status_code == 202
        await broker.queue("reports").purge()
        await broker.queue("reports").alter(max_messages=10_000)


def made_by_worker(served):
    """The first line of a worker, which is stopped once what it tells of is settled."""
    command = [sys.executable, str(FOLDER / "worker.py")]
    with subprocess.Popen(command, env=served.environ, stdout=subprocess.PIPE, text=True) as worker:
        try:
            line = worker.stdout.readline().strip()
            until_settled(served)
        finally:
            worker.send_signal(signal.SIGINT)
    return line


def until_settled(served):
    for _ in range(100):
        (queue,) = json.loads(served.out("queue", "list", "--json"))
        if not queue["leased"]:
            return
    raise AssertionError("the worker settles nothing")
