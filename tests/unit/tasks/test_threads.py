from __future__ import annotations

import asyncio
import contextvars
import threading
import time

import pytest

from wherry.tasks.threads import Interrupt, Threads

LIMIT_S = 20
FOUND = contextvars.ContextVar("found", default="nothing")


@pytest.fixture
async def threads():
    threads = Threads(4)
    yield threads
    threads.close()


async def test_calls_return_and_raise(threads):
    assert await threads.run(lambda: 3, None) == 3
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 // 0, None)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await threads.run(lambda: next(iter(())), None)


async def test_a_call_sees_the_context_of_who_makes_it(threads):
    FOUND.set("it")
    assert await threads.run(FOUND.get, None) == "it"


async def test_as_many_run_at_a_time_as_there_are_threads(threads):
    barrier = threading.Barrier(4)  # which nobody passes before four have come
    places = await asyncio.gather(*[threads.run(lambda: barrier.wait(LIMIT_S), None) for _ in range(8)])
    assert sorted(places) == [0, 0, 1, 1, 2, 2, 3, 3]


async def test_of_many_calls_each_gets_its_own(threads):
    results = await asyncio.gather(*[threads.run(lambda n=n: n, None) for n in range(1_000)])
    assert results == list(range(1_000))


async def test_what_is_cancelled_before_it_begins_is_not_called():
    threads, gate, called = Threads(1), threading.Event(), []
    first = asyncio.ensure_future(threads.run(lambda: gate.wait(LIMIT_S), None))
    second = asyncio.ensure_future(threads.run(lambda: called.append(1), None))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.sleep(0)
    gate.set()
    assert await first
    assert await threads.run(lambda: 3, None) == 3
    assert called == []
    threads.close()


async def test_what_is_cancelled_while_it_runs_leaves_its_thread_to_others():
    threads, began, gate = Threads(1), threading.Event(), threading.Event()
    first = asyncio.ensure_future(threads.run(lambda: (began.set(), gate.wait(LIMIT_S)), None))
    await asyncio.to_thread(began.wait, LIMIT_S)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    gate.set()
    assert await threads.run(lambda: 3, None) == 3
    threads.close()


async def test_time_is_over_in_the_call_itself(threads):
    def busy() -> None:
        until = time.monotonic() + LIMIT_S
        while time.monotonic() < until:
            pass

    with pytest.raises(TimeoutError):
        await threads.run(busy, 0.01)


def test_time_is_over_before_a_thread_comes_to_the_call():
    made, interrupt = [], Interrupt()
    interrupt.fire()
    with pytest.raises(TimeoutError):
        interrupt.around(lambda: made.append(1))
    assert (made, interrupt.fired) == ([], True)


def test_time_is_over_when_the_call_is():
    interrupt = Interrupt()
    assert interrupt.around(lambda: 3) == 3
    interrupt.fire()
    assert not interrupt.fired


async def test_closed_threads_end(threads):
    before = {each for each in threading.enumerate() if each.name.startswith("wherry-task")}
    mine = Threads(2)
    await asyncio.gather(*[mine.run(lambda: time.sleep(0.01), None) for _ in range(2)])
    started = {each for each in threading.enumerate() if each.name.startswith("wherry-task")} - before
    assert started
    mine.close()
    for each in started:
        each.join(LIMIT_S)
        assert not each.is_alive()
