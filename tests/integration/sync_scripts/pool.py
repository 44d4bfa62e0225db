"""Forked processes use a broker that was connected before, each of them with several threads at once."""

import multiprocessing
import sys
from concurrent.futures import ThreadPoolExecutor

from wherry.sync import connect

broker = connect(sys.argv[1], timeout=20)
queue = broker.declare("pool")


def publish(number: int) -> list[int]:
    with ThreadPoolExecutor(4) as threads:
        return [receipt.offset for receipt in threads.map(lambda step: queue.publish(f"{number} {step}"), range(20))]


if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(4) as pool:
        stored = [offset for offsets in pool.map(publish, range(4)) for offset in offsets]
        pool.close()
        pool.join()
    taken = queue.get(100, wait=20)
    queue.ack_many(taken).wait()
    assert sorted(stored) == list(range(1, 81))
    print(f"{len(stored)} stored, {len(taken)} taken")
    broker.close()
