"""`wherry log`: check, print and repair the log of a broker that does not run."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wherry.wire.messages import split_block, unpack_message
from wherry_broker.cli import output
from wherry_broker.cli.root import Exit, fail
from wherry_broker.core.records import Declared, Preamble
from wherry_broker.log.codec import Entry
from wherry_broker.log.journal import read_block, segment_number
from wherry_broker.log.recovery import CorruptLog, Torn
from wherry_broker.log.repair import repair
from wherry_broker.log.salvage import Damage, Salvaged
from wherry_broker.log.show import record_fields
from wherry_broker.log.store import DiskStore, LogLocked
from wherry_broker.log.verify import read_all, verify

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wherry_broker.cli.root import Globals
    from wherry_broker.core.block import Block
    from wherry_broker.core.records import Record
    from wherry_broker.log.repair import Repaired
    from wherry_broker.log.verify import Report

RANGES_SHOWN = 20
"""How many ranges of lost messages are written out for a queue; `--json` has them all."""
DIRECTORY = click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))


@click.group("log", short_help="Check, print or repair the log of a broker that does not run.")
def command() -> None:
    """Check, print or repair the log of a broker that does not run.

    DIR is what `wherry serve --data DIR` has, or `wherry backup DIR` has written. While a broker works on it, all three
    refuse: take a backup, and look at that.
    """


@contextmanager
def _opened(directory: Path, *, to_write: bool = False) -> Iterator[DiskStore]:
    """The files of a log, while nobody else works on them."""
    store = DiskStore(directory)
    try:
        if all(segment_number(name) is None for name in store.names()):
            fail(f"there is no log in {directory}")
        store.lock() if to_write else store.lock_to_read()
        try:
            yield store
        finally:
            store.unlock()
    except LogLocked as error:
        fail(f"{error}: stop that first, or look at a backup (wherry backup)")
    except CorruptLog as error:
        fail(str(error), Exit.REFUSED)
    except OSError as error:
        fail(f"the log in {directory} cannot be read: {error.strerror or error}")


@command.command("verify", short_help="Read all of a log, and say whether a broker starts from it.")
@DIRECTORY
@click.pass_obj
def verify_log(given: Globals, /, directory: Path) -> int:
    """Read all of the log in DIR, and say what is in it, and whether a broker starts from it. Changes nothing.

    Exits with 0 when a broker does, and 1 when the log is damaged. A torn tail, which a crash leaves, is no damage.
    """
    with _opened(directory) as store:
        report = verify(store)
    fields = _report_fields(report)
    if given.json:
        output.as_json(fields)
    else:
        damages = [("damage", str(damage)) for damage in report.damages]
        rows = [*((name, value) for name, value in fields.items() if name not in {"records", "damages"}), *damages]
        rows[3:3] = [(f"records.{kind}", count) for kind, count in report.records.items()]
        output.as_table(("what", "value"), [(name, "none" if value is None else value) for name, value in rows])
    if not report.is_whole:
        fail(report.refusal, Exit.REFUSED)
    return Exit.DONE


def _report_fields(report: Report) -> dict[str, Any]:
    return {
        "verdict": "whole" if report.is_whole else "damaged",
        "segments": len(report.segments),
        "entries": report.entries,
        "records": dict(report.records),
        "messages_published": report.messages,
        "bytes": report.size,
        "torn_tail": None if report.torn is None else _torn_text(report.torn),
        "damages": [damage._asdict() for damage in report.damages],
    }


def _torn_text(torn: Torn) -> str:
    return f"{torn.size} bytes of {torn.name} from offset {torn.offset} on ({torn.reason})"


@command.command("dump", short_help="Print a log, one record a line.")
@DIRECTORY
@click.option("--bodies", is_flag=True, help="The bodies of messages too.")
@click.pass_obj
def dump(given: Globals, /, directory: Path, *, bodies: bool) -> int:
    """Print the log in DIR, one record a line: the segment, the offset in it, the number of the entry, the record.

    What is damaged is told on standard error, and the rest is printed. Exits with 1 when anything is damaged.
    """
    with _opened(directory) as store:
        dumping = Dumping(store, as_json=given.json, with_bodies=bodies)
        for item in read_all(store):
            dumping.take(item)
    return Exit.REFUSED if dumping.is_damaged else Exit.DONE


class Dumping:
    """One run of `wherry log dump`.

    Args:
        store: where the log is.
        as_json: whether to print JSON.
        with_bodies: whether to print messages too.

    Attributes:
        is_damaged: whether anything could not be read.
    """

    def __init__(self, store: DiskStore, *, as_json: bool, with_bodies: bool) -> None:
        self.is_damaged = False
        self._store = store
        self._as_json = as_json
        self._with_bodies = with_bodies
        self._names: dict[int, str] = {}

    def take(self, item: Entry | Salvaged | Torn | CorruptLog | Damage) -> None:
        """Prints what was read."""
        match item:
            case Entry():
                self._print(item, [])
            case Salvaged():
                self._print(item.entry, item.spoiled)
            case Torn():
                click.echo(f"wherry: torn tail: {_torn_text(item)}", err=True)
            case Damage():
                self.is_damaged = True
                click.echo(f"wherry: damage: {item}", err=True)
            case CorruptLog():
                self.is_damaged = True

    def _print(self, entry: Entry, spoiled: list[int]) -> None:
        for position, record in enumerate(entry.records):
            self._learn(record)
            place = {"segment": entry.segment, "offset": entry.offset, "entry": entry.prefix.number}
            fields = self._fields(record, spoiled=position in spoiled)
            if self._as_json:
                output.as_json_line({**place, **fields})
            else:
                kind = fields.pop("kind")
                shown = " ".join(f"{name}={_text(value)}" for name, value in fields.items())
                click.echo(f"{' '.join(map(str, place.values()))} {kind} {shown}")

    def _learn(self, record: Record) -> None:
        if isinstance(record, Declared):
            self._names[record.queue] = record.name
        elif isinstance(record, Preamble):
            self._names |= {standing.number: standing.name for standing in record.queues}

    def _fields(self, record: Record, *, spoiled: bool) -> dict[str, Any]:
        fields = record_fields(record)
        name = self._names.get(fields.get("queue", 0))
        if name is not None and not isinstance(record, Declared):
            fields["queue_name" if "name" in fields else "name"] = name
        block = getattr(record, "block", None)
        if spoiled:
            fields["spoiled"] = True
        elif block is not None and self._with_bodies:
            fields["bodies"] = [_body(message) for message in self._messages(block)]
        return fields

    def _messages(self, block: Block) -> Iterator[bytes]:
        return split_block(block.lengths, read_block(self._store, block))


def _text(value: Any) -> str:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else json.dumps(value)


def _body(message: bytes) -> Any:
    """The body of a message as text; what is no text, or no message as clients write it, in hex."""
    try:
        return unpack_message(message)[1].decode()
    except ValueError:
        return {"hex": message.hex()}


@command.command("repair", short_help="Make a log that a broker starts from, of all that can be read.")
@DIRECTORY
@click.pass_obj
def repair_log(given: Globals, /, directory: Path) -> int:
    """Make a log that a broker starts from, of all that can be read of the one in DIR, and say what is lost.

    The files as they were are kept in a directory of their own inside DIR; remove it when nothing in it is missed. A
    log that is not damaged stays as it is, but for a torn tail.
    """
    with _opened(directory, to_write=True) as store:
        told = repair(store)
    if given.json:
        output.as_json(_repaired_fields(told))
    else:
        for line in repaired_lines(told, directory):
            click.echo(line)
    return Exit.DONE


def _repaired_fields(told: Repaired) -> dict[str, Any]:
    return {
        "damages": [damage._asdict() for damage in told.damages],
        "entries_lost": told.entries,
        "lost": told.lost,
        "torn_tail": None if told.torn is None else _torn_text(told.torn),
        "messages_kept": told.kept,
        "aside": told.aside,
    }


def repaired_lines(told: Repaired, directory: Path) -> list[str]:
    """What a repair has done, for people."""
    lines = [f"damage: {damage}" for damage in told.damages]
    if told.torn is not None:
        lines.append(f"torn tail cut: {_torn_text(told.torn)}")
    for name, ranges in told.lost.items():
        shown = ", ".join(
            f"{low}" if high == low + 1 else f"{low} to {high - 1}" for low, high in ranges[:RANGES_SHOWN]
        )
        more = f", and {len(ranges) - RANGES_SHOWN} more ranges" if len(ranges) > RANGES_SHOWN else ""
        lost = output.counted(sum(high - low for low, high in ranges), "message")
        lines.append(f"lost: {lost} of {name}: {shown}{more}")
    if told.damages:
        lines += _caveats(told)
        lines.append(f"repaired: {output.counted(told.kept, 'message')} left")
    elif told.torn is None:
        return ["the log is whole: nothing to repair"]
    lines.append(f"the bytes as they were are kept in {directory / told.aside}")
    return lines


def _range_text(low: int, high: int) -> str:
    return f"{low}" if high == low + 1 else f"{low} to {high - 1}"


def _caveats(told: Repaired) -> list[str]:
    """What cannot be told exactly."""
    if told.entries == 0:
        return [] if told.lost else ["lost: no message"]
    what = "an unknown number of" if told.entries is None else str(told.entries)
    first = f"lost: {what} entries of the log: what was settled, failed or died in them may come again, and messages"
    return [f"{first} that nothing else in the log tells of are not counted above"]
