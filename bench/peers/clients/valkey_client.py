"""Valkey and Redis, through redis-py with hiredis; single messages through Valkey GLIDE.

Streams: a batch is XADDs in one pipeline without a transaction, as redis-py's documentation batches. A consumer takes
up to 500 with XREADGROUP, and sends XACK and XDEL for all of them in one pipeline, so that a settled message is gone,
as it is elsewhere. Lists: LPUSH takes all values in one command, and BLMPOP takes up to 500 out in one. Nothing is
confirmed beyond the reply of LPUSH, and what was taken out is gone if the consumer dies: the least that a queue can do.

The batches go through redis-py's blocking client in a few threads, since only that one packs commands with hiredis: it
takes half the CPU time of the asyncio one. Single messages of a thousand coroutines go through GLIDE, the client of the
Valkey project, which sends them all through one connection: four times as many a second as redis-py from a pool. It
answers a lone one a little sooner, too.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from clients import BULK

if TYPE_CHECKING:
    from glide import GlideClient

KEY, GROUP = "bench", "workers"
FIELD = "b"
THREADS = 2
WAIT_MS = 5_000
TIMEOUT_MS = 60_000
INFLIGHT_MAX = 1_000
"""What GLIDE refuses more requests than; as many as the load has."""


class Streams:
    """A stream with a group of consumers."""

    def __init__(self, host: str, port: int, glide: GlideClient | None) -> None:
        self._redis = Redis(host=host, port=port)
        self._blocking = BlockingRedis(host=host, port=port)
        self._threads = ThreadPoolExecutor(THREADS)
        self._glide = glide
        self._ids: list[bytes] = []

    async def publish(self, bodies: list[bytes]) -> None:
        if len(bodies) > 1:
            await asyncio.get_running_loop().run_in_executor(self._threads, self._add, bodies)
        else:
            assert self._glide is not None
            await self._glide.xadd(KEY, [(FIELD, bodies[0])])

    def _add(self, bodies: list[bytes]) -> None:
        pipe = self._blocking.pipeline(transaction=False)
        for body in bodies:
            pipe.xadd(KEY, {FIELD: body})
        pipe.execute()

    async def take(self) -> list[bytes]:
        found = None
        while not found:
            found = await self._redis.xreadgroup(GROUP, "one", {KEY: ">"}, count=BULK, block=WAIT_MS)
        (rows,) = found.values() if isinstance(found, dict) else [entries for _, entries in found]
        rows = rows[0] if isinstance(rows[0], list) else rows  # RESP3 has one more level
        self._ids = [number for number, _ in rows]
        return [fields[FIELD.encode()] for _, fields in rows]

    async def settle(self, *, last: bool) -> None:  # noqa: ARG002 (it waits in any case)
        pipe = self._redis.pipeline(transaction=False)
        pipe.xack(KEY, GROUP, *self._ids)
        pipe.xdel(KEY, *self._ids)
        await pipe.execute()

    async def close(self) -> None:
        self._threads.shutdown()
        self._blocking.close()
        await self._redis.aclose()
        if self._glide is not None:
            await self._glide.close()


class Lists(Streams):
    """A list, pushed at one end and popped at the other."""

    async def publish(self, bodies: list[bytes]) -> None:
        if len(bodies) > 1:
            await asyncio.get_running_loop().run_in_executor(self._threads, self._blocking.lpush, KEY, *bodies)
        else:
            assert self._glide is not None
            await self._glide.lpush(KEY, [bodies[0]])

    async def take(self) -> list[bytes]:
        found = None
        while found is None:
            found = await self._redis.blmpop(WAIT_MS / 1000, 1, KEY, direction="RIGHT", count=BULK)
        bodies: list[bytes] = found[1]
        return bodies

    async def settle(self, *, last: bool) -> None:
        """Nothing: what was taken out is gone."""


async def glided(host: str, port: int) -> GlideClient:
    """Connects through Valkey GLIDE, which takes a second to import."""
    from glide import GlideClient, GlideClientConfiguration, NodeAddress  # noqa: PLC0415

    configured = GlideClientConfiguration(
        [NodeAddress(host, port)], request_timeout=TIMEOUT_MS, inflight_requests_limit=INFLIGHT_MAX
    )
    return await GlideClient.create(configured)


async def connect(address: str, role: str, variant: str) -> Streams:
    host, _, text = address.partition(":")
    port = int(text)
    glide = await glided(host, port) if role == "producer" else None
    client = (Lists if variant == "lists" else Streams)(host, port, glide)
    if role == "consumer" and variant == "streams":
        redis = Redis(host=host, port=port)
        try:
            await redis.xgroup_create(KEY, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        await redis.aclose()
    return client
