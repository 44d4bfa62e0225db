"""What a header field may hold: one `Spec` for each type that the tables of protocol.md name.

A message type declares its fields as `name: Annotated[type, Spec]`; the codec checks by the spec, and a test holds
protocol.md's tables against it, so that a limit stands in one place only.

Two failures are told apart. `Malformed` is a wrong type: the sender does not speak the protocol, and its connection is
closed. `OutOfRange` is a value of the right type beyond its limit: that request is refused, and the connection lives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from wherry.model import names

if TYPE_CHECKING:
    from collections.abc import Callable

HEADER_BYTES_MAX = 65_536
BATCH_MESSAGES_MAX = 10_000
ROWS_MAX = BATCH_MESSAGES_MAX // 2
"""The most rows of a field: a SETTLED says so much when every second message of a whole batch is stale."""
COMMIT_ROWS_MAX = 1_000
"""The most rows of settles, and of publishes, in one COMMIT. Their messages have the limits of a SETTLE and a batch."""
TEXT_BYTES_MAX = 1_024
NAME_BYTES_MAX = 255
PRIORITY_MAX = 9
DURATION_MAX_MS = 3_153_600_000_000
"""A hundred years."""
VALUE_BYTES_MAX = 1_048_576
"""The longest value of a store, and the longest result of a message."""
PERMILLE_MAX = 1_000
SHOWN_MAX = 40


class Malformed(Exception):
    """A field holds a value of the wrong type."""


class OutOfRange(Exception):
    """A field holds a value of the right type that is over its limit."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One field type.

    Args:
        name: the type as the tables of protocol.md write it.
        types: the exact types that a value may have (a bool is not an int).
        check: raises OutOfRange for a value beyond the limit, or Malformed for one whose inside has a wrong type.
        low: a whole number within [low, high] needs no check; by default, none is.
        high: see low.
    """

    name: str
    types: tuple[type, ...]
    check: Callable[[Any], None]
    low: int = 1
    high: int = 0


def shown(value: object) -> str:
    """A value for an error text, cut to a length that fits a log line."""
    try:
        text = repr(value)
    except RecursionError:  # msgpack nests deeper than repr does
        text = type(value).__name__
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}…"


def integer(name: str, low: int, high: int) -> Spec:
    """A whole number within [low, high]."""

    def check(value: int) -> None:
        if not low <= value <= high:
            raise OutOfRange(f"{value} is not within {low} to {high}")

    return Spec(name, (int,), check, low, high)


def sized(name: str, kind: type, high: int, unit: str) -> Spec:
    """Bytes or a map of at most `high` units."""

    def check(value: Any) -> None:
        if len(value) > high:
            raise OutOfRange(f"{len(value)} {unit} are over the limit of {high}")

    return Spec(name, (kind,), check)


def text(name: str, high: int) -> Spec:
    """Text of at most `high` bytes of UTF-8."""

    def check(value: str) -> None:
        size = len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
        if size > high:
            raise OutOfRange(f"{size} bytes are over the limit of {high}")

    return Spec(name, (str,), check)


def optional(spec: Spec) -> Spec:
    """The same, or nil."""

    def check(value: Any) -> None:
        if value is not None:
            spec.check(value)

    return Spec(f"{spec.name} or nil", (*spec.types, type(None)), check, spec.low, spec.high)


def rows(name: str, *cells: Spec, high: int = ROWS_MAX) -> Spec:
    """An array of at most `high` arrays, each of the given cells; further cells are ignored."""
    width = len(cells)

    def check(value: tuple[Any, ...]) -> None:
        if len(value) > high:
            raise OutOfRange(f"{len(value)} rows are over the limit of {high}")
        for row in value:
            if type(row) is not tuple or len(row) < width:
                raise Malformed(f"{shown(row)} is not an array of {width}")
            for cell, spec in zip(row, cells, strict=False):
                if type(cell) is int and spec.low <= cell <= spec.high:
                    continue
                if type(cell) not in spec.types:
                    raise Malformed(f"{shown(cell)} is not {spec.name}")
                spec.check(cell)

    return Spec(name, (tuple,), check)


def _unlimited(_: Any) -> None:
    """For types whose every value is allowed."""


def _check_lengths(value: bytes) -> None:
    if not value or len(value) % 4:
        raise Malformed(f"{len(value)} bytes of lengths are not one u32 for each of at least one message")
    if len(value) > 4 * BATCH_MESSAGES_MAX:
        raise OutOfRange(f"{len(value) // 4} messages in a batch are over the limit of {BATCH_MESSAGES_MAX}")


def _check_queue(value: str) -> None:
    problem = names.queue_name_problem(value)
    if problem:
        raise OutOfRange(problem)


def _check_subject(value: str) -> None:
    problem = names.subject_problem(value)
    if problem:
        raise OutOfRange(problem)


def _check_strings(value: tuple[Any, ...]) -> None:
    if len(value) > ROWS_MAX:
        raise OutOfRange(f"{len(value)} values are over the limit of {ROWS_MAX}")
    if any(type(item) is not str for item in value):
        raise Malformed(f"{shown(value)} is not an array of str")


U8 = Annotated[int, integer("u8", 0, 0xFF)]
U16 = Annotated[int, integer("u16", 0, 0xFFFF)]
U32 = Annotated[int, integer("u32", 0, 0xFFFF_FFFF)]
U64 = Annotated[int, integer("u64", 0, 0xFFFF_FFFF_FFFF_FFFF)]
OptionalPermille = Annotated[int | None, optional(integer("permille", 0, PERMILLE_MAX))]
OptionalU64 = Annotated[int | None, optional(integer("u64", 0, 0xFFFF_FFFF_FFFF_FFFF))]
I64 = Annotated[int, integer("i64", -(1 << 63), (1 << 63) - 1)]
Flag = Annotated[bool, Spec("bool", (bool,), _unlimited)]
Count = Annotated[int, integer("count", 1, BATCH_MESSAGES_MAX)]
DurationMs = Annotated[int, integer("duration", 0, DURATION_MAX_MS)]
OptionalDurationMs = Annotated[int | None, optional(integer("duration", 0, DURATION_MAX_MS))]
MomentMs = Annotated[int, integer("moment", 0, 253_402_300_799_999)]
Priority = Annotated[int, integer("priority", 0, PRIORITY_MAX)]
QueueName = Annotated[str, Spec("queue", (str,), _check_queue)]
Subject = Annotated[str, Spec("subject", (str,), _check_subject)]
Text = Annotated[str, text("text", TEXT_BYTES_MAX)]
Name = Annotated[str, text("name", NAME_BYTES_MAX)]
Lengths = Annotated[bytes, Spec("lengths", (bytes,), _check_lengths)]
Binary = Annotated[bytes, sized("bin", bytes, HEADER_BYTES_MAX, "bytes")]
Options = Annotated[dict[str, Any], sized("map", dict, 64, "entries")]
Strings = Annotated[tuple[str, ...], Spec("array of str", (tuple,), _check_strings)]

_u32, _u64, _name = U32.__metadata__[0], U64.__metadata__[0], Name.__metadata__[0]  # type: ignore[attr-defined]
_moment, _u8, _count = MomentMs.__metadata__[0], U8.__metadata__[0], Count.__metadata__[0]  # type: ignore[attr-defined]
_text, _flag = Text.__metadata__[0], Flag.__metadata__[0]  # type: ignore[attr-defined]
_queue, _lengths = QueueName.__metadata__[0], Lengths.__metadata__[0]  # type: ignore[attr-defined]
_priority, _duration = Priority.__metadata__[0], DurationMs.__metadata__[0]  # type: ignore[attr-defined]
_optional_duration = OptionalDurationMs.__metadata__[0]  # type: ignore[attr-defined]

Range = tuple[int, int]
"""(first offset, count)"""
Delivered = tuple[int, int, int]
"""(first offset, count, attempt): neighbours of one attempt number"""

Ranges = Annotated[tuple[Range, ...], rows("ranges", _u64, _count)]
Deliveries = Annotated[tuple[Delivered, ...], rows("deliveries", _u64, _count, _u32)]
SpanRow = tuple[int, int, int, int, int, int, str]
"""(first offset, count, attempt, released, published_at_ms, priority, key)"""
Spans = Annotated[tuple[SpanRow, ...], rows("spans", _u64, _count, _u32, _u32, _moment, _u8, _name)]
DetailRow = tuple[str, int, int, str, str, int]
"""(state, due_ms, expires_at_ms, reason, error, failed_at_ms)"""
Details = Annotated[tuple[DetailRow, ...], rows("details", _name, _moment, _moment, _name, _text, _moment)]
ConfirmRow = tuple[int, int, bool]
"""(request, first offset, duplicate)"""
Confirms = Annotated[tuple[ConfirmRow, ...], rows("confirms", _u32, _u64, _flag)]
SettledRow = tuple[int, tuple[Range, ...]]
"""(request, the ranges that were refused as stale)"""
SettledRows = Annotated[tuple[SettledRow, ...], rows("settles", _u32, rows("ranges", _u64, _count))]
QueueRow = tuple[str, int, int, int, int, int, int]
"""(name, ready, delayed, leased, dead, bytes, consumers)"""
ValueRow = tuple[int, int, int]
"""(position of its key in the request, version, expires_at_ms)"""
ValueRows = Annotated[tuple[ValueRow, ...], rows("values", _u32, _u64, _moment)]
QueueRows = Annotated[tuple[QueueRow, ...], rows("queues", _name, _u64, _u64, _u64, _u64, _u64, _u64)]
CommitSettle = tuple[str, int, int, tuple[Delivered, ...], int | None, str]
"""(queue, verb, epoch, deliveries, duration_ms, text): the fields of a SETTLE"""
CommitSettles = Annotated[
    tuple[CommitSettle, ...],
    rows(
        "commit settles",
        *(_queue, _u8, _u64, rows("deliveries", _u64, _count, _u32), _optional_duration, _text),
        high=COMMIT_ROWS_MAX,
    ),
]
CommitPublish = tuple[str, bytes, int, str, int, int, int, str]
"""(queue, lengths, priority, key, delay_ms, at_ms, ttl_ms, dedupe): the fields of a PUBLISH"""
CommitPublishes = Annotated[
    tuple[CommitPublish, ...],
    rows(
        "commit publishes",
        *(_queue, _lengths, _priority, _name, _duration, _moment, _duration, _name),
        high=COMMIT_ROWS_MAX,
    ),
]
CommitGate = tuple[int, str, int, bool]
"""(position of the publish, gate, expects, strict): its only message waits at the gate until as many have ended as it
expects; with 0, its messages count for the gate"""
CommitGates = Annotated[tuple[CommitGate, ...], rows("commit gates", _u32, _queue, _u32, _flag, high=COMMIT_ROWS_MAX)]
GateMember = tuple[str, int, int]
"""(queue, first offset, count) of messages that count for a gate"""
GateMembers = Annotated[tuple[GateMember, ...], rows("gate members", _queue, _u64, _count)]
CommittedRow = tuple[int, bool, str]
"""(first offset, duplicate, durability)"""
CommittedRows = Annotated[tuple[CommittedRow, ...], rows("committed", _u64, _flag, _name, high=COMMIT_ROWS_MAX)]
UnresultedRow = tuple[int, str, str, str]
"""(position of its message in the request, state, reason, error)"""
Unresulted = Annotated[tuple[UnresultedRow, ...], rows("unresulted", _u32, _name, _name, _text)]
ScheduleRow = tuple[
    *tuple[str, str, str, str, int, int, int, int, int, int, str, int, str, str, int],
    *tuple[int, bool, int, int, int, int, str, int, int, int, int, str, bool],
]
"""(name, queue, cron, zone, every_ms, anchor_ms, at_ms, start_ms, end_ms, priority, key, ttl_ms, missed, overlap,
late_ms, bytes, paused, since_ms, next_ms, last_due_ms, last_at_ms, last_queue, last_offset, fired, missed_count,
skipped, error, track)"""
ScheduleRows = Annotated[
    tuple[ScheduleRow, ...],
    rows(
        "schedules",
        *(_name, _name, _name, _name, _duration, _moment, _moment, _moment, _moment),
        *(_u8, _name, _duration, _name, _name, _duration, _u32, _flag, _moment, _moment, _moment, _moment),
        *(_name, _u64, _u64, _u64, _u64, _text, _flag),
    ),
]
