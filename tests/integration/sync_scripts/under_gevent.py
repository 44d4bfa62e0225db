"""The blocking client under gevent's monkey patch: greenlets share a connection, and waiting lets others run."""

from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402 (the patch comes first)

import gevent  # noqa: E402

from wherry.sync import connect  # noqa: E402

with connect(sys.argv[1], timeout=20) as broker:
    queue = broker.declare("gevent")
    settled: list[int] = []

    def work(consumer) -> None:
        for message in consumer:
            with message:
                settled.append(message.offset)
            if len(settled) == 200:
                consumer.stop()

    consumer = queue.consume(credit=20)
    workers = [gevent.spawn(work, consumer) for _ in range(4)]
    publishers = [gevent.spawn(lambda: [queue.publish(b"x").offset for _ in range(10)]) for _ in range(20)]
    gevent.joinall(workers + publishers, timeout=60, raise_error=True)
    published = [offset for each in publishers for offset in each.value]
    assert sorted(settled) == sorted(published) == list(range(1, 201))
    assert queue.info().consumers == 0
    print(f"{len(published)} published, {len(settled)} settled, 1 connection")

    ticks = 0

    def tick() -> None:
        global ticks
        while True:
            gevent.sleep(0.01)
            ticks += 1

    ticker = gevent.spawn(tick)
    assert queue.get(wait=0.3) == []
    ticker.kill()
    assert ticks > 3
    print("who slept was not kept from it")

    with gevent.Timeout(0.05, False):
        queue.get(wait=10)
    queue.publish(b"x")
    assert len(queue.get(wait=10)) == 1
    print("a timeout left the connection as it was")
