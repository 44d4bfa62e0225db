"""A worker that is frozen past its lease: its message is done elsewhere, and it is told when it goes on."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import wherry
from patience import PATIENCE_S

WORKER = """
import asyncio, sys, wherry

async def main():
    loop = asyncio.get_running_loop()
    async with wherry.connect(sys.argv[1]) as broker:
        async for message in broker.queue("q").consume(credit=1, lease=0.5):
            print("took", message.attempt, flush=True)
            await loop.run_in_executor(None, sys.stdin.readline)
            try:
                await message.ack()
                print("acked", flush=True)
            except wherry.StaleDelivery:
                print("stale", flush=True)

asyncio.run(main())
"""


async def test_a_worker_that_was_frozen_past_its_lease_is_told(harness, running):
    client = await harness.client(running)
    queue = await client.declare("q")
    await queue.publish(b"x")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER, running.url, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            assert await process.stdout.readline() == b"took 1\n"
            process.send_signal(signal.SIGSTOP)
            (elsewhere,) = await queue.get(1, wait=PATIENCE_S)
            assert (elsewhere.offset, elsewhere.attempt) == (1, 2)
            await elsewhere.ack()
            process.send_signal(signal.SIGCONT)
            process.stdin.write(b"done\n")
            assert await process.stdout.readline() == b"stale\n"
        assert running.shard.state.names["q"].removed == {"settled": 1}
    finally:
        process.kill()
        await process.wait()


async def test_memory_does_not_grow_with_reconnects(harness, monkeypatch):
    """What an hour of reconnects would leave, on both ends, in fast motion."""
    monkeypatch.setattr("wherry.conversation.backoff.RECONNECT_BASE_S", 0.0)
    broker = await harness.broker()
    async with wherry.connect(broker.url, timeout=PATIENCE_S) as client:
        queue = await client.declare("q")
        consumer = queue.consume(credit=10)
        link = client._link

        async def reconnect(times: int) -> None:
            for n in range(times):
                await queue.publish(b"%d" % n)
                await (await anext(consumer)).ack()
                link.abort()
                await client.ping()

        def sizes() -> dict[str, int]:
            conversation, shard = link.conversation, broker.shard
            return {
                "unanswered": conversation.unanswered,
                "deadlines": len(conversation._deadlines),
                "consumers": len(conversation._consumers),
                "intakes": len(link.intakes),
                "tasks": len(asyncio.all_tasks()),
                "sessions": len(shard._sessions),
                "away": len(shard._visits._away),
                "left": sum(len(each.left) for each in shard._sessions.values()),
                "rows": shard.state.producers.rows,
                "timers": len(shard.state.timers),
                "queue": len(shard.state.names["q"].consumers),
            }

        await reconnect(20)
        before = sizes()
        await reconnect(300)
        assert sizes() == before
