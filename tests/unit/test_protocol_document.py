"""protocol.md against the code: what its tables say is what the code does, and nothing is missing on either side."""

from __future__ import annotations

import ast
import inspect
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgpack
import pytest

import wherry_broker
import wire_vectors
from documents import Document, tables
from wherry import errors
from wherry.model import commands, fields, names, replies
from wherry.model.fields import Malformed, OutOfRange, Spec
from wherry.wire import codec, framing, messages
from wherry.wire.codec import LAYOUTS
from wherry_broker.core import (
    attendance,
    bounds,
    catalogue,
    consumers,
    inboxes,
    options,
    planning,
    producers,
    records,
    routing,
    scheduling,
    sessions,
    storing,
    view,
    watching,
)
from wherry_broker.core.batch import STATE_NAMES
from wherry_broker.core.effects import Delivery
from wherry_broker.core.shard import Shard
from wherry_broker.server import backups
from wherry_broker.server.limits import Limits

ROOT = Path(__file__).parents[2]
DOCUMENT = Document(ROOT / "protocol.md")
section, table, fenced = DOCUMENT.section, DOCUMENT.table, DOCUMENT.fenced
BROKER = Path(wherry_broker.__file__).parent
NOW_MS = 1_800_000_000_000
TYPE_NAMES = {int: "int", str: "str", bytes: "bin", bool: "bool", dict: "map", tuple: "array", type(None): "nil"}


def numbers(text: str) -> list[int]:
    return [int(number.replace(",", "")) for number in re.findall(r"-?\d[\d,]*", text)]


def all_specs() -> dict[str, Spec]:
    """Every field type by name: those of fields, and those of the cells of their rows."""
    result: dict[str, Spec] = {}
    waiting = [spec for layout in LAYOUTS.values() for spec in layout.specs]
    while waiting:
        spec = waiting.pop()
        result[spec.name] = spec
        waiting += cells_of(spec)
    return result


def cells_of(spec: Spec) -> tuple[Spec, ...]:
    return inspect.getclosurevars(spec.check).nonlocals.get("cells", ())


def takes(spec: Spec, value: Any) -> bool:
    try:
        spec.check(value)
    except OutOfRange:
        return False
    return True


# Section 2: frames.


def test_the_drawn_prefix_is_the_code_s():
    assert re.search(r"length = 8 \+ H \+ B bytes", section("2. Frames"))
    sizes = [row["bytes"] for row in table("2. Frames")]
    assert sizes == ["4", "1", "1", "2", "4", "H", "B"]
    assert sum(map(int, sizes[:5])) == framing.PREFIX_BYTES
    assert framing.AFTER_LENGTH_BYTES == 8


def test_the_worked_example_is_what_the_code_says():
    bodies = [
        messages.pack_headers(None) + b"hello",
        messages.pack_headers({"kind": "welcome"}) + b"world",
    ]
    publish = commands.Publish(1, "emails", messages.pack_lengths(bodies), block=b"".join(bodies))
    confirm = replies.Confirm("memory", ((1, 42, False),))
    assert bytes.fromhex(fenced("frame PUBLISH")) == codec.encode(publish)
    assert bytes.fromhex(fenced("frame CONFIRM")) == codec.encode(confirm)
    (frame,) = wire_vectors.frames_of(bytes.fromhex(fenced("frame PUBLISH")))
    got = codec.decode(frame)
    assert [messages.unpack_message(each) for each in messages.split_block(got.lengths, got.block)] == [
        ({}, b"hello"),
        ({"kind": "welcome"}, b"world"),
    ]


def test_the_explained_bytes_are_the_worked_example():
    rows = table("Worked example")
    assert bytes.fromhex("".join(row["bytes"] for row in rows)) == bytes.fromhex(fenced("frame PUBLISH"))
    named = [row["meaning"].partition(":")[0] for row in rows if re.match(r"\d+ ", row["meaning"])]
    assert named == [f"{position} {name}" for position, name in enumerate(LAYOUTS[0x10].fields)]


# Section 3: field types.

TYPES, ROWS = tables(section("3. Headers and field types"))


def test_every_field_type_is_listed_once():
    assert sorted(row["type"] for row in TYPES) == sorted(all_specs())


@pytest.mark.parametrize("row", TYPES, ids=lambda row: row["type"])
def test_a_field_type_is_as_listed(row):
    spec = all_specs()[row["type"]]
    assert row["msgpack"].split(" or ") == [TYPE_NAMES[kind] for kind in spec.types]
    limits = numbers(row["limit"])
    kind = spec.types[0]
    if kind is bool:
        assert not limits
    elif kind is int:
        low, high = limits
        assert [takes(spec, value) for value in (low - 1, low, high, high + 1)] == [False, True, True, False]
    else:
        high = limits[-1]
        assert takes(spec, filled(spec, high))
        assert not takes(spec, filled(spec, high + 1))


def filled(spec: Spec, size: int) -> Any:
    """A value of a type, as large as `size` units."""
    cells = {int: 1, str: "a", bytes: bytes(4), bool: True, tuple: ()}
    match spec.types[0]():
        case str():
            return "a" * size
        case bytes():
            return bytes(size * (4 if spec.name == "lengths" else 1))
        case dict():
            return dict.fromkeys(range(size))
    row = tuple(cells[cell.types[0]] for cell in cells_of(spec))
    return (row or "a",) * size


def test_lengths_and_queue_names_have_a_least_size():
    specs = all_specs()
    with pytest.raises(Malformed):
        specs["lengths"].check(b"")
    assert not takes(specs["queue"], "")


def test_the_rows_are_as_listed():
    with_cells = {name: spec for name, spec in all_specs().items() if cells_of(spec)}
    assert [row["type"] for row in ROWS] == [row["type"] for row in TYPES if row["type"] in with_cells]
    assert len(ROWS) == len(with_cells)
    for row in ROWS:
        cells = [cell.split(": ") for cell in row["cells, in order"].split(", ")]
        assert [kind for _, kind in cells] == [cell.name for cell in cells_of(with_cells[row["type"]])]


# Section 4: opcodes.

OPCODES = table("4. Opcodes")


def heading(opcode: int) -> str:
    return f"0x{opcode:02x} {LAYOUTS[opcode].cls.__name__.upper()}"


def test_the_opcodes_are_listed_in_order():
    assert [f"{row['opcode']} {row['name']}" for row in OPCODES] == [heading(opcode) for opcode in sorted(LAYOUTS)]


def test_every_opcode_has_a_chapter_and_every_chapter_an_opcode():
    chapters = re.findall(r"^### (0x.*)$", DOCUMENT.text, re.MULTILINE)
    assert chapters == [heading(opcode) for opcode in sorted(LAYOUTS)]


@pytest.mark.parametrize("row", OPCODES, ids=lambda row: row["name"])
def test_an_opcode_is_as_listed(row):
    layout = LAYOUTS[int(row["opcode"], 16)]
    either = layout.cls in {commands.Ping, replies.Pong, commands.Goodbye}
    mine = "client" if layout.cls.__module__ == commands.__name__ else "broker"
    assert row["from"] == ("either" if either else mine)
    assert row["block"] == ("yes" if layout.has_block else "no")
    is_request = layout.cls in commands.Request.__args__
    assert bool(row["reply"]) == (is_request or layout.cls in {commands.Hello, commands.Ping})
    assert not row["reply"] or row["reply"] in wire_vectors.CLASSES


@pytest.mark.parametrize("opcode", LAYOUTS, ids=heading)
def test_the_fields_of_an_opcode_are_as_listed(opcode):
    layout = LAYOUTS[opcode]
    listed = [(row["position"], row["name"], row["type"], row["default"]) for row in table(heading(opcode))]
    defaults = ["required"] * layout.required + [written(default) for default in layout.defaults]
    expected = zip(map(str, range(99)), layout.fields, (spec.name for spec in layout.specs), defaults, strict=False)
    assert listed == list(expected)
    assert all(row["meaning"] for row in table(heading(opcode)))


def written(value: Any) -> str:
    if value is None:
        return "nil"
    if isinstance(value, bytes):
        return repr(value).replace("'", '"')
    return json.dumps(value)


# Section 6: queues.


def test_the_states_are_the_code_s():
    assert [row["state"] for row in table("States")] == list(STATE_NAMES)
    causes = {records.SETTLED, records.EXPIRED, records.DROPPED, records.PURGED}
    assert causes <= set(re.findall(r"`(\w+)`", section("States")))


def test_the_verbs_are_the_code_s():
    listed = [(row["verb"], row["name"]) for row in table("Settling")]
    assert listed == [(str(verb.value), verb.name) for verb in commands.Verb]


def test_the_options_are_the_code_s():
    mine = options.QueueOptions().as_map()
    rows = {row["option"]: row for row in table("Options")}
    assert list(rows) == list(mine)
    for name, row in rows.items():
        assert row["type"] == type(mine[name]).__name__.replace("tuple", "list"), name
        assert row["default"] == json.dumps(mine[name]), name
        if name in options.CHOICES:
            assert tuple(row["range"].split(", ")) == options.CHOICES[name]
        else:
            assert tuple(numbers(row["range"])) == options.LIMITS.get(name, ()), name
        assert row["meaning"], name


def test_the_info_map_is_the_code_s():
    shard = Shard(1, lambda: 0.5)
    (info,) = [say for say in said(shard, commands.Declare(1, "q", {})) if isinstance(say, replies.QueueInfo)]
    rows = {row["key"]: row["type"] for row in table("Info")}
    assert list(rows) == list(info.info)
    for name, kind in rows.items():
        value = info.info[name]
        assert kind == TYPE_NAMES.get(type(value), type(value).__name__), name


def test_numbers_of_the_text_are_the_code_s():
    publishing = section("Publishing")
    assert f"between {bounds.RETRY_AFTER_FLOOR_MS} and" in publishing
    assert f"{bounds.RETRY_AFTER_CEILING_MS:,} ms" in publishing
    assert f"{bounds.RETRY_AFTER_UNKNOWN_MS:,} ms" in publishing
    assert f"at most {view.PAGE_QUEUES_MAX} queues" in section("0x32 LISTQUEUES")
    for limit in (view.PEEK_MESSAGES_MAX, view.PEEK_SPANS_MAX, view.PEEK_BYTES_MAX):
        assert f"{limit:,}" in section("0x36 PEEK")
    assert f"{framing.FIRST_FRAME_BYTES_MAX:,} bytes" in section("Opening")


def test_the_numbers_of_schedules_are_the_code_s():
    text = " ".join(section("Schedules").split())
    assert f"the latest {planning.MADE_UP_MAX} at most" in text
    assert f"at most {planning.COUNTED_MAX:,} at a time" in text
    assert f"else after {scheduling.RETRY_MS // 1000} s" in text
    assert scheduling.SET_BACK_MS == 3 * 3_600_000
    assert "more than three hours" in text
    assert f"at most {scheduling.PAGE_SCHEDULES_MAX} schedules" in section("0x72 LISTSCHEDULES")
    asking = " ".join(section("0x70 SCHEDULE").split())
    assert f"at most {planning.MESSAGE_BYTES_MAX:,} bytes" in asking
    assert f"in ms, {planning.EVERY_MIN_MS} or more" in asking
    assert table("0x70 SCHEDULE")[13]["meaning"].endswith("{}, {} or {}".format(*planning.MISSED))
    for change in (scheduling.CREATED, scheduling.CHANGED, scheduling.SAME):
        assert f"`{change}`" in section("0x9d SCHEDULES")


# Section 7: errors.

ERRORS = {row["code"]: row for row in table("7. Errors")}


def test_every_error_code_is_listed():
    assert sorted(ERRORS) == sorted([*errors.REFUSALS, errors.ProtocolError.code])


@pytest.mark.parametrize("code", ERRORS)
def test_an_error_code_is_as_listed(code):
    row = ERRORS[code]
    refusal = errors.REFUSALS.get(code)
    assert row["retryable"] == ("yes" if refusal and refusal.retryable else "no")
    sent = set(row["sent"].split(", "))
    assert sent <= {"ERROR", "STOPPED", "GOODBYE"} or sent == {"reserved"}
    closing = "in GOODBYE" if sent > {"GOODBYE"} else "yes"
    assert row["closes"] == (closing if "GOODBYE" in sent else "no")
    assert row["when"]


def calls(name: str, folder: str = "") -> list[ast.Call]:
    """Every call of something named `name` in the broker's sources."""
    trees = [ast.parse(path.read_text("utf-8")) for path in sorted((BROKER / folder).rglob("*.py"))]
    found = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [call for call in found if name == getattr(call.func, "id", getattr(call.func, "attr", ""))]


def test_the_refusals_of_the_core_are_the_errors_that_are_listed_as_sent():
    raised = {call.args[0].value for call in calls("Refusal")}
    assert raised == {code for code, row in ERRORS.items() if "ERROR" in row["sent"]}


def test_consumers_are_stopped_with_the_codes_that_are_listed():
    dismissals = [*calls("dismiss", "core"), *calls("dismiss_session", "core")]
    stopped = {call.args[1].value for call in dismissals}
    assert stopped == {code for code, row in ERRORS.items() if "STOPPED" in row["sent"]}


def test_connections_are_closed_with_the_codes_that_are_listed():
    first = [call.args[0] for call in calls("close") if call.args]
    said = {node.value for each in first for node in ast.walk(each) if isinstance(node, ast.Constant)}
    assert said & set(ERRORS) == {code for code, row in ERRORS.items() if "GOODBYE" in row["sent"]}


def test_retryable_is_said_for_exactly_the_retryable_refusals():
    for call in calls("Refusal"):
        said_so = any(keyword.arg == "retryable" and keyword.value.value for keyword in call.keywords)
        assert said_so == (ERRORS[call.args[0].value]["retryable"] == "yes"), ast.unparse(call)


def test_reserved_codes_are_not_sent():
    reserved = {code for code, row in ERRORS.items() if row["sent"] == "reserved"}
    sent = {arg.value for name in ("Error", "Goodbye", "Stopped", "close") for arg in first_texts(name)}
    assert not reserved & sent


def first_texts(name: str) -> list[ast.Constant]:
    return [arg for call in calls(name) for arg in call.args if isinstance(arg, ast.Constant)]


# Sections 8 and 10: limits, durability.

LIMITS = {
    "frame before WELCOME": framing.FIRST_FRAME_BYTES_MAX,
    "frame": framing.FRAME_BYTES_MAX,
    "frames that have not come whole, of all connections": Limits().unfinished_bytes_max,
    "header": fields.HEADER_BYTES_MAX,
    "messages of a batch": fields.BATCH_MESSAGES_MAX,
    "messages of a SETTLE": fields.BATCH_MESSAGES_MAX,
    "settles of a COMMIT": fields.COMMIT_ROWS_MAX,
    "publishes of a COMMIT": fields.COMMIT_ROWS_MAX,
    "messages that a COMMIT settles": fields.BATCH_MESSAGES_MAX,
    "messages that a COMMIT publishes": fields.BATCH_MESSAGES_MAX,
    "block of a PUBLISH or a COMMIT": framing.FRAME_BYTES_MAX - fields.HEADER_BYTES_MAX - framing.PREFIX_BYTES,
    "rows of a field": fields.ROWS_MAX,
    "elements of any array": fields.ROWS_MAX,
    "entries of any map in a header": 64,
    "headers of a message": messages.HEADERS_MAX,
    "headers of a message, together": messages.HEADERS_BYTES_MAX,
    "name": fields.NAME_BYTES_MAX,
    "queue name": names.QUEUE_NAME_BYTES_MAX,
    "subject, or a pattern": names.SUBJECT_BYTES_MAX,
    "tokens of a subject, or of a pattern": names.SUBJECT_TOKENS_MAX,
    "queues that take one message": routing.TARGETS_MAX,
    "text": fields.TEXT_BYTES_MAX,
    "queues of a broker": catalogue.QUEUES_MAX,
    "temporary queues of a session": inboxes.INBOXES_MAX,
    "consumers of a connection": attendance.CONSUMERS_MAX,
    "producers that are remembered": producers.PRODUCERS_MAX,
    "publishes of a producer that are remembered": producers.SEQUENCES_MAX,
    "publishes of all producers that are remembered": producers.ROWS_MAX,
    "value of a store": fields.VALUE_BYTES_MAX,
    "watches of a connection": watching.WATCHES_MAX,
    "bytes of a fetch": storing.FETCH_BYTES_MAX,
    "bytes of a RESULTS": storing.FETCH_BYTES_MAX,
    "sessions without a connection": sessions.AWAY_MAX,
    "answers to SETTLEs that are kept for a client": consumers.ANSWERS_MAX,
    "queues of a page": view.PAGE_QUEUES_MAX,
    "schedules of a broker": scheduling.SCHEDULES_MAX,
    "messages of all schedules": scheduling.SCHEDULES_BYTES_MAX,
    "message of a schedule": planning.MESSAGE_BYTES_MAX,
    "schedules of a page": scheduling.PAGE_SCHEDULES_MAX,
    "messages of a peek": view.PEEK_MESSAGES_MAX,
    "spans of a peek": view.PEEK_SPANS_MAX,
    "characters of the keys and errors of a peek": view.PEEK_CHARACTERS_MAX,
    "bytes of a peek": view.PEEK_BYTES_MAX,
    "bytes of a piece": backups.PIECE_BYTES_MAX,
    "pieces without an answer": backups.PIECES_MAX,
    "retry_after_ms, lowest": bounds.RETRY_AFTER_FLOOR_MS,
    "retry_after_ms, highest": bounds.RETRY_AFTER_CEILING_MS,
    "retry_after_ms, unknown rate": bounds.RETRY_AFTER_UNKNOWN_MS,
}


def test_the_limits_are_the_code_s():
    assert {row["limit"]: numbers(row["value"]) for row in table("8. Limits")} == {
        name: [value] for name, value in LIMITS.items()
    }


def test_maps_and_arrays_end_where_the_limits_say():
    within, over = ({f"k{number}": number for number in range(count)} for count in (64, 65))
    assert codec.unpack_header(msgpack.packb([within])) == (within,)
    with pytest.raises(codec.BadFrame):
        codec.unpack_header(msgpack.packb([over]))
    assert len(codec.unpack_header(msgpack.packb([0] * fields.ROWS_MAX))) == fields.ROWS_MAX
    with pytest.raises(codec.BadFrame):
        codec.unpack_header(msgpack.packb([0] * (fields.ROWS_MAX + 1)))


def test_the_levels_are_the_code_s():
    assert tuple(row["level"] for row in table("10. Durability")) == options.LEVELS


def test_the_version_is_the_code_s():
    assert DOCUMENT.text.startswith(f"# The wherry protocol, version {codec.VERSION}\n")


# Section 11: the session.


def steps() -> list[tuple[str, Any, bytes]]:
    lines = fenced("session").splitlines()
    starts = [number for number, line in enumerate(lines) if not line.startswith(" ")]
    result = []
    for start, stop in pairwise([*starts, len(lines)]):
        who, name, said_fields = lines[start].split(" ", 2)
        message = wire_vectors.CLASSES[name](*wire_vectors.plain(json.loads(said_fields)))
        result.append((who, message, bytes.fromhex("".join(lines[start + 1 : stop]))))
    return result


def said(shard: Shard, command: Any, session: int | None = None) -> list[Any]:
    shard.submit(session or shard.attach(1 << 20), command, NOW_MS)
    shard.dispatch(NOW_MS)
    batch = shard.take_batch()
    if batch is not None:
        shard.committed(batch.mark)
    return [effect.say for effect in shard.take_effects()]


def test_the_frames_of_the_session_are_what_they_say():
    for _, message, data in steps():
        assert codec.encode(message) == data, message
        (frame,) = wire_vectors.frames_of(data)
        assert codec.decode(frame) == message


def test_the_session_is_one_that_the_core_would_hold():
    (_, hello, _), (_, welcome, _), *rest = steps()
    assert (type(hello), type(welcome)) == (commands.Hello, replies.Welcome)
    assert hello.version_min <= welcome.version <= hello.version_max
    shard = Shard(welcome.epoch, lambda: 0.5)
    session = shard.attach(1 << 20)
    expected: list[Any] = []
    for who, message, _ in rest:
        if who == "C":
            assert not expected, "the document leaves out what the broker says"
            expected = answers(shard, message, session)
        else:
            assert message == expected.pop(0)
    assert not expected


def answers(shard: Shard, message: Any, session: int) -> list[Any]:
    if isinstance(message, commands.Ping):
        return [replies.Pong(message.nonce)]
    if isinstance(message, commands.Goodbye):
        return []
    return [framed(say) for say in said(shard, message, session)]


def framed(say: Any) -> Any:
    if isinstance(say, Delivery):
        return replies.Deliver(say.consumer, say.lease_ms, (say.row,), say.lengths, say.data)
    return say


def test_the_contents_lead_to_the_sections():
    DOCUMENT.check_contents()
