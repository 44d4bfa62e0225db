"""Valkey and Redis, through redis-py's asyncio client with hiredis, its C parser.

Streams (`streams`): XADD in a pipeline without a transaction, which is how its documentation batches; XREADGROUP with a
COUNT, then XACK and XDEL of the whole batch in one pipeline: a settled message is gone, as it is elsewhere. Lists
(`lists`): LPUSH takes many values in one command, and RPOP with a count takes many out; nothing is confirmed beyond the
reply of LPUSH, and what is taken out is gone if the consumer dies, so that this is the least that a queue can do.
Single publishes share a pool of 50 connections: one for each of a thousand coroutines is slower.
"""

from __future__ import annotations

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import ResponseError

KEY, GROUP = "bench", "workers"
CONNECTIONS = 50
BULK = 500
WAIT_MS = 5_000
FIELD = b"b"


class Streams:
    """A stream with a group of consumers."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._ids: list[bytes] = []

    async def publish(self, bodies: list[bytes]) -> None:
        if len(bodies) == 1:
            await self._redis.xadd(KEY, {FIELD: bodies[0]})
            return
        pipe = self._redis.pipeline(transaction=False)
        for body in bodies:
            pipe.xadd(KEY, {FIELD: body})
        await pipe.execute()

    async def take(self) -> list[bytes]:
        found = None
        while not found:
            found = await self._redis.xreadgroup(GROUP, "one", {KEY: ">"}, count=BULK, block=WAIT_MS)
        (rows,) = found.values() if isinstance(found, dict) else [entries for _, entries in found]
        rows = rows[0] if isinstance(rows[0], list) else rows  # RESP3 has one more level
        self._ids = [number for number, _ in rows]
        return [fields[FIELD] for _, fields in rows]

    async def settle(self, *, last: bool) -> None:  # noqa: ARG002 (it waits in any case)
        pipe = self._redis.pipeline(transaction=False)
        pipe.xack(KEY, GROUP, *self._ids)
        pipe.xdel(KEY, *self._ids)
        await pipe.execute()

    async def close(self) -> None:
        await self._redis.aclose()


class Lists(Streams):
    """A list, pushed at one end and popped at the other."""

    async def publish(self, bodies: list[bytes]) -> None:
        await self._redis.lpush(KEY, *bodies)

    async def take(self) -> list[bytes]:
        first = None
        while first is None:
            first = await self._redis.brpop([KEY], timeout=WAIT_MS // 1000)
        return [first[1], *(await self._redis.rpop(KEY, BULK - 1) or ())]

    async def settle(self, *, last: bool) -> None:
        """Nothing: what was taken out is gone."""


async def connect(address: str, role: str, variant: str) -> Streams:
    host, _, port = address.partition(":")
    pool = BlockingConnectionPool(host=host, port=int(port), max_connections=CONNECTIONS, timeout=None)
    redis = Redis(connection_pool=pool)
    if variant == "lists":
        return Lists(redis)
    if role == "consumer":
        try:
            await redis.xgroup_create(KEY, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
    return Streams(redis)
