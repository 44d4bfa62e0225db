"""What does each operation cost as queues grow, and what do many queues, keys and delays cost? The core alone.

A shard is driven in this process, without sockets and without a log, so that only the semantics are measured. Every
message is a batch of its own where operations are counted: that is the most that a queue of so many can hold.
"""

from __future__ import annotations

import gc
import math
import sys
import time
from typing import TYPE_CHECKING, Any

from measure import finish, medians, parser
from wherry.model import commands
from wherry.model.commands import Verb
from wherry_broker.core.effects import Delivery
from wherry_broker.core.options import QueueOptions
from wherry_broker.core.shard import Shard

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

DEPTHS = (1_000, 100_000, 1_000_000)
QUICK_DEPTHS = (1_000, 10_000)
REPEATS = 400
"""How often an operation is made at each depth; the median counts."""
BODY = bytes(100)
BATCH = 100
A_TURN = 100
"""How many publishes come in one turn, where many come at all."""
DEFAULTS = QueueOptions(
    max_messages=1_000_000_000, max_bytes=1 << 50, lease_ms=86_400_000, dead_max_messages=10_000_000
)


class Driver:
    """A shard, a session, and a clock that the bench moves."""

    def __init__(self) -> None:
        self.shard = Shard(1, lambda: 0.5, DEFAULTS)
        self.session = self.shard.attach(1 << 50)
        self.now_ms = 1_000_000
        self._request = 0

    def do(self, kind: Any, *fields: Any, **more: Any) -> list[Any]:
        """Does a command to its end; what is said."""
        self._request += 1
        numbers = () if kind is commands.Credit else (self._request,)
        self.shard.submit(self.session, kind(*numbers, *fields, **more), self.now_ms)
        return self.turn()

    def publish(self, queue: str, count: int = 1, **more: Any) -> None:
        """Publishes a batch."""
        self.submit(queue, count, **more)
        self.turn()

    def submit(self, queue: str, count: int = 1, **more: Any) -> None:
        """Publishes a batch, as one of several that come in one turn."""
        self._request += 1
        lengths = len(BODY).to_bytes(4, "big") * count
        command = commands.Publish(self._request, queue, lengths, block=BODY * count, **more)
        self.shard.submit(self.session, command, self.now_ms)

    def turn(self) -> list[Any]:
        """What the pump does in a turn."""
        shard = self.shard
        shard.dispatch(self.now_ms)
        while (batch := shard.take_batch()) is not None:
            shard.committed(batch.mark)
        return [effect.say for effect in shard.take_effects()]

    def settle(self, queue: str, verb: Verb, delivery: tuple[int, int, int], **more: Any) -> list[Any]:
        """Settles one range."""
        return self.do(commands.Settle, queue, verb, 1, (delivery,), **more)


def leased(said: list[Any]) -> list[tuple[int, int, int]]:
    """The deliveries among what was said."""
    return [say.row[:3] for say in said if isinstance(say, Delivery)]


# Operations at depth.


def operations(driver: Driver, depth: int) -> Iterator[tuple[str, Callable[[int], object]]]:
    """Each operation by name, as a function that is called with 0, 1, 2, ...

    The queue holds `depth` ready messages at offsets from 1 on, and one consumer holds the first ones of them.
    """
    mine = leased(driver.do(commands.Consume, 1, "q", 5 * REPEATS))
    step = max(1, (depth // 2) // REPEATS)
    middle = depth // 2
    yield "declare", lambda n: driver.do(commands.Declare, f"other {n}", {})
    yield "publish", lambda _: driver.publish("q")
    yield "publish, delayed", lambda n: driver.publish("q", delay_ms=86_400_000 + n)
    yield "publish, with a key", lambda n: driver.publish("q", key=f"key {n}")
    yield "publish, with a dedupe key", lambda n: driver.publish("q", dedupe=f"key {n}")
    yield "extend", lambda n: driver.settle("q", Verb.EXTEND, mine[n], duration_ms=86_400_000)
    yield "nack", lambda n: driver.settle("q", Verb.NACK, mine[n], duration_ms=86_400_000)
    yield "release", lambda n: driver.settle("q", Verb.RELEASE, mine[REPEATS + n])
    yield "reject", lambda n: driver.settle("q", Verb.REJECT, mine[2 * REPEATS + n], text="no")
    yield "redrive one", lambda n: driver.do(commands.Redrive, "q", ((mine[2 * REPEATS + n][0], 1),))
    yield "ack", lambda n: driver.settle("q", Verb.ACK, mine[3 * REPEATS + n])
    yield "deliver and ack", lambda n: deliver_and_ack(driver, 5 * REPEATS + n + 1)
    yield "info", lambda _: driver.do(commands.Info, "q")
    yield "peek 10", lambda n: driver.do(commands.Peek, "q", "", middle + n * step)
    yield "get one", lambda n: driver.do(commands.Peek, "q", "", middle + n * step, 1)
    yield "cancel one", lambda n: driver.do(commands.Cancel, "q", ((middle + n * step, 1),))
    yield "purge the dead", lambda _: driver.do(commands.Purge, "q", ("dead",))
    yield "wake one", lambda _: driver.turn()


def deliver_and_ack(driver: Driver, total: int) -> None:
    """One message more, delivered and acknowledged."""
    (delivery,) = leased(driver.do(commands.Credit, 1, total))
    driver.settle("q", Verb.ACK, delivery)


def at_depth(depth: int) -> dict[str, float]:
    """The median time of each operation with so many messages queued, in microseconds."""
    driver = Driver()
    for number in range(depth + 5 * REPEATS):
        driver.submit("q")
        if number % A_TURN == 0:
            driver.turn()
    driver.turn()
    gc.collect()
    result = {}
    for name, work in operations(driver, depth):
        times = []
        for number in range(REPEATS):
            begin = time.perf_counter_ns()
            work(number)
            times.append(time.perf_counter_ns() - begin)
        result[name] = sorted(times)[REPEATS // 2] / 1000
    begin = time.perf_counter_ns()
    total = driver.do(commands.Purge, "q", ("ready", "delayed"))[0].total
    result["purge, each"] = (time.perf_counter_ns() - begin) / 1000 / total
    return result


def grown(rows: dict[str, dict[str, float]], depths: tuple[int, ...]) -> dict[str, float]:
    """How much each operation costs at the greatest depth, by what the logarithm would make of the least one."""
    logarithm = math.log(depths[-1]) / math.log(depths[0])
    return {name: round(row[str(depths[-1])] / row[str(depths[0])] / logarithm, 2) for name, row in rows.items()}


# Many of something.


def spread(count: int, queues: int, keys: int) -> dict[str, float]:
    """Publishes, delivers and settles batches of BATCH over so many queues and keys."""
    driver = Driver()
    for number in range(queues):
        driver.do(commands.Declare, f"q{number}", {})
        driver.do(commands.Consume, number + 1, f"q{number}", 1 << 40)
    begin = time.perf_counter()
    for number in range(count // BATCH):
        queue = f"q{number % queues}"
        lengths = len(BODY).to_bytes(4, "big") * BATCH
        key = f"key {number % keys}" if keys else ""
        said = driver.do(commands.Publish, queue, lengths, key=key, block=BODY * BATCH)
        for delivery in leased(said):
            driver.settle(queue, Verb.ACK, delivery)
    return {"msg/s": count / (time.perf_counter() - begin)}


def hoarded(count: int, keys: int) -> dict[str, float]:
    """Publishes batches of BATCH under so many keys, and only then delivers and settles all of them."""
    driver = Driver()
    begin = time.perf_counter()
    for number in range(count // BATCH):
        driver.publish("q", BATCH, key=f"key {number % keys}" if keys else "")
    said = driver.do(commands.Consume, 1, "q", 1 << 40)
    for delivery in leased(said):
        driver.settle("q", Verb.ACK, delivery)
    return {"msg/s": count / (time.perf_counter() - begin)}


def delayed(count: int, batch: int) -> dict[str, float]:
    """Publishes messages that are due at moments of their own, by batches of `batch`; then all moments come."""
    driver = Driver()
    begin = time.perf_counter()
    for number in range(count // batch):
        driver.submit("q", batch, delay_ms=3_600_000 + number * 7_919 % count)
        if number % A_TURN == 0:
            driver.turn()
    driver.turn()
    published = time.perf_counter() - begin
    driver.now_ms += 3_600_000
    begin = time.perf_counter()
    while driver.shard.next_deadline_ms() is not None:
        driver.now_ms += 1_000
        driver.turn()
    fired = time.perf_counter() - begin
    assert driver.shard.state.names["q"].counts[0] == count
    return {"published/s": count / published, "fired/s": count / fired}


def many(shorter: int) -> dict[str, Callable[[], dict[str, float]]]:
    """The loads, by name."""
    count = 1_000_000 // shorter
    queues, keys = 10_000 // shorter, 100_000 // shorter
    return {
        "one queue, one key": lambda: spread(count, 1, 0),
        f"{queues:,} queues": lambda: spread(count, queues, 0),
        f"{keys:,} keys": lambda: spread(10 * count, 1, keys),
        "one key, queued first": lambda: hoarded(count, 0),
        f"{keys // 10:,} keys, queued first": lambda: hoarded(count, keys // 10),
        f"{count:,} delayed, {BATCH} a batch": lambda: delayed(count, BATCH),
        f"{count:,} delayed, each by itself": lambda: delayed(count, 1),
    }


def options() -> argparse.Namespace:
    return parser(__doc__, rounds="the loads run", quick="one short round").parse_args()


def main() -> None:
    given = options()
    depths = QUICK_DEPTHS if given.quick else DEPTHS
    found = {}
    for depth in depths:
        found[depth] = at_depth(depth)
        print(f"depth {depth:,} is done", file=sys.stderr)
    rows = {name: {str(depth): found[depth][name] for depth in depths} for name in found[depths[0]]}
    loads = many(100 if given.quick else 1)
    rounds: dict[str, list[dict[str, float]]] = {}
    for number in range(1 if given.quick else given.rounds):
        for name, load in loads.items():
            rounds.setdefault(name, []).append(load())
        print(f"round {number + 1} is done", file=sys.stderr)
    rows |= {name: medians(each) for name, each in rounds.items()}
    growth = grown({name: row for name, row in rows.items() if str(depths[0]) in row}, depths)
    print("by the logarithm: " + ", ".join(f"{name} {value}" for name, value in growth.items()))
    finish("semantics", rows, record=given.record, growth_by_logarithm=growth, depths=depths)


if __name__ == "__main__":
    gc.set_threshold(20_000, 20, 20)  # as the broker has it
    main()
