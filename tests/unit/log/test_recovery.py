from __future__ import annotations

import pytest
from crc32c import crc32c

from log_files import EMAILS, MemoryStore, Segment, preamble, published, read_log, write_log
from wherry_broker.core.records import Standing
from wherry_broker.log import recovery
from wherry_broker.log.codec import ENTRY_PREFIX_BYTES, SEGMENT_HEAD_BYTES, VERSION
from wherry_broker.log.journal import Journal, segment_name
from wherry_broker.log.recovery import CorruptLog, ForeignLog

FIRST, SECOND, THIRD = map(segment_name, (1, 2, 3))
STANDING = Standing(1, "emails", {"durability": "synced"}, 1, ())


def three_segments(**options) -> MemoryStore:
    """Each has a preamble and three publishes of its own."""
    store = MemoryStore()
    offsets = iter(range(1, 100))
    segments = []
    for number in range(3):
        entries = [[published(next(offsets), b"body %d of %d" % (each, number))] for each in range(3)]
        if number == 0:
            entries.insert(0, [EMAILS])
        segments.append(Segment(preamble(*[STANDING][: number and 1]), entries))
    write_log(store, segments, **options)
    return store


def starts(store, name) -> list[int]:
    """Where the entries of a segment begin; last, where it ends."""
    data = bytes(store.files[name])
    head = recovery.head_of(data, recovery.segment_number(name))
    items = list(recovery.entries(data, head))
    return [*(item.offset for item in items), len(data)]


def damage(store) -> CorruptLog:
    before = store.contents()
    with pytest.raises(CorruptLog) as caught:
        read_log(store)
    assert store.contents() == before
    return caught.value


def test_a_whole_log_is_read_in_order():
    store = three_segments()
    read = read_log(store)
    assert len(read.entries) == 13
    assert read.torn is None
    bodies = [record[-1][1] for entry in read.entries for record in entry if record[0] == "Published"]
    assert bodies == [b"body %d of %d" % (each, number) for number in range(3) for each in range(3)]


def test_no_segments_are_an_empty_log():
    assert recovery.scan(MemoryStore({"lock": b""})) == ([], [], [], None)


# The tail.


@pytest.mark.parametrize("kept", [1, ENTRY_PREFIX_BYTES - 1, ENTRY_PREFIX_BYTES, -1])
def test_an_unfinished_last_entry_is_a_torn_tail(kept):
    store = three_segments()
    whole = read_log(store).entries
    start, end = starts(store, THIRD)[-2:]
    store.truncate(THIRD, start + kept if kept > 0 else end + kept)
    read = read_log(store)
    assert read.entries == whole[:-1]
    assert (read.torn.name, read.torn.offset, read.torn.size) == (THIRD, start, store.size(THIRD) - start)


def test_zeros_after_the_last_entry_are_a_torn_tail():
    store = three_segments()
    end = store.size(THIRD)
    store.files[THIRD] += bytes(4_096)
    read = read_log(store)
    assert (read.torn.offset, read.torn.size) == (end, 4_096)


def test_a_bad_entry_before_ones_that_do_not_know_it_synced_is_a_torn_tail():
    # The disk writes unsynced sectors in any order: a later one may be there although an earlier one is not.
    store = three_segments(sync=False)
    whole = read_log(store).entries
    second = starts(store, THIRD)[2]
    store.files[THIRD][second + ENTRY_PREFIX_BYTES] ^= 1
    read = read_log(store)
    assert read.entries == whole[:-2]
    assert read.torn.offset == second


def test_a_bad_entry_that_a_later_one_knows_to_be_synced_is_damage():
    store = three_segments()
    second = starts(store, THIRD)[2]
    store.files[THIRD][second + ENTRY_PREFIX_BYTES] ^= 1
    error = damage(store)
    assert (error.name, error.offset) == (THIRD, second)
    assert "checksum" in error.reason


def test_a_torn_tail_is_cut_and_its_bytes_are_kept():
    store = three_segments()
    whole = bytes(store.files[THIRD])
    store.truncate(THIRD, len(whole) - 3)
    torn = read_log(store).torn
    recovery.cut(store, torn)
    assert bytes(store.files[THIRD]) == whole[: torn.offset]
    assert bytes(store.files[torn.aside]) == whole[torn.offset : -3]
    assert read_log(store).torn is None
    assert recovery.scan(store).segments == [1, 2, 3]  # what is kept aside is no segment


def test_cutting_again_after_a_crash_in_the_middle_of_it_is_the_same():
    store = three_segments()
    store.truncate(THIRD, store.size(THIRD) - 3)
    torn = read_log(store).torn
    store.create(torn.aside).append([b"half of"])
    recovery.cut(store, torn)
    assert store.size(torn.aside) == torn.size


# Damage.


def test_damage_before_the_last_segment_is_never_a_torn_tail():
    store = three_segments(sync=False)
    last = starts(store, SECOND)[-2]
    store.truncate(SECOND, store.size(SECOND) - 1)
    error = damage(store)
    assert (error.name, error.offset) == (SECOND, last)


def test_the_preamble_is_never_a_torn_tail():
    store = three_segments()
    store.truncate(THIRD, SEGMENT_HEAD_BYTES + 5)
    assert (damage(store).name, damage(store).offset) == (THIRD, SEGMENT_HEAD_BYTES)


@pytest.mark.parametrize("size", [0, 1, SEGMENT_HEAD_BYTES - 1])
def test_a_segment_without_a_whole_head_is_damage(size):
    store = three_segments()
    store.truncate(THIRD, size)
    assert (damage(store).name, damage(store).offset) == (THIRD, 0)


def test_a_segment_that_is_a_head_only_is_damage():
    store = three_segments()
    store.truncate(THIRD, SEGMENT_HEAD_BYTES)
    assert (damage(store).name, damage(store).offset) == (THIRD, SEGMENT_HEAD_BYTES)


def test_an_entry_that_is_there_twice_is_damage():
    store = three_segments()
    last, end = starts(store, THIRD)[-2:]
    store.files[THIRD] += store.files[THIRD][last:end]
    assert (damage(store).name, damage(store).offset) == (THIRD, end)


def test_an_entry_that_was_taken_out_is_damage():
    store = three_segments()
    second, third = starts(store, THIRD)[2:4]
    del store.files[THIRD][second:third]
    error = damage(store)
    assert (error.name, error.offset) == (THIRD, second)
    assert "follows entry" in error.reason


def test_the_text_names_the_file_the_offset_and_what_to_do():
    store = three_segments()
    store.files[FIRST][SEGMENT_HEAD_BYTES + 60] ^= 4
    text = str(damage(store))
    assert FIRST in text
    assert f"at offset {SEGMENT_HEAD_BYTES}:" in text
    assert "wherry log repair" in text
    assert "\n" not in text


# Files that come and go.


@pytest.mark.parametrize("name", [FIRST, SECOND])
def test_a_segment_that_is_missing_is_damage(name):
    store = three_segments()
    store.remove(name)
    assert (damage(store).name, damage(store).reason) == (name, "the file is missing")


def test_segments_that_were_forgotten_may_come_back():
    store = three_segments()
    old = store.contents()
    journal_of(store, oldest=3)
    for names in ((FIRST, SECOND), (FIRST,), ()):
        again = MemoryStore({**store.contents(), **{name: old[name] for name in names}})
        found = recovery.scan(again)
        assert (found.segments, found.forgotten) == ([3, 4], list(names))


def journal_of(store, oldest):
    """Goes on with a log, as a start does, and forgets all segments before `oldest`."""
    found = recovery.scan(store)
    *_, last = recovery.read_segments(store, found.segments)
    journal = recovery_journal(store, found, last)
    journal.roll(preamble(STANDING))
    journal.forget(oldest)
    return journal


def recovery_journal(store, found, last):
    return Journal(store, found.segments[-1] + 1, last.prefix.number + 1, found.segments[0], found.head)


def test_damage_where_it_is_told_that_segments_are_forgotten_is_named_as_such():
    store = three_segments()
    journal_of(store, oldest=3)
    last = segment_name(4)
    told = starts(store, last)[-2]
    store.files[last][told + 8] ^= 1
    error = damage(store)
    assert (error.name, error.offset) == (last, told)
    assert f"{FIRST} is missing" in error.reason


def test_a_segment_under_another_name_is_damage():
    store = three_segments()
    store.files[SECOND], store.files[THIRD] = store.files[THIRD], store.files[SECOND]
    assert damage(store).name == SECOND


@pytest.mark.parametrize("name", [FIRST, SECOND, THIRD])
def test_a_segment_of_another_log_is_damage(name):
    store, other = three_segments(), three_segments(marks=100)
    assert store.size(name) == other.size(name)
    store.files[name] = other.files[name]
    error = damage(store)
    assert error.offset == 0
    assert "another log" in error.reason


@pytest.mark.parametrize("number", [4, 9])
def test_a_segment_of_another_log_that_forgets_all_others_is_damage(number):
    store, other = three_segments(), MemoryStore()
    write_log(other, [Segment(preamble(STANDING), [])], first=number, marks=100, entry=14)
    store.files |= other.files
    assert damage(store).name == segment_name(number)


def test_a_segment_of_a_log_that_was_put_back_and_went_its_own_way_is_damage():
    store = three_segments()
    twin = store.copy()
    for each in (store, twin):
        journal_of(each, oldest=1)
        journal_of(each, oldest=1)
    assert store.size(segment_name(4)) == twin.size(segment_name(4))
    store.files[segment_name(4)] = twin.files[segment_name(4)]
    error = damage(store)
    assert (error.name, error.offset) == (segment_name(5), 0)


def test_what_a_message_holds_is_never_taken_for_an_entry():
    # A message that is a copy of the log so far, and the publish of it is torn.
    store = MemoryStore()
    journal = write_log(store, [Segment(preamble(), [[EMAILS], [published(1, b"x")]])])
    whole = read_log(store).entries
    copy = bytes(store.files[FIRST])
    start = store.size(FIRST)
    journal.append([published(2, copy)])
    store.files[FIRST][start + ENTRY_PREFIX_BYTES] ^= 1
    read = read_log(store)
    assert read.entries == whole
    assert read.torn.offset == start


# Versions.


def with_version(store, name, version):
    """As another version of wherry would write it: the version is part of what the checksum covers."""
    data = store.files[name]
    data[8:12] = version.to_bytes(4, "big")
    data[SEGMENT_HEAD_BYTES - 4 : SEGMENT_HEAD_BYTES] = crc32c(bytes(data[: SEGMENT_HEAD_BYTES - 4])).to_bytes(4, "big")


@pytest.mark.parametrize("name", [FIRST, THIRD])
@pytest.mark.parametrize("version", [VERSION + 1, 0xFFFF])
def test_an_unknown_version_is_refused_by_name(name, version):
    store = three_segments()
    with_version(store, name, version)
    error = damage(store)
    assert isinstance(error, ForeignLog)
    assert f"{name} at offset 0" in str(error)
    assert f"format version {version}, and this program reads version {VERSION}" in str(error)
    assert "repair" not in str(error)
    assert "damaged" not in str(error)


@pytest.mark.parametrize("version", [0, 0x1_0000, 0xFFFF_FFFF])
def test_what_cannot_be_a_version_is_damage(version):
    store = three_segments()
    with_version(store, THIRD, version)
    assert not isinstance(damage(store), ForeignLog)


def test_a_flipped_bit_in_the_version_is_damage_and_no_other_version():
    store = three_segments()
    store.files[THIRD][11] ^= 2
    error = damage(store)
    assert not isinstance(error, ForeignLog)
    assert "checksum" in error.reason
