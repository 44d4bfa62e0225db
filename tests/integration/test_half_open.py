"""Packets that are dropped, and nobody says so: both ends find out by themselves, and the client goes on.

The client is a process in a network namespace of its own, which the test makes with iproute2 and closes with iptables.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
import uuid
from typing import Self

import pytest

from patience import PATIENCE_S

HEARTBEAT_MS = 400
SLACK_S = 1.5
"""How much later than two intervals a busy machine may be."""
CLIENT = """
import asyncio, sys, time, wherry

def tell(what):
    print(f"{time.monotonic()} {what}", flush=True)

async def main():
    async with wherry.connect(sys.argv[1], timeout=60, on_status=tell) as client:
        queue = await client.declare("q")
        async with queue.consume(credit=10) as consumer:
            await queue.publish(b"0")
            n = 0
            async for message in consumer:
                tell(f"got {int(message.body)}")
                await message.ack()
                n += 1
                await queue.publish(b"%d" % n)
                await asyncio.sleep(0.01)

asyncio.run(main())
"""


def sh(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=PATIENCE_S)


def reason_not() -> str:
    """Why there can be no namespace here; "" when there can."""
    missing = [each for each in ("ip", "iptables") if shutil.which(each) is None]
    if missing:
        return f"{' and '.join(missing)} cannot be found"
    name = f"w{uuid.uuid4().hex[:8]}"
    try:
        sh("ip", "netns", "add", name)
        sh("ip", "netns", "exec", name, "iptables", "-A", "INPUT", "-j", "DROP")
    except subprocess.CalledProcessError as error:
        return f"no network namespace can be made and closed here: {error.stderr.decode().strip()}"
    finally:
        subprocess.run(("ip", "netns", "del", name), check=False, capture_output=True)
    return ""


class Namespace:
    """A network namespace with one wire to this one."""

    def __init__(self) -> None:
        self.name = f"w{uuid.uuid4().hex[:8]}"
        subnet = 1 + int(self.name[1:3], 16) % 250
        self.here, self.there = f"198.18.{subnet}.1", f"198.18.{subnet}.2"

    def __enter__(self) -> Self:
        near, far = f"{self.name}a", f"{self.name}b"
        sh("ip", "netns", "add", self.name)
        sh("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", self.name)
        sh("ip", "addr", "add", f"{self.here}/30", "dev", near)
        sh("ip", "link", "set", near, "up")
        sh("ip", "-n", self.name, "addr", "add", f"{self.there}/30", "dev", far)
        sh("ip", "-n", self.name, "link", "set", far, "up")
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(("ip", "link", "del", f"{self.name}a"), check=False, capture_output=True)
        subprocess.run(("ip", "netns", "del", self.name), check=False, capture_output=True)

    def close(self, *, closed: bool) -> None:
        """Drops all packets from now on, or none."""
        for chain in ("INPUT", "OUTPUT"):
            sh("ip", "netns", "exec", self.name, "iptables", "-A" if closed else "-D", chain, "-j", "DROP")

    async def run(self, *words: str) -> asyncio.subprocess.Process:
        """Starts a process in it."""
        command = ("ip", "netns", "exec", self.name, *words)
        return await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)


class Listener:
    """What the client tells, as it comes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.got: list[int] = []

    async def until(self, wanted: str) -> float:
        """When the client tells this next."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            while line := (await self._process.stdout.readline()).decode():
                at, what = line.strip().split(" ", 1)
                if what.startswith("got "):
                    self.got.append(int(what.removeprefix("got ")))
                if what == wanted:
                    return float(at)
        raise AssertionError(f"the client has ended and told of no {wanted!r}")


@pytest.fixture(scope="module")
def _possible():
    reason = reason_not()
    if reason:
        pytest.skip(reason)


@pytest.mark.usefixtures("_possible")
async def test_both_ends_find_a_half_open_socket_within_two_intervals(harness):
    with Namespace() as namespace:
        broker = await harness.broker(start_on=namespace.here, heartbeat_ms=HEARTBEAT_MS)
        process = await namespace.run(sys.executable, "-c", CLIENT, broker.url)
        try:
            client = Listener(process)
            await client.until("got 10")
            namespace.close(closed=True)
            closed_at = time.monotonic()
            noticed_at = await client.until("reconnecting")
            assert noticed_at - closed_at < 2 * HEARTBEAT_MS / 1000 + SLACK_S
            await broker.until(lambda: "connection_silent" in broker.events())
            assert time.monotonic() - closed_at < 2 * HEARTBEAT_MS / 1000 + SLACK_S
            namespace.close(closed=False)
            await client.until("connected")
            await client.until(f"got {client.got[-1] + 20}")
            assert client.got == list(range(len(client.got)))
        finally:
            process.kill()
            await process.wait()
