from __future__ import annotations

from wherry_broker.core import view
from wherry_broker.core.batch import Envelope
from wherry_broker.core.block import Block
from wherry_broker.core.records import Declared, Published, Rehomed, Removed, Stage
from wherry_broker.core.shard import Shard

DECLARED = Declared(1, "q", {"durability": "synced"}, 1)


def block() -> Block:
    return Block(b"\0\0\0\1" * 4, b"abcd")


def counts(*log) -> tuple[int, int, int]:
    """(published, held, removed) of the queue, as a broker that has read this log tells."""
    shard = Shard(1, lambda: 0.5)
    for record in log:
        shard.restore(record)
    shard.restored(100)
    info = view.queue_info(shard.state.names["q"], 100)
    held = info["ready"] + info["delayed"] + info["leased"] + info["dead"]
    return info["published"], held, sum(info["removed"].values())


def test_what_was_written_again_was_published_though_the_log_has_forgotten_when():
    settled = Removed(1, "settled", ((1, 2),), 20)
    again = Rehomed(1, 1, Envelope(10), (Stage(2, 5, 0, 0, 0, False, None),), block())
    more = Removed(1, "settled", ((3, 4),), 30)
    assert counts(DECLARED, Published(1, 1, Envelope(10), 0, "", block()), settled, again, more) == (4, 2, 2)
    assert counts(DECLARED, settled, again, more) == (3, 2, 1)
