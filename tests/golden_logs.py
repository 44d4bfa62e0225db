"""The golden logs: small ones that must be readable for ever, in tests/vectors/log/, a folder for each version.

A log is a folder of its files, and beside it a JSON document that says what they hold. `WRITERS` are those that the
code still writes; the others were written before the version grew (a record got a field at its end, or there came
another kind). `newest` has every kind with every field, and is written anew whenever the version grows. Run as a
program, this writes them into a folder that is not there yet:

    PYTHONPATH=client:broker:tests python tests/golden_logs.py tests/vectors/log/v2
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from log_files import EVERY_KIND, NOW_MS, MemoryStore, Segment, preamble, published, write_log
from wherry_broker.core.batch import STATE_NAMES
from wherry_broker.core.records import Standing
from wherry_broker.core.shard import Shard
from wherry_broker.log import recovery
from wherry_broker.log.journal import segment_name
from wherry_broker.log.show import record_fields

if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry_broker.core.queue import Queue
    from wherry_broker.core.records import Record

FOLDER = Path(__file__).parent / "vectors" / "log"


def every_kind() -> MemoryStore:
    """Every kind of record, one an entry, over three segments."""
    *records, last = EVERY_KIND
    entries = [[record] for record in records]
    before = (last.queues[0]._replace(next_offset=1, keys=()),)
    second = last._replace(epoch=NOW_MS, queues=before, producers=(), schedules=(), gates=())
    store = MemoryStore()
    write_log(store, [Segment(preamble(), entries[:4]), Segment(second, entries[4:]), Segment(last, [])])
    return store


def forgotten() -> MemoryStore:
    """A log that begins with its third segment; many records in one entry; an entry without any."""
    store = MemoryStore()
    standing = Standing(1, "emails", {"durability": "written"}, 7, ())
    messages = [published(7 + 2 * each, b"\x80first %d" % each, b"\x80second %d" % each) for each in range(5)]
    journal = write_log(store, [Segment(preamble(standing), []) for _ in range(3)], marks=100, entry=1_000_000)
    journal.append(messages)
    journal.append([EVERY_KIND[6]])
    journal.sync()
    journal.forget(3)
    journal.append([published(17, b"\x81\xa4kind\xa7welcome" + "grüße".encode(), dedupe="d")])
    return store


def torn() -> MemoryStore:
    """The last entry is not all there; it is in the second segment."""
    store = MemoryStore()
    emails = Standing(1, "emails", {}, 1, ())
    segments = [Segment(preamble(), [EVERY_KIND[:1]]), Segment(preamble(emails), [[published(1, b"whole")]])]
    journal = write_log(store, segments, marks=200)
    journal.append([published(2, b"cut off here, and not there")])
    store.truncate(segment_name(2), store.size(segment_name(2)) - len(", and not there"))
    return store


WRITERS: dict[str, Callable[[], MemoryStore]] = {"newest": every_kind, "forgotten": forgotten, "torn": torn}


def contents(store: Any) -> dict[str, Any]:
    """What a log holds, as the JSON document has it."""
    found = recovery.scan(store)
    result: dict[str, Any] = {"segments": [], "entries": [], "torn": None, "queues": []}
    shard = Shard(0, lambda: 0.5)
    for number in found.segments:
        head = recovery.head_of(store.read(segment_name(number)), number)
        marks = {name: f"{value:016x}" for name, value in head._asdict().items() if name != "segment"}
        result["segments"].append({"file": segment_name(number), "segment": number, **marks})
    for item in recovery.read_segments(store, found.segments, lambda: True):
        if isinstance(item, recovery.Torn):
            result["torn"] = {"file": item.name, "offset": item.offset, "size": item.size}
        else:
            prefix = {name: getattr(item.prefix, name) for name in ("number", "synced", "oldest")}
            records = [with_messages(record) for record in item.records]
            for record in item.records:
                shard.restore(record, item.segment)
            result["entries"].append({"segment": item.segment, "offset": item.offset, **prefix, "records": records})
    shard.restored(NOW_MS)
    result["queues"] = [standing(queue) for queue in shard.state.queues.values()]
    known = {name: [answered, rows] for name, answered, _, rows in shard.state.producers.standing(lambda _: True)}
    if known:
        result["producers"] = known
    schedules = {each.name: each.kept()._replace(plan=each.plan.cron)[1:] for each in shard.state.schedules}
    if schedules:
        result["schedules"] = schedules
    if shard.state.gates:
        result["gates"] = list(shard.state.gates.standing(shard.state.queues))
    return result


def standing(queue: Queue) -> dict[str, Any]:
    """What a broker that starts from the log has of a queue."""
    counts = dict(zip(STATE_NAMES, queue.counts, strict=True))
    keys = {key: first for key, (first, _) in queue.dedupe.items()}
    return {"name": queue.name, **counts, "next_offset": queue.next_offset, "dedupe": keys}


def with_messages(record: Record) -> dict[str, Any]:
    """A record with the bytes of its messages in hex, one string each."""
    block = getattr(record, "block", None)
    fields = record_fields(record)
    if block is not None:
        fields["messages"] = [block.cut(each, each + 1)[1].hex() for each in range(block.count)]
    return fields


def document(name: str, version: str) -> Path:
    """Where it is told what a log holds."""
    return FOLDER / version / f"{name}.json"


def load(name: str, version: str) -> MemoryStore:
    """The files of a log."""
    return MemoryStore({path.name: path.read_bytes() for path in sorted((FOLDER / version / name).iterdir())})


def write_all(folder: Path) -> None:
    """Writes the logs of the version that the code writes."""
    folder.mkdir(parents=True)
    for name, write in WRITERS.items():
        store = write()
        (folder / name).mkdir()
        for file, data in store.contents().items():
            (folder / name / file).write_bytes(data)
        text = json.dumps(contents(store), indent=1, ensure_ascii=False)
        (folder / f"{name}.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    assert NOW_MS == 1_800_000_000_000
    write_all(Path(sys.argv[1]))
