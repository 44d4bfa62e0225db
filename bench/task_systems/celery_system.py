"""Celery, with Redis as its broker and as its result backend.

`get()` is told of results by Redis' publish and subscribe, as its documentation says of this backend. The pool `solo`
runs tasks in the worker's own thread, which costs least for those that do nothing: `threads` and `prefork` are slower.
"""

from __future__ import annotations

import sys

from celery import Celery, chord

from task_systems import BlockingCaller, address

SETTINGS = (
    "worker: --pool solo, prefetch multiplier 100, without gossip, mingle and heartbeat; JSON; "
    "results by publish and subscribe; client: apply_async, get"
)
LIMIT_S = 30

app = Celery("bench", broker=f"redis://{address()}/0", backend=f"redis://{address()}/1")
app.conf.update(
    worker_prefetch_multiplier=100,  # "if you have many tasks with a short duration": Optimizing
    task_ignore_result=False,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)


@app.task
def noop(number: int) -> int:
    return number


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


def worker() -> list[str]:
    celery = [sys.executable, "-m", "celery", "-A", __name__, "worker", "--pool", "solo"]
    return [*celery, "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "ERROR"]


class Caller(BlockingCaller):
    """One connection for all calls of a thread."""

    def send(self, number: int) -> object:
        return noop.apply_async((number,))

    def result(self, sent: object) -> object:
        return sent.get(timeout=LIMIT_S)

    def chord(self, count: int) -> None:
        sent = chord(noop.s(number) for number in range(count))(total.s())
        assert sent.get(timeout=LIMIT_S) == count * (count - 1) // 2
