"""Repair of logs that some broker left, damaged in every way: a broker starts from what comes out, nothing in it is
altered or invented, and what is missing is what the repair says is lost.

WHERRY_TEST_REPAIRS is how many damaged logs are repaired.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from typing import NamedTuple

import pytest

from log_files import MemoryStore, draw_from, live_messages, lived_log, published_messages, restored
from wherry_broker.log import recovery
from wherry_broker.log.codec import ENTRY_PREFIX_BYTES, SEGMENT_HEAD_BYTES, Entry
from wherry_broker.log.journal import Journal, segment_name, segment_number
from wherry_broker.log.recovery import CorruptLog, ForeignLog
from wherry_broker.log.repair import Repaired, repair
from wherry_broker.log.verify import verify

REPAIRS = int(os.environ.get("WHERRY_TEST_REPAIRS", "300"))


class Lived(NamedTuple):
    """A log, what its broker holds at the end, and everything that was ever published to it."""

    files: dict[str, bytes]
    live: dict[tuple[int, int], bytes]
    published: dict[tuple[int, int], bytes]


def lived(seed: int) -> Lived:
    store = MemoryStore()
    shard = lived_log(store, seed, turns=80)
    return Lived(store.contents(), live_messages(shard, store), published_messages(store))


LIVED = [lived(seed) for seed in range(6)]


def flip(files: dict[str, bytes], chance: random.Random) -> None:
    name = chance.choice(sorted(files))
    data = bytearray(files[name])
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    files[name] = bytes(data)


def zero(files: dict[str, bytes], chance: random.Random) -> None:
    name = chance.choice(sorted(files))
    start, size = chance.randrange(len(files[name])), chance.choice([8, 64, 512])
    end = min(len(files[name]), start + size)
    files[name] = files[name][:start] + bytes(end - start) + files[name][end:]


def cut(files: dict[str, bytes], chance: random.Random) -> None:
    name = chance.choice(sorted(files))
    files[name] = files[name][: chance.randrange(len(files[name]))]


def insert(files: dict[str, bytes], chance: random.Random) -> None:
    name, other = (chance.choice(sorted(files)) for _ in range(2))
    at, start = chance.randrange(len(files[name])), chance.randrange(len(files[other]))
    files[name] = files[name][:at] + files[other][start : start + 300] + files[name][at:]


def lose(files: dict[str, bytes], chance: random.Random) -> None:
    if len(files) > 1:
        del files[chance.choice(sorted(files)[:-1])]


def swap_in(files: dict[str, bytes], chance: random.Random) -> None:
    other = MemoryStore()
    lived_log(other, chance.randrange(99), turns=30, marks=500)
    name = chance.choice(sorted(other.files))
    files[chance.choice([name, segment_name(99)])] = bytes(other.files[name])


DAMAGES = [flip, flip, zero, cut, insert, lose, swap_in]


def damaged(seed: int) -> tuple[Lived, dict[str, bytes], list[str]]:
    chance = random.Random(seed)
    log = LIVED[seed % len(LIVED)]
    files, how = dict(log.files), chance.choices(DAMAGES, k=chance.choice([1, 1, 2, 3]))
    how.sort(key=lambda each: each is swap_in)  # a file of another log with a damaged head cannot be told to be one
    for damage in how:
        damage(files, chance)
    return log, files, [damage.__name__ for damage in how]


def test_what_is_left_is_kept_and_what_is_lost_is_told():
    started, found = time.perf_counter(), Counter()
    for seed in range(REPAIRS):
        log, files, how = damaged(seed)
        try:
            found[check(log, files)] += 1
        except BaseException:
            print(f"seed {seed}: {how}")  # noqa: T201 (what a failure is replayed by)
            raise
    told = ", ".join(f"{count:,} {name}" for name, count in sorted(found.items()))
    print(f"repairs: {REPAIRS:,} in {time.perf_counter() - started:.1f} s: {told}")  # noqa: T201 (a figure)
    assert found["rewritten"] > REPAIRS / 2


def check(log: Lived, files: dict[str, bytes]) -> str:
    store = MemoryStore(files)
    report = told = refused = None
    try:
        report = verify(store)
        assert store.contents() == files
        told = repair(store, draw_from(1_000))
    except CorruptLog as error:
        refused = error
    if told is None:
        assert isinstance(refused, ForeignLog) or "as many files are of one log as of another" in refused.reason
        assert store.contents() == files
        return "refused"
    assert report.is_whole == (not told.damages)
    assert verify(store).is_whole
    kept = {name.partition("/")[2]: data for name, data in store.contents().items() if "/" in name}
    if not told.damages:
        assert kept == {}
        return "needless"
    assert kept == files
    check_messages(log, store, told)
    go_on(store)
    return "rewritten"


def check_messages(log: Lived, store: MemoryStore, told: Repaired) -> None:
    shard = restored(store)
    numbers = {queue.name: queue.number for queue in shard.state.queues.values()}
    lost = {(numbers[name], n) for name, ranges in told.lost.items() for low, high in ranges for n in range(low, high)}
    live = live_messages(shard, store)
    assert {key: log.published.get(key) for key in live} == live, "altered or invented"
    assert not lost & live.keys(), "told to be lost, and is there"
    for queue in shard.state.queues.values():
        assert queue.next_offset > max((n for number, n in log.published if number == queue.number), default=0)
    assert told.kept == len(live)
    no_entry_is_lost = told.entries == 0 and told.torn is None
    if no_entry_is_lost:
        assert live.keys() <= log.live.keys(), "came back although no entry is lost"
    # What is missing, and not told of: only what nothing that comes later speaks of.
    for number, offset in log.live.keys() - live.keys() - lost:
        assert not no_entry_is_lost
        known = [n for queue, n in live.keys() | lost if queue == number]
        assert not known or offset > max(known) or first_segment_is_lost(log, store), (number, offset)


def first_segment_is_lost(log: Lived, store: MemoryStore) -> bool:
    """Whether the first preamble is not there: then it is not known what came before the next one."""
    name = min(log.files)
    data = store.files.get(f"damaged-1/{name}", b"")
    return bytes(data[: len(log.files[name])])[: SEGMENT_HEAD_BYTES + 80] != log.files[name][: SEGMENT_HEAD_BYTES + 80]


def go_on(store: MemoryStore) -> None:
    """A broker starts from the log, and writes to it."""
    found = recovery.scan(store)
    shard = restored(store)
    *_, last = (item for item in recovery.read_segments(store, found.segments) if isinstance(item, Entry))
    journal = Journal(store, found.segments[-1] + 1, last.prefix.number + 1, found.segments[0], found.head)
    journal.roll(shard.ledger.open(found.segments[-1] + 1, found.segments[0], 1))
    journal.close()
    assert verify(store).is_whole


class PowerCut(Exception):
    """The world ends here."""


class Failing(MemoryStore):
    """A directory where only so many changes can be made."""

    def __init__(self, files: dict[str, bytes], changes: int) -> None:
        super().__init__(files)
        self.changes = changes

    def _change(self) -> None:
        self.changes -= 1
        if self.changes < 0:
            raise PowerCut

    def create(self, name):
        self._change()
        return super().create(name)

    def rename(self, old, new):
        self._change()
        super().rename(old, new)

    def remove(self, name):
        self._change()
        super().remove(name)

    def keep(self, names):
        self._change()
        return super().keep(names)


@pytest.mark.parametrize("seed", range(20))
def test_a_repair_that_is_cut_off_can_be_done_again(seed):
    log = LIVED[seed % len(LIVED)]
    files = dict(log.files)
    lose(files, random.Random(seed))
    whole = MemoryStore(files)
    assert repair(whole, draw_from(1_000)).damages
    for changes in range(100):
        store = Failing(files, changes)
        try:
            repair(store, draw_from(1_000))
        except PowerCut:
            store.changes = 1_000
            check_between(log, store, whole)
            continue
        assert changes > 4
        return


def check_between(log: Lived, store: Failing, whole: MemoryStore) -> None:
    """After a repair was cut off: a start refuses the log or has all of it, and another repair has the same outcome."""
    expected = live_messages(restored(whole), whole)
    if verify(store).is_whole:
        assert live_messages(restored(store), store) == expected
    else:
        repair(store, draw_from(2_000))
        assert live_messages(restored(store), store) == expected
    kept = {name.partition("/")[2] for name in store.files if "/" in name}
    assert {segment_number(name) for name in log.files} & {segment_number(name) for name in kept}


def test_a_whole_log_stays_as_it_is():
    store = MemoryStore(LIVED[0].files)
    assert repair(store) == ((), {}, None, 0, "")
    assert store.contents() == LIVED[0].files


def test_a_torn_tail_is_cut_and_kept():
    files = dict(LIVED[0].files)
    name = max(files)
    files[name] = files[name][:-1]
    store = MemoryStore(files)
    told = repair(store)
    assert told.torn.name == name
    assert bytes(store.files[told.aside]) == files[name][told.torn.offset :]
    assert verify(store).torn is None


def test_a_damaged_block_costs_its_messages_and_nothing_else():
    log = LIVED[0]
    for name, data in log.files.items():
        head = recovery.head_of(data, segment_number(name))
        for entry in recovery.entries(data, head):
            for record in entry.records:
                if type(record).__name__ in {"Published", "Routed"} and entry.end < len(data):
                    place = record.block.place[1]
                    assert place > entry.offset + ENTRY_PREFIX_BYTES
                    spoiled = data[:place] + b"\0" + data[place + 1 :]
                    told = repair(MemoryStore({**log.files, name: spoiled}))
                    assert told.entries == 0
                    lost = [each for ranges in told.lost.values() for each in ranges]
                    targets = record.targets if hasattr(record, "targets") else (record,)
                    ends = [(each.first, each.first + record.block.count) for each in targets]
                    assert all(any(low <= a and b <= high for low, high in ends) for a, b in lost)
