"""Every small damage that a log can have: what is read of it is a strict prefix, or it is refused by file and offset.

The logs are small ones of three segments with every kind of record. Damaged are: every bit, flipped; every byte, as
the place where a file is cut; every sector of 512 bytes, zeroed, written over another, doubled, and changed with
another; every file, missing, empty, there once more, and changed with that of another log. Never may a message be
altered or invented, and never may anything but the end of the last segment be left out.

WHERRY_TEST_FLIPS is how many bits are flipped: all of a log of 5 KiB by default, 163,840 are all of one of 20 KiB.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import Any, NamedTuple

import pytest

from log_files import EVERY_KIND, MemoryStore, Segment, plain, preamble, published, write_log
from wherry_broker.core.records import Published
from wherry_broker.log import recovery
from wherry_broker.log.codec import SEGMENT_HEAD_BYTES
from wherry_broker.log.journal import segment_name, segment_number
from wherry_broker.log.recovery import CorruptLog

SMALL = 5_120
"""How long a small log is, in bytes: no longer than every kind of record makes it."""
FLIPS = int(os.environ.get("WHERRY_TEST_FLIPS", "40960"))
SECTOR_BYTES = 512
LONG = 256
"""A body this long keeps the width of its length in the log when it grows a little."""
REFUSED, PREFIX, WHOLE = "refused", "a strict prefix", "read whole"


class Log(NamedTuple):
    """A log, and what is in it.

    Attributes:
        files: its files.
        entries: the records of all entries.
        places: for each entry, the file it is in, and where it begins and ends.
        last: the last file.
    """

    files: dict[str, bytes]
    entries: list[Any]
    places: list[tuple[str, int, int]]
    last: str

    def tail_of(self, name: str, offset: int) -> int | None:
        """How many entries are left when `offset` of a file is damaged and that counts as a torn tail; None if never.

        Each entry of these logs knows that the one before it was synced, so only the last entry may be torn.
        """
        file, start, end = self.places[-1]
        return len(self.entries) - 1 if name == file and start <= offset < end else None


def small_log(size: int, marks: int = 0) -> Log:
    """A log of three segments that are `size` bytes long in all."""
    store = MemoryStore()
    *records, last = EVERY_KIND
    entries = [[record] for record in records]
    fill = (size - 4_200) // 3
    entries.insert(2, [published(9, bytes(range(97, 107)) * (fill // 10))])
    entries.insert(5, [published(30, b"first"), published(10, bytes(range(107, 117)) * (fill // 10)), records[6]])
    ends = [[records[0], published(20, b"!" * (fill // 2))], [published(21, b"?" * LONG), records[9]]]
    segments = [Segment(preamble(), entries[:5]), Segment(preamble(*last.queues), entries[5:]), Segment(last, ends)]
    write_log(store, segments, marks=marks)
    missing = size - sum(map(len, store.contents().values()))
    assert missing > 60, missing
    return of_store(pad(store, missing, segments, marks))


def pad(store: MemoryStore, missing: int, segments: list[Segment], marks: int) -> MemoryStore:
    """The same log with a longer body in it, so that it has the size that was asked for."""
    *first, (record, *others) = segments[2].entries
    longer = b"?" * (record.block.size + missing)
    again = MemoryStore()
    entries = [*first, [published(21, longer), *others]]
    write_log(again, [*segments[:2], Segment(segments[2].preamble, entries)], marks=marks)
    return again


def of_store(store: MemoryStore) -> Log:
    entries, places = [], []
    for item in recovery.read_segments(store, recovery.scan(store).segments, lambda: True):
        assert isinstance(item, recovery.Entry)
        entries.append([plain(record) for record in item.records])
        places.append((segment_name(item.segment), item.offset, item.end))
    return Log(store.contents(), entries, places, places[-1][0])


class ReadOnly(MemoryStore):
    """Files as they are; reading changes nothing, and copies little."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        data = self._file(name)
        return data if offset == 0 and size is None else data[offset : None if size is None else offset + size]


def verdict(log: Log, files: dict[str, bytes]) -> tuple[str, CorruptLog | None, int]:
    """What a broker would make of these files, and how many entries it would have read.

    Raises:
        AssertionError: what was read is not what was written.
    """
    store, count = ReadOnly(files), 0
    refusal = None
    try:
        for item in recovery.read_segments(store, recovery.scan(store).segments, lambda: True):
            if isinstance(item, recovery.Torn):
                assert item.name == max(files)
                continue
            # Also of what turns out to be damaged later on, nothing was read wrong.
            assert [plain(record) for record in item.records] == log.entries[count]
            count += 1
    except CorruptLog as error:
        refusal = error
    if refusal is None:
        return (WHOLE if count == len(log.entries) else PREFIX), None, count
    assert f"{refusal.name} at offset {refusal.offset}: " in str(refusal)
    return REFUSED, refusal, count


@pytest.fixture(scope="module", name="log")
def _log() -> Log:
    return small_log(SMALL)


def report(what: str, found: Counter[str], started: float) -> None:
    took = time.perf_counter() - started
    told = ", ".join(f"{count:,} {name}" for name, count in sorted(found.items()))
    print(f"{what}: {sum(found.values()):,} cases in {took:.1f} s: {told}")  # noqa: T201 (a figure of the test plan)


def test_the_log_is_what_the_test_says(log):
    assert sum(map(len, log.files.values())) == SMALL
    assert len(log.files) == 3
    assert {record[0] for entry in log.entries for record in entry} == {type(each).__name__ for each in EVERY_KIND}
    assert verdict(log, log.files) == (WHOLE, None, len(log.entries))


def test_every_bit_flipped():
    started, found, size = time.perf_counter(), Counter(), SMALL
    while 8 * size < FLIPS:
        size *= 4
    log = small_log(size)
    bits = [(name, bit) for name, data in log.files.items() for bit in range(8 * len(data))]
    for name, bit in bits[:FLIPS]:
        found[flipped(log, name, bit)] += 1
    report(f"flipped bits of {size:,} bytes", found, started)
    assert sum(found.values()) == FLIPS
    assert found[WHOLE] == 0


def flipped(log: Log, name: str, bit: int) -> str:
    data = bytearray(log.files[name])
    data[bit // 8] ^= 1 << bit % 8
    outcome, error, count = verdict(log, {**log.files, name: bytes(data)})
    at = bit // 8
    if error is None:
        assert count == log.tail_of(name, at)
        return outcome
    # It is refused where the damage is: at the head of the file, or the start of the entry. What a flipped head says of
    # another file may be noticed there.
    start = next((start for file, start, end in log.places if file == name and start <= at < end), 0)
    assert (error.name, error.offset) == (name, start)
    return outcome


def test_every_byte_as_the_place_of_a_cut(log):
    started, found = time.perf_counter(), Counter()
    for name, data in log.files.items():
        for size in range(len(data)):
            outcome, error, count = verdict(log, {**log.files, name: data[:size]})
            found[outcome] += 1
            kept = sum(file < name or (file == name and end <= size) for file, _, end in log.places)
            if name == log.last and size >= log.places[-3][2]:
                assert (error, count) == (None, kept)  # the preamble is there: what follows may be torn
            else:
                assert error.name == name
                assert count in {0, kept}  # 0: refused before any entry was read
    report("cuts", found, started)
    assert sum(found.values()) == SMALL


def sectors(log: Log) -> list[tuple[str, int]]:
    return [(name, start) for name, data in log.files.items() for start in range(0, len(data), SECTOR_BYTES)]


def replaced(files: dict[str, bytes], name: str, start: int, sector: bytes) -> dict[str, bytes]:
    """The files with other bytes in a sector; no file gets longer or shorter."""
    data = files[name]
    sector = sector[: len(data) - start].ljust(min(SECTOR_BYTES, len(data) - start), b"\0")
    return {**files, name: data[:start] + sector + data[start + SECTOR_BYTES :]}


def test_every_sector_zeroed_duplicated_and_swapped():
    started, found, log = time.perf_counter(), Counter(), small_log(16_384)
    places = sectors(log)
    for name, start in places:
        mine = log.files[name][start : start + SECTOR_BYTES]
        found[check(log, replaced(log.files, name, start, b""), (name,))] += 1
        inserted = {**log.files, name: log.files[name][:start] + mine + log.files[name][start:]}
        found[check(log, inserted, (name,))] += 1
        for other, at in places:
            if (other, at) == (name, start):
                continue
            theirs = log.files[other][at : at + SECTOR_BYTES]
            over = replaced(log.files, name, start, theirs)
            found[check(log, over, (name,))] += 1
            found[check(log, replaced(over, other, at, mine), (name, other))] += 1
    report("sectors", found, started)
    assert found[REFUSED] > 100


def check(log: Log, files: dict[str, bytes], names: tuple[str, ...]) -> str:
    """The verdict on files of which some were changed."""
    outcome, error, count = verdict(log, files)
    if error is not None:
        assert error.name in names
    elif outcome == PREFIX:
        assert all(files[name] == data for name, data in log.files.items() if name != log.last)
        pairs = zip(files[log.last], log.files[log.last], strict=False)
        changed = next((at for at, (new, old) in enumerate(pairs) if new != old), len(log.files[log.last]))
        assert count == sum(name < log.last or end <= changed for name, _, end in log.places)
    return outcome


# Whole files.


@pytest.mark.parametrize("number", [1, 2])
def test_a_missing_file_is_named(log, number):
    files = {name: data for name, data in log.files.items() if segment_number(name) != number}
    _, error, _ = verdict(log, files)
    assert (error.name, error.offset, error.reason) == (segment_name(number), 0, "the file is missing")


def test_without_the_last_file_the_log_ends_before_it(log):
    files = {name: data for name, data in log.files.items() if name != log.last}
    kept = sum(file != log.last for file, _, _ in log.places)
    assert verdict(log, files) == (PREFIX, None, kept)


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("data", [b"", b"\0" * 4_096, b"something else" * 99])
def test_a_file_of_something_else_is_named(log, number, data):
    _, error, _ = verdict(log, {**log.files, segment_name(number): data})
    assert (error.name, error.offset) == (segment_name(number), 0)


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("more", [0, 4, 5, 99])
def test_a_file_that_is_there_once_more_is_named(log, number, more):
    _, error, _ = verdict(log, {**log.files, segment_name(more): log.files[segment_name(number)]})
    assert (error.name, error.offset) == (segment_name(more), 0)


@pytest.mark.parametrize("pair", [(1, 2), (1, 3), (2, 3)])
def test_files_that_changed_places_are_named(log, pair):
    one, two = map(segment_name, pair)
    _, error, _ = verdict(log, {**log.files, one: log.files[two], two: log.files[one]})
    assert (error.name, error.offset) == (one, 0)


@pytest.mark.parametrize("numbers", [(1,), (2,), (3,), (1, 2), (2, 3), (1, 3)])
def test_files_of_another_log_are_named(log, numbers):
    other = small_log(SMALL, marks=500)
    mixed = {**log.files, **{segment_name(number): other.files[segment_name(number)] for number in numbers}}
    assert mixed.keys() == log.files.keys()
    _, error, _ = verdict(log, mixed)
    assert error.offset == 0
    assert "another log" in error.reason


@pytest.mark.parametrize("number", [4, 7])
def test_one_more_file_of_another_log_is_named(log, number):
    other = MemoryStore()
    last = EVERY_KIND[-1]
    write_log(other, [Segment(last, [[published(30, b"of another log")]])], first=number, marks=500, entry=99)
    _, error, _ = verdict(log, {**log.files, **other.contents()})
    assert (error.name, error.offset) == (segment_name(number), 0)
    assert "another log" in error.reason


def test_the_messages_of_the_log_are_told_apart(log):
    """Were two of them the same, one in the place of the other would not be noticed."""
    bodies = [record[-1][1] for entry in log.entries for record in entry if record[0] == Published.__name__]
    assert len(set(bodies)) == len(bodies) > 4
    assert all(start >= SEGMENT_HEAD_BYTES for _, start, _ in log.places)
