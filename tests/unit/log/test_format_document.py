"""FORMAT.md against the code: what its tables say is what the code writes, and nothing is missing on either side."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import msgpack
import pytest
from crc32c import crc32c

import wherry_broker
from documents import Document, tables
from log_files import EVERY_KIND, NOW_MS, MemoryStore, Segment, published, write_log
from wherry_broker.core import records
from wherry_broker.core.batch import Envelope, Failure
from wherry_broker.log import codec, recovery
from wherry_broker.log.journal import segment_name, segment_number

FORMAT = Document(Path(wherry_broker.__file__).parent / "log" / "FORMAT.md")
TYPE_NAMES = {int: "int", str: "str", bytes: "bin", bool: "bool", dict: "map", list: "array", type(None): "nil"}
OF_A_BLOCK = ["lengths", "size", "checksum"]
PARTS = {
    "Envelope": Envelope,
    "Failure": Failure,
    "Stage": records.Stage,
    "Standing": records.Standing,
    "Target": records.Target,
    "Row": records.Row,
    "Known": records.Known,
    "Plan": records.Plan,
    "Kept": records.Kept,
    "Waiting": records.Waiting,
}
KINDS = FORMAT.table("4. Records")


def fields_of(cls) -> list[str]:
    """The names of a record's fields as they are written."""
    names = list(cls._fields)
    return names[:-1] + OF_A_BLOCK if names[-1] == "block" else names


def rows_of(*new) -> list[list]:
    """Records as a reader finds them in an entry's head."""
    pieces = codec.encode_entry(1, 1, 0, 1, new, lambda _: b"").pieces
    return msgpack.unpackb(pieces[0][codec.ENTRY_PREFIX_BYTES :])


def check_types(table, values) -> None:
    """The values have the types that a table lists."""
    assert all("It is missing when" in row["meaning"] for row in table[len(values) :])
    for row, value in zip(table[: len(values)], values, strict=True):
        assert TYPE_NAMES[type(value)] in row["type"].split(" or "), row


def test_the_contents_lead_to_the_sections():
    FORMAT.check_contents()


def test_the_version_is_the_code_s():
    assert FORMAT.text.startswith(f"# The files of a wherry log, version {codec.VERSION}\n")
    assert f"This page is version {codec.VERSION}, the only one." in FORMAT.section("8. Versions")


def test_the_file_names_are_the_code_s():
    names = [row["name"] for row in FORMAT.table("1. Files")]
    assert names[0] == segment_name(1)
    assert names[1] == segment_name(2) + ".tmp"
    assert names[2] == recovery.Torn(segment_name(1), 4242, 1, "").aside
    assert [segment_number(name) for name in names] == [1, *[None] * (len(names) - 1)]


# Segments and entries.

SIZES = {"1": "B", "4": "I", "8": "Q"}


def test_the_head_of_a_segment_is_as_drawn():
    table = FORMAT.table("2. Segments")
    assert [row["field"] for row in table] == ["magic", "version", *codec.SegmentHead._fields, "checksum"]
    layout = ">8s" + "".join(SIZES[row["bytes"]] for row in table[1:])
    head = codec.SegmentHead(2, 3, 4, 5)
    data = codec.encode_segment_head(head)
    assert struct.calcsize(layout) == len(data) == codec.SEGMENT_HEAD_BYTES
    magic, version, *fields, checksum = struct.unpack(layout, data)
    assert (magic.decode(), version, fields) == (codec.SEGMENT_MAGIC.decode(), codec.VERSION, list(head))
    assert magic.decode() in table[0]["meaning"]
    assert checksum == crc32c(data[:-4])
    assert starts_drawn(FORMAT.section("2. Segments")) == offsets(table)


def test_an_entry_is_as_drawn():
    table = FORMAT.table("3. Entries")
    layout = ">" + "".join(SIZES[row["bytes"]] for row in table[:-2])
    assert struct.calcsize(layout) == codec.ENTRY_PREFIX_BYTES == 48
    new = published(1, b"hello")
    data = b"".join(codec.encode_entry(7, 3, 2, 1, [new], lambda _: b"").pieces)
    values = dict(zip([row["field"] for row in table], struct.unpack_from(layout, data), strict=False))
    assert [row["field"] for row in table[-2:]] == ["head", "blocks"]
    assert [values[name] for name in ("mark", "number", "synced", "oldest")] == [7, 3, 2, 1]
    assert values["blocks_bytes"] == 5
    head = data[48 : 48 + values["head_bytes"]]
    assert data == data[:48] + head + b"hello"
    assert values["checksum"] == crc32c(data[:44] + head)
    assert msgpack.unpackb(head)[0][-1] == crc32c(b"hello")
    assert starts_drawn(FORMAT.section("3. Entries")) == [*offsets(table[:-2]), "48 + H"]


def starts_drawn(text: str) -> list[str]:
    """The offsets over a drawing."""
    found = re.search(r"^ byte +(.*)$", text, re.MULTILINE)
    assert found
    return re.split(r" {2,}", found[1].strip())


def offsets(table) -> list[str]:
    """Where the fields of a table begin, and the end of the last one."""
    result = [0]
    for row in table:
        result.append(result[-1] + int(row["bytes"]))
    return list(map(str, result))


# Records.


def test_every_kind_is_listed():
    listed = {int(row["kind"]): row["name"] for row in KINDS}
    assert listed == {number: cls.__name__ for number, cls in codec.KINDS.items()}
    assert {type(record) for record in EVERY_KIND} == set(codec.KINDS.values()) == set(records.Record.__args__)


@pytest.mark.parametrize("row", KINDS, ids=lambda row: row["name"])
def test_a_kind_is_as_listed(row):
    cls = codec.KINDS[int(row["kind"])]
    assert row["block"] == ("yes" if cls._fields[-1] == "block" else "no")
    table = FORMAT.table(row["name"])
    assert [(each["position"], each["name"]) for each in table] == [
        (str(position), name) for position, name in enumerate(fields_of(cls), 1)
    ]
    examples = [record for record in EVERY_KIND if type(record) is cls]
    for kind, *values in rows_of(*examples):
        assert kind == int(row["kind"])
        check_types(table, values)


@pytest.mark.parametrize("name", PARTS)
def test_a_part_of_a_record_is_as_listed(name):
    table = FORMAT.table(name)
    assert [(row["position"], row["name"]) for row in table] == [
        (str(position), field) for position, field in enumerate(PARTS[name]._fields)
    ]
    found = [value for record in EVERY_KIND for value in parts(record) if type(value) is PARTS[name]]
    assert found
    for value in found:
        check_types(table, msgpack.unpackb(msgpack.packb(value)))


def parts(value) -> list:
    """All tuples within a tuple."""
    inner = [each for each in value if isinstance(each, tuple)]
    return inner + [deeper for each in inner for deeper in parts(each)]


def test_every_table_of_fields_is_tested():
    titles = re.findall(r"^### (.*)$", FORMAT.text, re.MULTILINE)
    assert titles == [row["name"] for row in KINDS] + list(PARTS)


def test_the_causes_are_the_code_s():
    for name, causes in (
        (
            "Removed",
            (
                records.SETTLED,
                records.EXPIRED,
                records.DROPPED,
                records.PURGED,
                records.CANCELLED,
                records.MOVED,
                records.UNSET,
            ),
        ),
        ("Returned", (records.FAILED, records.LOST, records.RELEASED, records.REDRIVEN)),
        ("Died", (records.FAILED, records.LOST, records.REJECTED)),
    ):
        (text,) = (row["meaning"] for row in FORMAT.table(name) if row["name"] == "cause")
        meaning = text.rpartition(": ")[2].partition(";")[0]
        assert tuple(re.findall(r"\w+", meaning.replace(" or ", " "))) == causes


# The worked example.


def test_the_example_is_what_the_code_writes():
    store = MemoryStore()
    bodies = (b"\x80hello", b"\x80hi")
    declared = records.Declared(1, "emails", {"durability": "synced"}, 1)
    write_log(store, [Segment(records.Preamble(NOW_MS, 1, 1, ()), [[declared, published(1, *bodies)]])])
    assert bytes(store.files[segment_name(1)]) == bytes.fromhex(FORMAT.fenced("segment"))


def test_the_explained_bytes_are_the_example():
    rows = tables(FORMAT.section("6. A segment, byte by byte"))[0]
    assert bytes.fromhex("".join(row["bytes"] for row in rows)) == bytes.fromhex(FORMAT.fenced("segment"))
    named = [re.sub(r"^the \w+ entry: ", "", row["meaning"]).partition(":")[0] for row in rows]
    prefix = ["mark", "head_bytes", "blocks_bytes", "number", "synced", "oldest"]
    assert named[:6] == ["magic", "version 1", "segment 1", "log", "mark", "previous"]
    assert named[7:13] == named[21:27] == prefix
    for kind, start in (("Preamble", 17), ("Declared", 31), ("Published", 37)):
        fields = [row["name"] for row in FORMAT.table(kind) if "It is missing when" not in row["meaning"]]
        told = [name.removesuffix(" of the block") for name in named[start : start + len(fields)]]
        assert told == fields


def test_a_reader_made_from_the_page_alone_reads_the_example():
    data = bytes.fromhex(FORMAT.fenced("segment"))
    mark, position, found = data[28:36], 48, []
    while position < len(data):
        head_bytes, blocks_bytes = struct.unpack_from(">IQ", data, position + 8)
        head = position + 48
        assert data[position : position + 8] == mark
        found += msgpack.unpackb(data[head : head + head_bytes])
        position = head + head_bytes + blocks_bytes
    assert [each[0] for each in found] == [9, 1, 4]
    assert found[1][2] == "emails"
    assert data[-9:] == b"\x80hello\x80hi"
