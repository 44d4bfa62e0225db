"""A broker in this process, on a socket of 127.0.0.1, under both event loops."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any

import pytest
import structlog
import uvloop
from hypothesis import settings

import wherry
from patience import PATIENCE_S
from wherry.wire import codec
from wherry.wire.framing import FrameReader
from wherry_broker import crons
from wherry_broker.core.ledger import RESIDENT_BYTES_MAX
from wherry_broker.core.options import QueueOptions
from wherry_broker.core.shard import Shard
from wherry_broker.log.file import FileLog
from wherry_broker.log.memory import MemoryLog
from wherry_broker.log.store import DiskStore
from wherry_broker.server.auth import TokenAuth
from wherry_broker.server.clock import Clock
from wherry_broker.server.limits import Limits
from wherry_broker.server.listener import Listener
from wherry_broker.server.pump import Pump, restore

pytest_plugins = ["wherry_broker.pytest_plugin"]  # where wherry is installed it is there anyway

# A shell starts what runs in the background with SIGINT ignored, and children inherit that: none could be interrupted.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Where a change is judged, the same examples for every change; elsewhere, and in `make sim`, new ones every time.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

if TYPE_CHECKING:
    from pathlib import Path


class RunningBroker:
    """The parts of a server, put together; with a log on the disk when it is given a directory for its data."""

    def __init__(
        self,
        *,
        token: str = "",
        auto_declare: bool = True,
        queue: dict[str, Any] | None = None,
        data: Path | None = None,
        resident_bytes_max: int = RESIDENT_BYTES_MAX,
        **limits,
    ):
        loop, clock = asyncio.get_running_loop(), Clock()
        self.limits = Limits(**limits)
        self.records = FileLog(DiskStore(data), loop.call_soon_threadsafe, pytest.fail) if data else MemoryLog()
        defaults = QueueOptions(durability=self.records.level).changed(queue or {})
        self.shard = Shard(
            7,
            random.Random(1).random,
            defaults,
            auto_declare=auto_declare,
            resident_bytes_max=resident_bytes_max,
            resume_ms=self.limits.resume_ms,
            calendar=crons.moments,
        )
        restore(self.shard, self.records, clock)
        self.pump = Pump(self.shard, self.records, clock, loop, self.limits.uncommitted_bytes_max)
        self.logged = structlog.testing.LogCapture()
        log = structlog.wrap_logger(None, processors=[self.logged], wrapper_class=structlog.stdlib.BoundLogger)
        epoch = self.shard.state.epoch
        self.listener = Listener(self.pump, TokenAuth(token), self.limits, epoch, "wherry/test", log)
        self.host, self.port = "", 0
        self.stopped = False

    async def start(self, host: str = "127.0.0.1") -> None:
        self.host, self.port = await self.listener.start(host, 0)

    async def stop(self) -> None:
        """Ends it; more than once does no harm."""
        if self.stopped:
            return
        self.stopped = True
        self.listener.stop_accepting()
        await self.listener.close("draining", "the test is over")
        self.pump.close()
        self.records.close()

    @property
    def url(self) -> str:
        return f"wherry://{self.host}:{self.port}"

    @property
    def connections(self):
        return list(self.listener._connections)

    def waiting_bytes(self) -> int:
        """How much waits to be written, on all connections."""
        transports = [each._transport for each in self.connections]
        return sum(each.get_write_buffer_size() for each in transports if each is not None)

    def events(self) -> list[str]:
        return [entry["event"] for entry in self.logged.entries]

    def counts(self, name: str) -> tuple[int, ...]:
        """(ready, delayed, leased, dead)"""
        return tuple(self.shard.state.names[name].counts)

    def consumers(self, name: str) -> int:
        queue = self.shard.state.names.get(name)
        return len(queue.consumers) if queue else 0

    def resident_bytes(self, name: str) -> int:
        """How many bytes of a queue's messages are in memory, counted one by one."""
        batches = self.shard.state.names[name].batches_since(0)
        return sum(each.block.size for each in batches if each.block.data is not None)

    async def until(self, true) -> None:
        """Turns the event loop until something is so."""
        async with asyncio.timeout(PATIENCE_S):
            while not true():  # noqa: ASYNC110 (what is waited for is state, which has no event)
                await asyncio.sleep(0)


class RawClient:
    """A socket on which anything may be said."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._frames = FrameReader(1 << 30)

    def say(self, *messages) -> None:
        self.writer.write(b"".join(codec.encode(message) for message in messages))

    async def until_closed(self) -> list:
        """All that is said until the other end closes, however it does that."""
        said = []
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    data = await self.reader.read(65_536)
                except ConnectionError:
                    return said
                if not data:
                    return said
                said += [codec.decode(frame) for frame in self._frames.feed(data)]

    async def hear(self, count: int = 1) -> list:
        """The next messages, `count` or more."""
        said: list = []
        async with asyncio.timeout(PATIENCE_S):
            while len(said) < count:
                data = await self.reader.read(65_536)
                assert data, f"closed after {said}"
                said += [codec.decode(frame) for frame in self._frames.feed(data)]
        return said

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError, BrokenPipeError):
            await self.writer.wait_closed()


class Harness:
    """Starts brokers and clients, and ends them with the test."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def broker(self, *, start_on: str = "127.0.0.1", **options) -> RunningBroker:
        broker = RunningBroker(**options)
        await broker.start(start_on)
        self._stack.push_async_callback(broker.stop)
        return broker

    async def client(self, broker: RunningBroker, **options) -> wherry.Broker:
        options.setdefault("timeout", PATIENCE_S)
        client = await wherry.connect(broker.url, **options)
        self._stack.push_async_callback(client.close)
        return client

    async def raw(self, broker: RunningBroker) -> RawClient:
        raw = RawClient(*await asyncio.open_connection(broker.host, broker.port))
        self._stack.push_async_callback(raw.close)
        return raw


LOOPS = {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


def pytest_asyncio_loop_factories(config, item):
    """What touches sockets runs under both event loops."""
    return LOOPS if "integration" in item.path.parts else {"asyncio": LOOPS["asyncio"]}


@pytest.fixture(scope="session")
def running_broker() -> type[RunningBroker]:
    """Makes brokers, for tests that bring an event loop of their own."""
    return RunningBroker


@pytest.fixture
async def harness():
    loop = asyncio.get_running_loop()
    problems: list[dict] = []
    loop.set_exception_handler(lambda _, context: problems.append(context))
    async with AsyncExitStack() as stack:
        yield Harness(stack)
    await asyncio.sleep(0)
    assert problems == []


@pytest.fixture
async def running(harness) -> RunningBroker:
    return await harness.broker()


@pytest.fixture
async def client(harness, running) -> wherry.Broker:
    return await harness.client(running)
