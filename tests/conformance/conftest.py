"""Each scenario runs over both shells, against a log in memory and one in files."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from typing import Any

import pytest
import uvloop

from patience import PATIENCE_S
from shells import SHELLS, LoopThread

HANGS_S = 4 * PATIENCE_S


class Site:
    """A broker in a thread of its own, and clients of one shell.

    Args:
        shell: makes clients; see `shells`.
        thread: where the broker is.
        make_broker: makes one that has not started, with the options of a `RunningBroker`.
    """

    def __init__(self, shell, thread: LoopThread, make_broker) -> None:
        self.shell = shell
        self._thread = thread
        self._make_broker = make_broker
        self._clients: list[Any] = []
        self._brokers: list[Any] = []

    def broker(self, **options: Any) -> Any:
        """Another broker, with these options."""

        async def started():
            broker = self._make_broker(**options)
            await broker.start()
            return broker

        self._brokers.append(self._thread.run(started))
        return self._brokers[-1]

    def client(self, broker: Any, **options: Any) -> Any:
        """Another client of a broker; closed with the test."""
        options.setdefault("timeout", PATIENCE_S)
        self._clients.append(self.shell.connect(broker.url, **options))
        return self._clients[-1]

    def on_broker(self, call, *arguments: Any) -> Any:
        """Calls something of a broker, where it is."""
        return self._thread.run(call, *arguments)

    def clock(self) -> float:
        """The time, in seconds."""
        return time.monotonic()

    def end(self) -> None:
        for client in self._clients:
            client.close()
        for broker in self._brokers:
            self._thread.run(broker.stop)

    def until(self, true) -> None:
        """Returns once something is so; it is looked at on the broker's thread."""
        deadline = time.monotonic() + PATIENCE_S
        while not self._thread.run(true):
            assert time.monotonic() < deadline, "it does not come to be so"
            time.sleep(0.001)


@pytest.fixture(scope="session")
def loop_threads():
    """An event loop of each kind, by the log of the scenarios that are on it."""
    threads = {"memory": LoopThread(asyncio.new_event_loop()), "file": LoopThread(uvloop.new_event_loop())}
    yield threads
    for thread in threads.values():
        thread.stop()


@pytest.fixture
def loop_thread(loop_threads, log):
    return loop_threads[log]


@pytest.fixture(autouse=True)
def nothing_hangs():
    """Whatever blocks for too long has failed, and does not keep the others from running."""

    def too_long(*_):
        raise TimeoutError(f"nothing happened for {HANGS_S} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, HANGS_S)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(params=["memory", "file"])
def log(request) -> str:
    """Where the broker keeps what it holds."""
    return request.param


@pytest.fixture(params=SHELLS)
def site(request, log, loop_thread, running_broker, tmp_path):
    def make(**options):
        if log == "file":
            options.setdefault("data", tmp_path / f"data{len(site._brokers)}")
        return running_broker(**options)

    site = Site(SHELLS[request.param](loop_thread), loop_thread, make)
    yield site
    site.end()
    problems, loop_thread.problems = loop_thread.problems, []
    assert problems == []


@pytest.fixture
def broker(site):
    """The broker."""
    return site.broker()


@pytest.fixture
def client(site, broker):
    """A client of it."""
    return site.client(broker)


@pytest.fixture
def together():
    """Runs functions at the same time, each in a thread, and raises what one of them raises."""

    def run(*calls) -> list[Any]:
        results: list[Any] = [None] * len(calls)

        def work(number: int) -> None:
            try:
                results[number] = calls[number]()
            except Exception as error:  # noqa: BLE001 (it is raised below)
                results[number] = error

        threads = [threading.Thread(target=work, args=(number,)) for number in range(len(calls))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        errors = [each for each in results if isinstance(each, Exception)]
        if errors:
            raise errors[0]
        return results

    return run
