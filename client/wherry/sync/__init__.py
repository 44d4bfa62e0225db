"""The blocking client: a thin shell over `wherry.conversation`, with no thread and no event loop of its own.

::

    from wherry.sync import connect

    with connect("wherry://localhost:7117") as broker:
        queue = broker.queue("emails")
        queue.publish(b"hello")
        for message in queue.consume():
            with message:
                print(message.body)

**Threads.** A broker, its queues and its consumers may be used by any number of threads at once; they share one
connection. A thread that waits for an answer reads the socket, for itself and for the others that wait, so none of them
stops another: one may wait for messages while a second one publishes. The threads of gevent are threads as well.

**Forks.** A child process has a connection of its own, made when it first asks for anything; that of its parent is left
alone. Consumers and messages stay with the process that has them.

**Time.** Nothing happens while no thread is inside a call. So this client asks the broker for no heartbeats: whether
the broker is there shows in the next call, and while one waits. And a lease runs on while the user's code works: ask
for one that is long enough (`queue.consume(lease=600)`), or call `message.extend()`.

**Lost connections.** They are noticed by the next call, or by a thread that waits in one, and that thread makes another
one: publishes and settles without an answer are sent again and done once, and consumers go on.

**Settles.** `message.ack()` is written to the socket before it returns, if there is a connection. `.wait()` of what it
returns waits until it is confirmed. `queue.ack_many` settles a batch in one frame.
"""

from wherry.sync.broker import Broker, connect
from wherry.sync.consumer import Consumer
from wherry.sync.dead import Dead
from wherry.sync.message import Message, Settlement
from wherry.sync.queue import Queue
from wherry.sync.store import Store
from wherry.sync.topic import Topic
from wherry.sync.transaction import Transaction

__all__ = ["Broker", "Consumer", "Dead", "Message", "Queue", "Settlement", "Store", "Topic", "Transaction", "connect"]
