from __future__ import annotations

import pytest

from log_files import EMAILS, MemoryStore, block_of, draw_from, plain, preamble, published, read_log
from wherry_broker.core.block import Block
from wherry_broker.log import recovery
from wherry_broker.log.codec import Entry, SegmentHead
from wherry_broker.log.journal import Journal, new_mark, read_block, segment_name, segment_number


class Told(MemoryStore):
    """A directory that notes what is done to it, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def create(self, name):
        self.told.append(f"create {name}")
        file = super().create(name)
        noted = ((each, getattr(file, each)) for each in ("append", "sync", "close"))
        for verb, method in noted:
            setattr(file, verb, self.noting(f"{verb} {name}", method))
        return file

    def rename(self, old, new):
        self.told.append(f"rename {old} {new}")
        super().rename(old, new)

    def remove(self, name):
        self.told.append(f"remove {name}")
        super().remove(name)

    def sync_names(self):
        self.told.append("sync names")

    def noting(self, text, method):
        def call(*arguments):
            self.told.append(text)
            return method(*arguments)

        return call

    def take(self) -> list[str]:
        told, self.told = self.told, []
        return told


@pytest.fixture(name="store")
def _store() -> Told:
    return Told()


@pytest.fixture(name="journal")
def _journal(store) -> Journal:
    journal = Journal(store, 1, 1, 1, draw=draw_from(0))
    journal.roll(preamble())
    return journal


def prefixes(store) -> list[tuple[int, int, int, int]]:
    """(segment, number, synced, oldest) of all entries."""
    items = recovery.read_segments(store, recovery.scan(store).segments)
    return [(each.segment, *each.prefix[:3]) for each in items if isinstance(each, Entry)]


# Names.


def test_the_names_of_segments():
    assert segment_name(1) == "0000000000000001.log"
    assert segment_number(segment_name(9_999_999_999_999_999)) == 9_999_999_999_999_999
    others = ["lock", "1.log", "0000000000000001.log.tmp", "0000000000000001.log.torn-9", "000000000000000x.log", ""]
    assert [segment_number(name) for name in others] == [None] * len(others)


def test_marks_are_random_and_never_0():
    marks = {new_mark() for _ in range(100)}
    assert len(marks) == 100
    assert min(marks) > 0
    assert max(marks) < 1 << 64


# A segment begins.


def test_a_segment_is_whole_and_synced_before_it_has_its_name(store, journal):
    name = segment_name(1)
    temporary = f"{name}.tmp"
    written = [f"append {temporary}"] * 2  # the head, and the preamble
    end = [f"sync {temporary}", f"rename {temporary} {name}", "sync names"]
    assert store.take() == [f"create {temporary}", *written, *end]
    assert journal.is_synced
    assert journal.opening_bytes == journal.size == journal.written_bytes == store.size(name)


def test_the_segment_before_is_synced_first(store, journal):
    journal.append([EMAILS])
    store.take()
    journal.roll(preamble())
    assert store.take()[:2] == [f"sync {temporary(1)}", f"create {temporary(2)}"]
    assert prefixes(store) == [(1, 1, 0, 1), (1, 2, 1, 1), (2, 3, 2, 1)]


def temporary(segment: int) -> str:
    return f"{segment_name(segment)}.tmp"


def test_segments_name_their_log_and_the_one_before(store, journal):
    journal.roll(preamble())
    journal.roll(preamble())
    heads = [recovery.head_of(store.read(segment_name(number)), number) for number in (1, 2, 3)]
    assert len({head.log for head in heads}) == 1
    assert [head.previous for head in heads] == [0, heads[0].mark, heads[1].mark]
    assert len({head.mark for head in heads}) == 3


def test_a_log_goes_on_behind_the_segment_that_is_there(store):
    before = SegmentHead(4, log=77, mark=88, previous=0)
    journal = Journal(store, 5, 60, 3, before, draw_from(9))
    journal.roll(preamble())
    head = recovery.head_of(store.read(segment_name(5)), 5)
    assert (head.log, head.previous) == (77, 88)
    (entry,) = recovery.entries(store.read(segment_name(5)), head)
    assert entry.prefix[:3] == (60, 59, 3)


# Entries.


def test_an_entry_is_written_at_once_and_synced_when_asked_to(store, journal):
    store.take()
    journal.append([EMAILS])
    assert store.take() == [f"append {temporary(1)}"]
    assert not journal.is_synced
    journal.sync()
    journal.sync()
    assert store.take() == [f"sync {temporary(1)}"], "a second sync has nothing to do"
    assert journal.is_synced


def test_an_entry_tells_what_was_known_to_be_synced(store, journal):
    for _ in range(2):
        journal.append([EMAILS])
    journal.sync()
    journal.append([EMAILS])
    assert [synced for _, _, synced, _ in prefixes(store)] == [0, 1, 1, 3]


def test_blocks_are_found_where_they_are_told_to_lie(store, journal):
    new = [published(1, b"one", b"two"), EMAILS, published(3, b"three")]
    places = journal.append(new)
    assert [block for block, _ in places] == [new[0].block, new[2].block]
    for block, (segment, offset) in places:
        assert store.read(segment_name(segment), offset, block.size) == block.data
    assert journal.size == store.size(segment_name(1))


def test_a_block_that_only_the_log_holds_is_written_again(store, journal):
    ((block, place),) = journal.append([published(1, b"one", b"two")])
    (old,) = [each for entry in read_items(store) for each in entry.records if hasattr(each, "block")]
    assert old.block.data is None
    assert (old.block.place, old.block.size) == (place, block.size)
    journal.roll(preamble())
    ((again, (segment, _)),) = journal.append([old])
    assert (again, segment) == (old.block, 2)
    *_, copied = read_log(store).entries
    assert copied == [plain(published(1, b"one", b"two"))]


def read_items(store) -> list[Entry]:
    return list(recovery.read_segments(store, recovery.scan(store).segments))


def test_a_block_that_is_damaged_is_never_handed_out(store, journal):
    ((_, (segment, offset)),) = journal.append([published(1, b"one")])
    block = Block(block_of(b"one").lengths, None, 3)
    block.place = (segment, offset)
    (old,) = [each for entry in read_items(store) for each in entry.records if hasattr(each, "block")]
    block.checksum = old.block.checksum
    assert read_block(store, block) == b"one"
    store.files[segment_name(1)][offset] ^= 1
    with pytest.raises(OSError, match=f"offset {offset} of {segment_name(1)} is damaged"):
        read_block(store, block)
    store.truncate(segment_name(1), offset + 1)
    with pytest.raises(OSError, match="is damaged"):
        read_block(store, block)


# Segments go.


def test_a_segment_goes_once_it_is_on_the_disk_that_it_does_not_matter(store, journal):
    journal.roll(preamble())
    journal.roll(preamble())
    store.take()
    journal.forget(3)
    told = [f"append {temporary(3)}", f"sync {temporary(3)}"]
    assert store.take() == [*told, f"remove {segment_name(1)}", f"remove {segment_name(2)}", "sync names"]
    assert prefixes(store)[-1] == (3, 4, 3, 3)


def test_what_is_forgotten_already_is_not_forgotten_again(store, journal):
    journal.roll(preamble())
    journal.forget(2)
    store.take()
    journal.forget(2)
    journal.forget(1)
    assert store.take() == []


def test_pinned_segments_stay_until_the_last_pin_is_gone(store, journal):
    for _ in range(3):
        journal.roll(preamble())
    journal.forget(2)
    journal.pin()
    journal.forget(3)
    journal.pin()
    journal.forget(4)
    journal.unpin()
    assert store.names() == [segment_name(number) for number in (2, 3, 4)]
    found = recovery.scan(store)
    assert (found.segments, found.forgotten) == ([4], [segment_name(2), segment_name(3)])
    store.take()
    journal.unpin()
    assert store.take() == [f"remove {segment_name(2)}", f"remove {segment_name(3)}", "sync names"]
    assert store.names() == [segment_name(4)]


def test_an_unpin_that_has_nothing_to_remove_does_nothing(store, journal):
    journal.pin()
    store.take()
    journal.unpin()
    assert store.take() == []


def test_closing_syncs(store, journal):
    journal.append([EMAILS])
    store.take()
    journal.close()
    assert store.take() == [f"sync {temporary(1)}", f"close {temporary(1)}"]
    assert (journal.size, journal.is_synced) == (0, True)
