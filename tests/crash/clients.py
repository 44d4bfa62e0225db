"""Producers and consumers, each a process of its own, that write down what they do: the public client and nothing else.

`python -m crash.clients NAME ROLE URL FILE SEED QUEUE...` runs one until its standard input ends. When a connection is
lost it makes a new one, and what was under way is written down as unknown; or, in the lasting roles, it leaves all that
to the client library, and notices nothing. A body says which message it is, and carries a
checksum over that, its queue and its bytes, so that a consumer knows one that is damaged or in the wrong queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import sys
import zlib
from abc import ABC, abstractmethod
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import wherry
from crash import history
from crash.history import ACK, ERROR, NACK, OK, REJECT, RELEASE, STALE, UNKNOWN, Recorder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

REQUEST_S = 30.0
AGAIN_S = 0.02
LEASE_MS = 30_000
CREDIT = 40
TOGETHER_MAX = 24
PAUSE_S = 0.05
BODY_BYTES_MAX = 1_200
DELAYS_MS = (50, 400)
DROP_S = (0.2, 3.0)
"""After how long a consumer cuts its own connection, so that leases are lost without a crash too."""
VERBS = {ACK: 90, NACK: 5, RELEASE: 4, REJECT: 1}


def body_of(name: str, queue: str, draw: random.Random) -> bytes:
    """The body of a message: its id, a checksum, and some bytes."""
    rest = draw.randbytes(draw.randrange(BODY_BYTES_MAX))
    return b"%s %08x %s" % (name.encode(), _checksum(name, queue, rest), rest)


def name_in(body: bytes, queue: str) -> tuple[str, bool]:
    """The id that a body holds, and whether all of it is as it was published to that queue."""
    name, _, rest = body.partition(b" ")
    checksum, _, rest = rest.partition(b" ")
    text = name.decode("ascii", "replace")
    return text, checksum == b"%08x" % _checksum(text, queue, rest)


def _checksum(name: str, queue: str, rest: bytes) -> int:
    return zlib.crc32(rest, zlib.crc32(f"{name} {queue}".encode()))


class Client(ABC):
    """One process: connects, works until the connection is lost, connects anew.

    Args:
        name: what it is called in the history.
        url: of the broker.
        out: where its part of the history goes.
        seed: of all that it does at random.
        queues: the names of its queues.
    """

    lasting = False
    """Whether its connections are to go on by themselves."""

    def __init__(self, name: str, url: str, out: Path, seed: str, queues: Sequence[str]) -> None:
        self.draw = random.Random(f"{seed} {name}")
        self.name = name
        self.queues = queues
        self.who = ""
        self.record = Recorder(out)
        self.stopping = asyncio.Event()
        self._url = url
        self._connections = 0

    async def run(self) -> None:
        """Works until it is told to stop."""
        await _watch_stdin(self.stopping)
        while not self.stopping.is_set():
            try:
                broker = await wherry.connect(
                    self._url, name=self.name, timeout=REQUEST_S, reconnect=self.lasting, on_status=self.status
                )
            except wherry.WherryError:
                await asyncio.sleep(AGAIN_S)
                continue
            self._connections += 1
            self.who = f"{self.name}/{self._connections}"
            try:
                await self.work(broker)
            finally:
                await self._leave(broker)
        self.record.close()

    def status(self, status: str) -> None:
        """The connection has another status."""
        logging.getLogger(__name__).debug("%s: %s", self.name, status)

    @abstractmethod
    async def work(self, broker: wherry.Broker) -> None:
        """Uses one connection until it is lost, or it is time to stop."""

    async def _leave(self, broker: wherry.Broker) -> None:
        with contextlib.suppress(wherry.WherryError):
            await broker.close()
        self.record.add(history.Detach, self.who)
        self.record.flush()


async def _watch_stdin(stopping: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    class Ended(asyncio.Protocol):
        def eof_received(self) -> None:
            stopping.set()

    await loop.connect_read_pipe(Ended, sys.stdin)


class Producer(Client):
    """Publishes messages, some alone and some together, some with a priority, a delay or a dedupe key."""

    _last = 0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._unsure: list[tuple[str, str, bytes]] = []

    async def work(self, broker: wherry.Broker) -> None:
        """Publishes bunch after bunch."""
        while broker.status != "closed" and not self.stopping.is_set():
            queue = broker.queue(self.draw.choice(self.queues))
            going_on = await self._publish_some(queue)
            if not going_on:
                return
            await asyncio.sleep(self.draw.uniform(0, PAUSE_S))

    async def _publish_some(self, queue: wherry.Queue) -> bool:
        """Publishes a bunch; False when the broker wants no more."""
        kind = self.draw.random()
        count = self.draw.randint(1, TOGETHER_MAX)
        if kind < 0.2:
            return await self._publish_many(queue, count)
        if kind < 0.3:
            options: dict[str, int] = {"priority": self.draw.randint(1, 9)}
        elif kind < 0.4:
            options = {"delay_ms": self.draw.choice(DELAYS_MS)}
        elif kind < 0.5:
            return await self._publish_under_key(queue)
        else:
            options = {}
        outcomes = await asyncio.gather(*(self._publish(queue, **options) for _ in range(count)))
        return all(outcome == OK for outcome in outcomes)

    async def _publish(self, queue: wherry.Queue, priority: int = 0, delay_ms: int = 0) -> str:
        name = self._new_name()
        body = body_of(name, queue.name, self.draw)
        self.record.add(history.Pub, self.who, name, queue.name, priority, delay_ms)
        delay = delay_ms / 1000 if delay_ms else None
        return await self._end([name], queue.publish(body, priority=priority, delay=delay))

    async def _publish_many(self, queue: wherry.Queue, count: int) -> bool:
        names = [self._new_name() for _ in range(count)]
        bodies = [body_of(name, queue.name, self.draw) for name in names]
        for name in names:
            self.record.add(history.Pub, self.who, name, queue.name)
        return await self._end(names, queue.publish_many(bodies)) == OK

    async def _publish_under_key(self, queue: wherry.Queue) -> bool:
        """One that is tried again, on the next connection, until the broker says that it has it."""
        name = self._new_name()
        self._unsure.append((name, queue.name, body_of(name, queue.name, self.draw)))
        for known, where, body in [each for each in self._unsure if each[1] == queue.name]:
            self.record.add(history.Pub, self.who, known, where, dedupe=True)
            outcome = await self._end([known], queue.publish(body, dedupe=known))
            if outcome == UNKNOWN:
                return False
            self._unsure.remove((known, where, body))
            if outcome == ERROR:
                return False
        return True

    async def _end(self, names: list[str], publish: Awaitable[Any]) -> str:
        """Waits for the outcome of a publish, and writes it down."""
        outcome, receipts = OK, [wherry.Receipt("", 0, "")] * len(names)
        try:
            answer = await publish
            receipts = [answer] if isinstance(answer, wherry.Receipt) else answer
        except wherry.Refused:
            outcome = ERROR
        except (wherry.Disconnected, wherry.RequestTimeout):
            outcome = UNKNOWN
        for name, receipt in zip(names, receipts, strict=True):
            self.record.add(history.PubEnd, self.who, name, outcome, receipt.offset, receipt.durability)
        return outcome

    def _new_name(self) -> str:
        self._last += 1
        return f"{self.name}:{self._last}"


class Consumer(Client):
    """Takes messages, and settles them in every way there is; now and then its connection breaks."""

    async def work(self, broker: wherry.Broker) -> None:
        """Consumes from all its queues."""
        drop = asyncio.create_task(self._drop(broker, self.draw.uniform(*DROP_S)))
        consuming = [asyncio.create_task(self._consume(broker.queue(name))) for name in self.queues]
        stop = asyncio.create_task(self.stopping.wait())
        await asyncio.wait((stop, *consuming), return_when=asyncio.FIRST_COMPLETED)
        for task in (drop, stop, *consuming):
            task.cancel()
        for outcome in await asyncio.gather(drop, stop, *consuming, return_exceptions=True):
            if isinstance(outcome, Exception) and not isinstance(outcome, wherry.WherryError):
                raise outcome

    async def _drop(self, broker: wherry.Broker, after_s: float) -> None:
        if self.lasting:
            return
        await asyncio.sleep(after_s)
        self.record.add(history.Detach, self.who)
        broker._link.abort()

    async def _consume(self, queue: wherry.Queue) -> None:
        settling: set[asyncio.Task[None]] = set()
        try:
            async with queue.consume(CREDIT) as consumer:
                self.record.add(history.Attach, self.who, queue.name, CREDIT)
                async for batch in consumer.batches(CREDIT):
                    for message in batch:
                        self._take(message)
                    for task in self._settle(queue, batch):
                        settling.add(task)
                        task.add_done_callback(settling.discard)
        finally:
            await asyncio.gather(*settling, return_exceptions=True)

    def _take(self, message: wherry.Message) -> None:
        name, intact = name_in(message.body, message.queue)
        place = (message.queue, message.offset, *message.token)
        self.record.add(history.Deliver, self.who, name, *place, LEASE_MS, intact)

    def _settle(self, queue: wherry.Queue, batch: list[wherry.Message]) -> list[asyncio.Task[None]]:
        if self.draw.random() < 0.3:
            for message in batch:
                self.record.add(history.Settle, self.who, ACK, *_place(message))
            return [asyncio.create_task(self._end(batch, partial(queue.ack_many, batch)))]
        tasks = []
        for message in batch:
            verb = self.draw.choices(list(VERBS), list(VERBS.values()))[0]
            delay_ms = self.draw.choice((0, 0, *DELAYS_MS)) if verb == NACK else 0
            self.record.add(history.Settle, self.who, verb, *_place(message), delay_ms)
            options = {"delay": delay_ms / 1000} if verb == NACK else {}
            tasks.append(asyncio.create_task(self._end([message], partial(getattr(message, verb), **options))))
        return tasks

    async def _end(self, messages: list[wherry.Message], settle: Any) -> None:
        """Settles, waits for the outcome, and writes it down."""
        outcome = OK
        try:
            await settle()
        except wherry.StaleDelivery:
            outcome = STALE if len(messages) == 1 else UNKNOWN  # of several, nobody says which
        except (wherry.Disconnected, wherry.RequestTimeout):
            outcome = UNKNOWN
        for message in messages:
            self.record.add(history.SettleEnd, self.who, *_place(message), outcome)


def _place(message: wherry.Message) -> tuple[str, int, int, int]:
    return name_in(message.body, message.queue)[0], message.offset, *message.token


class LastingProducer(Producer):
    """One whose connection goes on by itself."""

    lasting = True


class LastingConsumer(Consumer):
    """One whose connection goes on by itself. Order and credit hold for each of its sockets."""

    lasting = True

    def status(self, status: str) -> None:
        """Another socket is another `who`, though what the client holds is still its own."""
        if status == "connected" and self.who:
            self._connections += 1
            self.who = f"{self.name}/{self._connections}"
            for queue in self.queues:
                self.record.add(history.Attach, self.who, queue, CREDIT)


ROLES: dict[str, type[Client]] = {
    "produce": Producer,
    "consume": Consumer,
    "produce-lasting": LastingProducer,
    "consume-lasting": LastingConsumer,
}


def main() -> None:
    """Runs what the command line asks for."""
    name, role, url, out, seed, *queues = sys.argv[1:]

    async def run() -> None:
        await ROLES[role](name, url, Path(out), seed, queues).run()

    asyncio.run(run())


if __name__ == "__main__":
    main()
