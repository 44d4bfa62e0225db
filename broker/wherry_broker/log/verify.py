"""What is in a log: how much of it can be read, and whether a broker would start from it. Changes nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wherry_broker.core.records import Published, Routed
from wherry_broker.log import recovery
from wherry_broker.log.codec import Entry
from wherry_broker.log.journal import segment_name, segment_number
from wherry_broker.log.recovery import CorruptLog, ForeignLog, Torn
from wherry_broker.log.salvage import Damage, Salvage, Salvaged
from wherry_broker.log.show import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wherry_broker.log.store import Store


def read_all(store: Store) -> Iterator[Entry | Salvaged | Torn | CorruptLog | Damage]:
    """Everything that can be read of a log, in order: as a start reads it, and then what that would not get to.

    A log that a start refuses gives, in the place where it is refused, the CorruptLog; then come what is damaged and,
    with Salvaged instead of Entry, what can be read all the same.

    Raises:
        ForeignLog: it is of a version that this program does not read.
    """
    last = 0
    try:
        for item in recovery.read_segments(store, recovery.scan(store).segments):
            if isinstance(item, Entry):
                last = item.prefix.number
            yield item
    except ForeignLog:
        raise
    except CorruptLog as error:
        yield error
        for each in Salvage(store).items():
            if not isinstance(each, Salvaged) or each.entry.prefix.number > last:
                yield each


@dataclass(slots=True)
class Report:
    """What was read of a log.

    Attributes:
        segments: the files that anything was read of.
        entries: how many entries were read.
        records: how many records, by kind.
        messages: how many messages were published in them.
        size: how long all files of the log are, in bytes.
        torn: the torn tail; None when there is none.
        damages: what cannot be read.
        refusal: what a broker would say that does not start from it; "" when it starts.
    """

    segments: set[int] = field(default_factory=set)
    entries: int = 0
    records: Counter[str] = field(default_factory=Counter)
    messages: int = 0
    size: int = 0
    torn: Torn | None = None
    damages: list[Damage] = field(default_factory=list)
    refusal: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether a broker starts from the log."""
        return not self.refusal

    def count(self, entry: Entry) -> None:
        """Counts what an entry holds."""
        self.segments.add(entry.segment)
        self.entries += 1
        for record in entry.records:
            self.records[kind_of(record)] += 1
            if isinstance(record, Published):
                self.messages += record.block.count
            elif isinstance(record, Routed):
                self.messages += record.block.count * len(record.targets)


def verify(store: Store) -> Report:
    """Reads a log from its beginning to its end.

    Raises:
        ForeignLog: it is of a version that this program does not read.
        CorruptLog: it cannot be told which of the files are of one log.
    """
    report = Report()
    for item in read_all(store):
        match item:
            case Entry():
                report.count(item)
            case Salvaged():
                report.count(item.entry)
            case Torn():
                report.torn = item
            case Damage():
                report.damages.append(item)
            case CorruptLog():
                report.refusal = str(item)
    numbers = [number for name in store.names() if (number := segment_number(name)) is not None]
    report.size = sum(store.size(segment_name(number)) for number in numbers)
    return report
