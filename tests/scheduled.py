"""What tests of schedules share: a core that lives through restarts and crashes in virtual time, and what it sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from wherry.model import commands, replies
from wherry_broker import crons
from wherry_broker.core.options import QueueOptions
from wherry_broker.core.records import Plan, Published
from wherry_broker.core.shard import Shard

if TYPE_CHECKING:
    from collections.abc import Callable

NOW_MS = 1_800_000_000_000
SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
ROW_CELLS = (
    *("name", *Plan._fields[:-3], "bytes", "paused", "since_ms", "next_ms", "last_due_ms", "last_at_ms", "last_queue"),
    *("last_offset", "fired", "missed_count", "skipped", "error", "track"),
)
STAMPED = b"due:" + bytes(8)
"""A message that the due moment is written into, at STAMP."""
STAMP = 4


class Sent(NamedTuple):
    """A message of a schedule: for which moment, and when it was published."""

    due_ms: int
    at_ms: int


class Life:
    """A core with a log, whose clock goes as it is told.

    Attributes:
        log: all that is durable, each record with its segment.
        now: the time in milliseconds.
    """

    def __init__(
        self, now_ms: int = NOW_MS, calendar: Callable[..., Any] = crons.moments, defaults: QueueOptions | None = None
    ) -> None:
        self.log: list[tuple[Any, int]] = []
        self.now = now_ms
        self.calendar = calendar
        self.defaults = defaults or QueueOptions(durability="synced")
        self._request = 0
        self._segment = 0
        self.start()

    def start(self) -> None:
        """A process begins: it reads the log, and begins a new segment."""
        self.shard = Shard(0, lambda: 0.5, self.defaults, calendar=self.calendar)
        for record, segment in self.log:
            self.shard.restore(record, segment)
        self.shard.restored(self.now)
        self._segment += 1
        self.log.append((self.shard.ledger.open(self._segment, 1, self.now), self._segment))
        self.session = self.shard.attach(1 << 30)

    def crash(self, away_ms: int = 0) -> None:
        """The process is killed, what it has not committed is lost, and after a while another one begins."""
        self.now += away_ms
        self.start()

    def roll(self) -> None:
        """The log begins a new segment, and forgets those before it: only standing facts are left."""
        self.commit(roll=True)

    def commit(self, *, roll: bool = False) -> None:
        while batch := self.shard.take_batch(roll=roll):
            self.log += [(record, self._segment) for record in batch.records]
            if batch.preamble is not None:
                self._segment += 1
                self.log.append((batch.preamble, self._segment))
            self.shard.committed(batch.mark)
            roll = False

    def look(self, *, commit: bool = True) -> None:
        """A turn of the broker."""
        self.shard.tick(self.now)
        self.shard.dispatch(self.now)
        if commit:
            self.commit()

    def wait(self, ms: int) -> None:
        """Lets time pass, and the broker look whenever it has to."""
        end = self.now + ms
        self.look()
        while (deadline := self.shard.next_deadline_ms()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.look()
        self.now = end
        self.look()

    def ask(self, kind: Any, *fields: Any, commit: bool = True, **more: Any) -> Any:
        """The reply to a command."""
        self._request += 1
        self.shard.submit(self.session, kind(self._request, *fields, **more), self.now)
        if commit:
            self.look()
            (reply,) = [each.say for each in self.shard.take_effects() if getattr(each.say, "request", 0)]
            return reply
        return None

    def schedule(self, name: str = "s", queue: str = "q", **plan: Any) -> Any:
        """The reply to SCHEDULE."""
        plan = {"stamp": STAMP, "block": STAMPED, **plan}
        return self.ask(commands.Schedule, name, queue, **plan)

    def row(self, name: str = "s") -> dict[str, Any]:
        """What is told of a schedule."""
        reply = self.ask(commands.ListSchedules, name)
        assert isinstance(reply, replies.Schedules), reply
        return dict(zip(ROW_CELLS, reply.schedules[0], strict=True))

    def sent(self, queue: str = "q") -> list[Sent]:
        """The messages that the log holds, in order."""
        number = self.shard.state.names[queue].number
        return [
            Sent(int.from_bytes(record.block.data[STAMP : STAMP + 8], "big"), record.envelope.published_at_ms)
            for record, _ in self.log
            if isinstance(record, Published) and record.queue == number
        ]

    def dues(self, queue: str = "q") -> list[int]:
        return [each.due_ms for each in self.sent(queue)]
