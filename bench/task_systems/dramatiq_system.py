"""Dramatiq, with Redis as its broker and as its result backend.

`get_result(block=True)` waits in Redis (BRPOPLPUSH), and asks nothing twice.
"""

from __future__ import annotations

import sys

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from task_systems import BlockingCaller, address

THREADS = 8
SETTINGS = f"worker: --processes 1 --threads {THREADS}; JSON; Results(RedisBackend); client: send, get_result(block)"
LIMIT_MS = 30_000

# Without `socket_timeout`, redis-py 8 gives up what waits for more than 5 s, as the first call may for its worker.
backend = RedisBackend(client=redis.Redis.from_url(f"redis://{address()}/1", socket_timeout=None))
broker = RedisBroker(url=f"redis://{address()}/0")
broker.add_middleware(Results(backend=backend))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def noop(number: int) -> int:
    return number


def worker() -> list[str]:
    return [sys.executable, "-m", "dramatiq", __name__, "--processes", "1", "--threads", str(THREADS)]


class Caller(BlockingCaller):
    """A pool of connections, made by its client."""

    def send(self, number: int) -> object:
        return noop.send(number)

    def result(self, sent: object) -> object:
        return sent.get_result(backend=backend, block=True, timeout=LIMIT_MS)
