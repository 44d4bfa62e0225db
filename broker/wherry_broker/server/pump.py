"""The pump: everything pending in, one commit, effects out, again. Group commit falls out of it with no timer.

A turn runs once for all that came in since the last one: what is ready is leased, the records that have gathered
become one commit if none is in flight, and what may be said is said. A commit that ends asks for the next turn. One
timer of the event loop stands for everything in the core that waits for a moment.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

from wherry.model import commands
from wherry_broker.server.backups import Backups

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Sequence

    from wherry.model import replies
    from wherry_broker.core.batch import Batch
    from wherry_broker.core.effects import Say
    from wherry_broker.core.ledger import Commit, Places
    from wherry_broker.core.shard import Shard
    from wherry_broker.log.interface import Log
    from wherry_broker.server.backups import Request as BackupRequest
    from wherry_broker.server.clock import Clock


COMMANDS_A_TURN = 512
"""How many commands of one client are taken at a time: what they are answered is sent before the next ones."""
WITH_BLOCKS = (commands.Publish, commands.PublishTopic, commands.Commit)
TURN_MS = 20
"""How long the commands of one client may take at a time: one that asks for much work does not stop the others."""


class Client(Protocol):
    """A connection, as the pump sees it."""

    def say(self, says: list[Say]) -> None:
        """Sends what the core has to say."""

    def room_bytes(self) -> int:
        """How many bytes may be delivered now."""

    def hold_reading(self, *, hold: bool) -> None:
        """Stops or starts reading, for the sake of all."""

    def close(self, code: str, text: str) -> None:
        """Says GOODBYE, detaches and closes."""


def restore(shard: Shard, log: Log, clock: Clock) -> int:
    """Reads a log into a new core, and begins a new segment of it.

    Returns:
        How many records there were.
    """
    count = 0
    for record, segment in log.replay(lambda: shard.ledger.has_memory):
        shard.restore(record, segment)
        count += 1
    shard.restored(clock.now_ms())
    preamble = shard.ledger.open(log.segment, log.oldest, clock.now_ms())
    log.start(preamble, shard.state.homes.owed_bytes)
    return count


class Pump:
    """Moves commands into the shard, records into the log, and effects to the clients.

    Args:
        shard: the core.
        log: where its records go.
        clock: what time it is.
        loop: the event loop.
        uncommitted_bytes_max: how much may wait for a commit before nothing more is read.
    """

    def __init__(
        self, shard: Shard, log: Log, clock: Clock, loop: asyncio.AbstractEventLoop, uncommitted_bytes_max: int
    ) -> None:
        self.shard = shard
        self._log = log
        self._clock = clock
        self._loop = loop
        self._uncommitted_bytes_max = uncommitted_bytes_max
        self._clients: dict[int, Client] = {}
        self._waiting: dict[int, list[commands.Request | commands.Credit]] = {}
        self._awake = False
        self._committing = False
        self._uncommitted_bytes = 0
        self._holding = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = 0
        self._drained: Callable[[], None] | None = None
        self._backups = Backups(log, self._say)
        shard.state.homes.reserve_bytes = log.reserve_bytes
        self._measure_room()

    def attach(self, client: Client, producer: str = "", owner: str = "", name: str = "") -> int:
        """A client comes, with the producer that it named in HELLO; returns the number of its session.

        The same client may have a connection already, which it has given up and the broker knows nothing of that yet.
        """
        old = self.shard.holder(producer, owner)
        if old:
            self._clients[old].close("unavailable", "this client has connected anew")
        number = self.shard.attach(client.room_bytes(), producer, owner, name)
        self._clients[number] = client
        client.hold_reading(hold=self._holding)
        return number

    def detach(self, number: int, *, resumes: bool = False) -> None:
        """A client has gone; it may come back if it `resumes`. What it said before is taken, for one turn's time."""
        waiting = self._waiting.pop(number, None)
        if waiting:
            self._take(number, waiting)
        self._backups.end(number)
        del self._clients[number]
        self.shard.detach(number, self._clock.now_ms(), resumes=resumes)
        self.wake()

    def submit(self, number: int, given: list[commands.Request | commands.Credit]) -> None:
        """Takes the commands of a client; those that one turn has no time for wait, and the client is not read."""
        waiting = self._waiting.get(number)
        if waiting is not None:
            waiting += given
            return
        taken = self._take(number, given[:COMMANDS_A_TURN])
        if taken < len(given):
            self._waiting[number] = given[taken:]
            self._clients[number].hold_reading(hold=True)
        self.wake()

    def _take(self, number: int, given: list[commands.Request | commands.Credit]) -> int:
        """Takes as many commands as one turn has time for; returns how many."""
        now_ms = self._clock.now_ms()
        if self.shard.state.homes.is_short and not self._committing:
            self._measure_room()  # no commit may come that would: all that asks for one is refused
        end_ms = now_ms + TURN_MS
        taken = self.shard.submit_all(number, given, now_ms, lambda: self._clock.now_ms() >= end_ms)
        for each in given[:taken]:
            if isinstance(each, WITH_BLOCKS):
                self._uncommitted_bytes += len(each.block)
        if self._uncommitted_bytes > self._uncommitted_bytes_max and self._committing:
            self._hold_reading(hold=True)
        return taken

    def _take_waiting(self) -> bool:
        """Takes what the client has said that has waited for longest, of those that take what they are told.

        Returns:
            Whether there was one.
        """
        number = None if self._holding else next((n for n in self._waiting if self._clients[n].room_bytes() > 0), None)
        if number is None:
            return False
        given = self._waiting.pop(number)
        taken = self._take(number, given[:COMMANDS_A_TURN])
        if taken < len(given):
            self._waiting[number] = given[taken:]
        else:
            self._clients[number].hold_reading(hold=self._holding)
        return True

    def back_up(self, number: int, asked: Iterable[BackupRequest]) -> None:
        """Takes what a client asks of the log itself."""
        for request in asked:
            self._backups.take(number, request)

    def _say(self, number: int, reply: replies.Reply) -> None:
        client = self._clients.get(number)
        if client is not None:
            client.say([reply])

    def make_room(self, number: int) -> None:
        """A client can take more."""
        self.shard.make_room(number, self._clients[number].room_bytes())
        self.wake()

    def drain(self, text: str, drained: Callable[[], None]) -> None:
        """Begins to shut down; calls `drained` once no lease is left and all that was said is durable."""
        self._drained = drained
        self.shard.drain(text, self._clock.now_ms())
        self.wake()

    def wake(self) -> None:
        """Asks for a turn, after everything that has come in already."""
        if not self._awake:
            self._awake = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._awake = False
        took = bool(self._waiting) and self._take_waiting()
        now_ms = self._clock.now_ms()
        self.shard.dispatch(now_ms)
        self._fetch()
        self._commit()
        self._send()
        self._set_timer(now_ms)
        if self.shard.has_work or (took and self._waiting):
            self.wake()
        if self._drained is not None and not self._committing and not self.shard.leased:
            drained, self._drained = self._drained, None
            drained()

    def _commit(self) -> None:
        if self._committing:
            return
        log = self._log
        commit = self.shard.take_batch(roll=log.is_segment_long, log_bytes=log.size_bytes, slack_bytes=log.slack_bytes)
        if commit is None:
            self._uncommitted_bytes = 0  # what has come in was refused
            return
        self._committing = True
        self._uncommitted_bytes = 0
        self._log.commit(commit, partial(self._committed, commit))

    def _committed(self, commit: Commit, places: Places) -> None:
        self._committing = False
        self.shard.committed(commit.mark, places)
        self.shard.ledger.stored(commit.records)
        self._measure_room()
        self._commit()
        if self._holding:
            self._hold_reading(hold=False)
        self.wake()

    def _measure_room(self) -> None:
        """Tells the core how much the log can take; what has gathered since is not in the log yet."""
        room_bytes = self._log.room_bytes()
        homes = self.shard.state.homes
        homes.room_bytes = None if room_bytes is None else room_bytes - homes.owed_bytes - self._uncommitted_bytes

    def _fetch(self) -> None:
        wanted = self.shard.ledger.pager.take_wanted()
        if wanted:
            self._log.fetch([batch.block for batch in wanted], partial(self._fetched, wanted))

    def _fetched(self, wanted: list[Batch], datas: Sequence[bytes | None]) -> None:
        self.shard.fetched(wanted, datas, self._clock.now_ms())
        self.wake()

    def _send(self) -> None:
        says: dict[int, list[Say]] = {}
        for number, say in self.shard.take_effects():
            says.setdefault(number, []).append(say)
        for number, mine in says.items():
            client = self._clients.get(number)
            if client is not None:
                client.say(mine)
                self.shard.make_room(number, client.room_bytes())

    def _hold_reading(self, *, hold: bool) -> None:
        if hold != self._holding:
            self._holding = hold
            for number, client in self._clients.items():
                client.hold_reading(hold=hold or number in self._waiting)

    def _set_timer(self, now_ms: int) -> None:
        deadline_ms = self.shard.next_deadline_ms()
        if deadline_ms is None or (self._timer is not None and self._timer_ms <= deadline_ms):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_ms = deadline_ms
        self._timer = self._loop.call_later(max(0, deadline_ms - now_ms) / 1000, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.wake()

    def close(self) -> None:
        """Stops the timer."""
        if self._timer is not None:
            self._timer.cancel()
