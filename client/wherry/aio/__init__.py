"""The asyncio client: a thin shell over `wherry.conversation`."""

from wherry.aio.broker import Broker, connect
from wherry.aio.consumer import Consumer
from wherry.aio.dead import Dead
from wherry.aio.message import Message, Settlement
from wherry.aio.queue import Queue
from wherry.aio.store import Store
from wherry.aio.topic import Topic
from wherry.aio.transaction import Transaction

__all__ = ["Broker", "Consumer", "Dead", "Message", "Queue", "Settlement", "Store", "Topic", "Transaction", "connect"]
