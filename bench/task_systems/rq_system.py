"""RQ, on Redis.

Its default worker forks for each job; `SimpleWorker`, which does not, is what its documentation has for speed. A
result is waited for in Redis (XREAD), by `latest_result(timeout)`.
"""

from __future__ import annotations

import sys

from redis import Redis
from rq import Queue
from rq.serializers import JSONSerializer

from task_systems import BlockingCaller, address

SETTINGS = "worker: SimpleWorker (no fork a job), JSONSerializer; client: enqueue, latest_result(timeout)"
LIMIT_S = 30


def noop(number: int) -> int:
    return number


def worker() -> list[str]:
    rq = [sys.executable, "-m", "rq.cli", "worker", "bench", "--url", f"redis://{address()}/0"]
    return [*rq, "-w", "rq.worker.SimpleWorker", "-S", "json", "--quiet"]


class Caller(BlockingCaller):
    """A pool of connections, made by its client."""

    def __init__(self) -> None:
        host, _, port = address().partition(":")
        # redis-py 8 gives up what waits for more than 5 s otherwise, as the first call may for its worker.
        self._queue = Queue("bench", connection=Redis(host, int(port), socket_timeout=None), serializer=JSONSerializer)

    def send(self, number: int) -> object:
        return self._queue.enqueue(noop, number)

    def result(self, sent: object) -> object:
        return sent.latest_result(timeout=LIMIT_S).return_value
