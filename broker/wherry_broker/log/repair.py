"""Repair: a log that a broker starts from, made of all that can be read of a damaged one.

What is left is written again, into new segments behind the old ones. The last of them says that the old ones do not
matter any more, and gets its name last: until then the log is the damaged one, from then on it is the new one. Before
that the old segments are linked into a directory of their own, as they are: nothing is ever deleted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from wherry_broker.core.housekeeping import REHOME_BYTES, preamble, rehomed
from wherry_broker.core.records import Declared, Preamble, Standing
from wherry_broker.log import recovery
from wherry_broker.log.journal import Journal, new_mark, segment_name
from wherry_broker.log.rebuild import Ranges, Rebuild
from wherry_broker.log.recovery import CorruptLog, ForeignLog, Torn
from wherry_broker.log.salvage import Damage, Salvage, Salvaged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wherry_broker.core.records import Rehomed
    from wherry_broker.core.state import State
    from wherry_broker.log.store import File, Store

SEGMENT_BYTES = 67_108_864
OFFSETS_SKIPPED = 1 << 32
"""How many offsets of every queue are left out: more messages than this are not in any segment that may be lost."""


class Repaired(NamedTuple):
    """What was done.

    Attributes:
        damages: what could not be read; empty when nothing was.
        lost: the messages that are known to be lost, by queue.
        torn: the torn tail that was cut, or that is lost with the rest; None when there was none.
        kept: how many messages are left.
        aside: the directory, or the file, that holds the bytes as they were; "" when nothing was changed.
    """

    damages: Sequence[Damage]
    lost: dict[str, Ranges]
    torn: Torn | None
    kept: int
    aside: str

    @property
    def entries(self) -> int | None:
        """How many entries are lost; None when that is not known."""
        counts = [damage.entries for damage in self.damages]
        return None if None in counts else sum(count for count in counts if count is not None)


def repair(store: Store, draw: Callable[[], int] = new_mark) -> Repaired:
    """Repairs a log; one that a broker starts from as it is stays as it is, but for a torn tail.

    The caller holds the lock.

    Args:
        store: where the log is.
        draw: returns a random number that is not 0.

    Raises:
        ForeignLog: it is of a version that this program does not read.
        CorruptLog: it cannot be told which of the files are of one log.
    """
    try:
        torn = next(
            (item for item in recovery.read_segments(store, recovery.scan(store).segments) if isinstance(item, Torn)),
            None,
        )
    except ForeignLog:
        raise
    except CorruptLog:
        return _rewrite(store, draw)
    if torn is None:
        return Repaired((), {}, None, 0, "")
    recovery.cut(store, torn)
    return Repaired((), {}, torn, 0, torn.aside)


def _rewrite(store: Store, draw: Callable[[], int]) -> Repaired:
    salvage = Salvage(store)
    rebuild = Rebuild(_standing(salvage))
    damages: list[Damage] = []
    torn, newest = None, 0
    for item in salvage.items():
        match item:
            case Damage():
                damages.append(item)
                rebuild.miss()
            case Torn():
                torn = item
            case Salvaged(entry, spoiled):
                newest = entry.prefix.number
                for position, record in enumerate(entry.records):
                    rebuild.take(record, entry.segment, spoiled=position in spoiled)
    # Beside other damage, a tail that looks torn may have been on the disk as well.
    if torn is not None or any(damage.entries != 0 for damage in damages):
        rebuild.skip_offsets(OFFSETS_SKIPPED)
    names = [segment_name(part.number) for part in salvage.parts]
    aside = store.keep(names)
    _write(store, salvage, rebuild.state, newest, draw)
    for name in names:
        store.remove(name)
    store.sync_names()
    kept = sum(queue.messages_held for queue in rebuild.state.queues.values())
    return Repaired(damages, rebuild.lost(), torn, kept, aside)


def _standing(salvage: Salvage) -> dict[int, Standing]:
    """All queues that any record tells of, as the newest one does."""
    result: dict[int, Standing] = {}
    for item in salvage.items():
        for record in item.entry.records if isinstance(item, Salvaged) else ():
            if isinstance(record, Preamble):
                result |= {standing.number: standing for standing in record.queues}
            elif isinstance(record, Declared):
                result[record.queue] = Standing(
                    record.queue, record.name, record.options, record.first, (), record.asked
                )
    return result


class _Unnamed:
    """A store that leaves new files their temporary names until `name_all`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._names: list[tuple[str, str]] = []

    def create(self, name: str) -> File:
        return self._store.create(name)

    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        return self._store.read(name, offset, size)

    def rename(self, old: str, new: str) -> None:
        self._names.append((old, new))

    def remove(self, name: str) -> None:
        self._store.remove(name)

    def sync_names(self) -> None:
        self._store.sync_names()

    def name_all(self) -> None:
        """Names the files one after the other, in the order in which they were made."""
        for old, new in self._names:
            self._store.rename(old, new)
            self._store.sync_names()


def _write(store: Store, salvage: Salvage, state: State, newest: int, draw: Callable[[], int]) -> None:
    """Writes a state behind what is there."""
    unnamed = _Unnamed(store)
    first = max((part.number for part in salvage.parts), default=0) + 1
    journal = Journal(unnamed, first, newest + 1, salvage.oldest or 1, salvage.last, draw)
    journal.roll(preamble(state))
    for entry in _entries(state):
        journal.append(entry)
        if journal.size > SEGMENT_BYTES:
            journal.roll(preamble(state))
    # Only the last segment forgets the old ones, and it is the last one to get its name.
    journal.roll(preamble(state))
    journal.oldest = first
    journal.append(())
    journal.close()
    unnamed.name_all()


def _entries(state: State) -> Iterator[list[Rehomed]]:
    """All that is left, in entries of a bearable size."""
    entry: list[Rehomed] = []
    size = 0
    for queue in state.queues.values():
        for batch in queue.batches_since(0):
            entry.append(rehomed(batch))
            size += batch.block.size
            if size >= REHOME_BYTES:
                yield entry
                entry, size = [], 0
    if entry:
        yield entry
