"""A process forks while it consumes: the child has a connection of its own, and leaves the parent's alone."""

import os
import sys

import wherry
from wherry.sync import connect

with connect(sys.argv[1], timeout=20) as broker:
    queue = broker.declare("fork")
    queue.publish(b"1")
    consumer = queue.consume(credit=1)
    message = next(consumer)
    child = os.fork()
    if not child:
        for what in (lambda: next(consumer), message.ack):
            try:
                what()
            except wherry.WherryError as error:
                print(f"child: {type(error).__name__}: {error}")
        print(f"child: published {queue.publish(b'2').offset}", flush=True)
        sys.exit(0)  # through the end of the block, which closes the child's connection
    _, status = os.waitpid(child, 0)
    print(f"child ended with {status}")
    print(f"parent: published {queue.publish(b'3').offset}")
    message.ack().wait()
    for _ in range(2):
        with next(consumer) as following:
            print(f"parent: took {following.body}")
    consumer.stop()
    print(f"settled {queue.info().removed['settled']}")
