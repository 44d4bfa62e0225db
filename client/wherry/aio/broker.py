"""Connecting, and the broker as the asyncio client offers it."""

from __future__ import annotations

import asyncio
import secrets
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Self, Unpack

from wherry import tracing
from wherry.address import parse_urls
from wherry.aio.link import Link
from wherry.aio.queue import Queue
from wherry.aio.reconnecting import Reconnector
from wherry.aio.store import Store
from wherry.aio.topic import Topic
from wherry.aio.transaction import Transaction
from wherry.conversation import Conversation, asks, scheduling
from wherry.conversation.gathering import Gathering
from wherry.model.times import Duration, to_ms

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterable
    from types import TracebackType

    from wherry import errors
    from wherry.model.options import BrokerInfo, GateInfo, QueueCounts, Snapshot
    from wherry.model.schedules import ScheduleInfo, ScheduleOptions

DEFAULT_URL = "wherry://localhost:7117"
HEARTBEAT_MS = 15_000


class Broker:
    """A connection to a broker; made by `connect`."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._queue_type, self._topic_type, self._transaction_type = Queue, Topic, Transaction
        if tracing.is_set_up():
            from wherry.aio import traced  # noqa: PLC0415 (only where it is)

            self._queue_type, self._topic_type = traced.TracedQueue, traced.TracedTopic
            self._transaction_type = traced.TracedTransaction

    @property
    def status(self) -> str:
        """`connecting`, `connected`, `reconnecting` or `closed`."""
        return self._link.status

    def queue(self, name: str) -> Queue:
        """The queue of a name; nothing is asked of the broker.

        Raises:
            Invalid: no queue can have this name.
        """
        return self._queue_type(self._link, asks.check_queue_name(name))

    def topic(self, subject: str) -> Topic:
        """The topic of a subject, such as `orders.eu.created`; nothing is asked of the broker.

        Raises:
            Invalid: no topic can have this subject.
        """
        return self._topic_type(self._link, asks.check_subject(subject))

    async def declare(self, name: str, **options: Any) -> Queue:
        """Creates a queue, or checks that it has these options.

        Args:
            name: the queue's name.
            **options: max_messages, max_bytes, overflow, lease, max_attempts, retry (a `Retry`), ttl, priorities,
                durability, dedupe_window, dead_max_messages, max_leased, rate_per_s, ordered, key_max_leased,
                key_rate_per_s, key_weights, paused, result_ttl, bind (patterns of the subjects that it takes, such as
                `orders.*.created` or `orders.>`). Durations are seconds; the README says what each means.

        Raises:
            ExistsDifferently: the queue exists with other options; the text says which.
            Invalid: an option is unknown or out of range.
        """
        queue = self.queue(name)
        await self._link.ask(asks.declare(name, options))
        return queue

    async def queues(self, prefix: str = "") -> list[QueueCounts]:
        """All queues whose name begins with `prefix`, by name, with their counts."""
        result: list[QueueCounts] = []
        more = True
        while more:
            after = result[-1].name if result else ""
            page, more = await self._link.ask(asks.queues(prefix, after))
            result += page
        return result

    def store(self, name: str) -> Store:
        """The store of a name, which keeps the newest value of each key; nothing is asked of the broker.

        Raises:
            Invalid: no store can have this name.
        """
        return Store(self._link, asks.check_queue_name(name))

    def transaction(self, *, timeout: float | None = None) -> Transaction:
        """Settles and publishes that happen together or not at all, at the end of the block; see `Transaction`.

        ::

            async with message, broker.transaction() as tx:
                tx.ack(message)
                tx.publish("invoices", invoice)

        Args:
            timeout: how long to try, in seconds, while one of the queues is full; 0 tries once.
        """
        return self._transaction_type(self._link, timeout)

    async def schedule(
        self, name: str, queue: str, body: bytes | str, **options: Unpack[ScheduleOptions]
    ) -> ScheduleInfo:
        """Has the broker publish a message at moments to come, whether a client is there or not.

        A schedule of that name that is the same stays as it is; another one is replaced, but stays paused if it was.
        So a program may say this whenever it starts. Each moment has one message, however often the broker starts.

        ::

            await broker.schedule("nightly", "reports", b"all", cron="0 3 * * *", zone="Europe/Paris", overlap="skip")

        Args:
            name: the name of the schedule.
            queue: the name of the queue that its messages go to.
            body: of its messages, at most 64 KiB with the headers; a str is sent as UTF-8.
            **options: when, and how; see `ScheduleOptions`.

        Returns:
            The schedule as it is now; its `change` says what this has done.

        Raises:
            Invalid: an option is out of range, or the expression or its zone cannot be read; the text says which.
            ValueError: a moment has no time zone, or a duration makes no sense.
        """
        return await self._link.ask(scheduling.schedule(name, queue, body, options))

    async def schedules(self, prefix: str = "") -> list[ScheduleInfo]:
        """All schedules whose name begins with `prefix`, by name."""
        result: list[ScheduleInfo] = []
        more = True
        while more:
            page, more = await self._link.ask(scheduling.schedules(prefix, result[-1].name if result else ""))
            result += page
        return result

    async def unschedule(self, name: str) -> None:
        """Removes a schedule; what it has published stays.

        Raises:
            NotFound: there is none of that name.
        """
        await self._link.ask(scheduling.unschedule(name))

    async def run_schedule(self, name: str) -> ScheduleInfo:
        """Has a schedule publish its message now, paused or not; its own moments stay as they are.

        Returns:
            The schedule, whose `last_id` is the id of the message.

        Raises:
            NotFound: there is none of that name.
            Busy: its queue is full.
        """
        return await self._link.ask(scheduling.run(name))

    async def pause_schedule(self, name: str) -> ScheduleInfo:
        """Stops a schedule until `resume_schedule`; moments in between do not count as missed.

        Raises:
            NotFound: there is none of that name.
        """
        return await self._link.ask(scheduling.pause(name, paused=True))

    async def resume_schedule(self, name: str) -> ScheduleInfo:
        """Lets a schedule go on, with its first moment from now on.

        Raises:
            NotFound: there is none of that name.
        """
        return await self._link.ask(scheduling.pause(name, paused=False))

    async def gate(self, name: str) -> GateInfo:
        """How those do that count for a gate, and which they are; see `Transaction.publish` and its `waits_at`.

        Raises:
            NotFound: there is no such gate: the message that waited there is gone.
        """
        found, skip = await self._link.ask(asks.gate(asks.check_queue_name(name), 0))
        while skip:
            page, skip = await self._link.ask(asks.gate(name, skip))
            found.members.extend(page.members)
        return found

    async def results(self, messages: Iterable[str]) -> list[bytes | errors.WherryError]:
        """What the consumers of tracked messages have returned, of many at once; waits for none.

        Args:
            messages: their ids, of any queues.

        Returns:
            For each of them, in their order, what `Queue.result` returns, or what it raises when it waits for nothing.
        """
        gathering = Gathering(messages)
        while (ask := gathering.next()) is not None:
            gathering.take(await self._link.ask(ask))
        return gathering.found

    async def info(self) -> BrokerInfo:
        """How much memory it uses and how many clients it has; `Queue.info` tells of a queue."""
        return await self._link.ask(asks.broker_info())

    async def ping(self) -> float:
        """Asks the broker for a sign of life; returns the seconds that it took."""
        started = time.perf_counter()
        await self._link.ask(asks.sign_of_life())
        return time.perf_counter() - started

    async def take_snapshot(self) -> Snapshot:
        """Has the broker's log stand still for a backup, which `read_snapshot` reads; the broker goes on meanwhile.

        Everything that was confirmed before is in it. It lasts until this connection is closed, or the next one is
        taken on it.

        Raises:
            Invalid: the broker keeps no log.
            Unavailable: another connection takes a backup.
        """
        return await self._link.ask(asks.backup())

    async def read_snapshot(self, segment: int, offset: int, size: int) -> tuple[bytes, int]:
        """Some bytes of one segment of the snapshot.

        Args:
            segment: its number.
            offset: where to begin, in bytes.
            size: how many bytes at most; the broker may send fewer.

        Returns:
            The bytes, and how long the segment is in all.

        Raises:
            NotFound: no snapshot was taken on this connection, or it has no such segment.
            Unavailable: too many of these are under way.
        """
        return await self._link.ask(asks.read_backup(segment, offset, size))

    async def drain(self, grace: Duration) -> None:
        """Stops all consumers, and waits until the messages in the user's hands are settled and everything is answered.

        The connection stays open: publish what has to be published, and close it.

        Args:
            grace: how long to wait for messages, in seconds. Those that are not settled by then are handed back
                unspent, so that others may have them, and their settles raise `StaleDelivery`.
        """
        link = self._link
        intakes = list(link.intakes.values())
        await asyncio.gather(*(intake.stop() for intake in intakes))
        await asyncio.gather(*(intake.drain(to_ms(grace) / 1000) for intake in intakes))
        await link.settled()

    async def close(self) -> None:
        """Hands back what was delivered and not taken, waits for what is under way, and closes the connection."""
        link = self._link
        try:
            for intake in list(link.intakes.values()):
                await intake.stop()
            await link.settled()
        finally:
            await link.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class Connecting:
    """What `connect` returns: await it for a `Broker`, or use it as an async context manager.

    Args:
        link: makes the connection; called once it is wanted.
    """

    def __init__(self, link: Callable[[], Awaitable[Link]]) -> None:
        self._link = link
        self._broker: Broker | None = None

    def __await__(self) -> Generator[Any, None, Broker]:
        return self._connect().__await__()

    async def __aenter__(self) -> Broker:
        self._broker = await self._connect()
        return self._broker

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._broker is not None:
            await self._broker.close()

    async def _connect(self) -> Broker:
        return Broker(await self._link())


def connect(
    url: str = DEFAULT_URL,
    *,
    token: str = "",
    name: str = "",
    timeout: float = 30.0,
    reconnect: bool = True,
    on_status: Callable[[str], None] | None = None,
) -> Connecting:
    """Connects to a broker.

    ::

        async with wherry.connect("wherry://localhost:7117") as broker:
            await broker.queue("emails").publish(b"hello")

    Args:
        url: where the broker is, as `wherry://[user:token@]host[:port][,host[:port]...]`; the port is 7117 when not
            given. Of several addresses the first one is used that answers.
        token: what to show to the broker; goes before the URL's.
        name: what this client calls itself in the broker's log.
        timeout: how long connecting, and any request that does not say itself, may take, in seconds.
        reconnect: whether to connect again when the connection is lost: publishes and settles without an answer are
            sent again (and done once), consumers go on, and requests wait, each for its time. Otherwise a lost
            connection is the end: all that waits raises `Disconnected`.
        on_status: called with each new `status`: `connected`, `reconnecting` and `closed`. It must not raise.

    Returns:
        Something to await, or to use with `async with`.

    Raises:
        ValueError: the URL is not one of a broker.
        Disconnected: (when awaited) nothing listens there, or the connection was lost.
        RequestTimeout: (when awaited) the broker did not answer in time.
        Unauthenticated: (when awaited) the token is missing or wrong.
    """
    if timeout <= 0:
        raise ValueError(f"a timeout is more than 0 seconds, not {timeout!r}")
    addresses = parse_urls(url)
    producer = secrets.token_urlsafe(16) if reconnect else ""
    converse = partial(Conversation, token or addresses[0].token, name, HEARTBEAT_MS, producer=producer)

    async def link() -> Link:
        reconnector = Reconnector(addresses)
        return await reconnector.connect(lambda: Link(converse(), timeout, reconnector, on_status), timeout)

    return Connecting(link)
