"""wherry: the client of a small, fast message broker for Python teams.

::

    import asyncio, wherry

    async def main():
        async with wherry.connect("wherry://localhost:7117") as broker:
            queue = broker.queue("emails")
            await queue.publish(b"hello")
            async for message in queue.consume():
                async with message:
                    print(message.body)

    asyncio.run(main())

What has no event loop is in `wherry.sync`. The asyncio client is imported when it is first asked for, so that the other
one does without asyncio; and so is what both share, so that the broker, which takes the words of the wire from here,
does without all of it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from wherry.errors import (
    AlreadySettled,
    Busy,
    Conflict,
    Disconnected,
    Draining,
    ExistsDifferently,
    Forbidden,
    Internal,
    Invalid,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobRemoved,
    NoResult,
    NotFound,
    NotOwner,
    ProtocolError,
    Refused,
    RequestTimeout,
    StaleDelivery,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unroutable,
    WherryError,
)
from wherry.model.options import (
    Attached,
    BrokerInfo,
    Entry,
    GateInfo,
    QueueCounts,
    QueueInfo,
    Receipt,
    Retry,
    TopicReceipt,
)
from wherry.model.schedules import ScheduleInfo, ScheduleOptions

if TYPE_CHECKING:
    from wherry.aio import Broker, Consumer, Dead, Message, Queue, Settlement, Store, Topic, Transaction, connect
    from wherry.conversation.transaction import Gate, Posted
    from wherry.delivery import PeekedMessage

__all__ = [
    "AlreadySettled",
    "Attached",
    "Broker",
    "BrokerInfo",
    "Busy",
    "Conflict",
    "Consumer",
    "Dead",
    "Disconnected",
    "Draining",
    "Entry",
    "ExistsDifferently",
    "Forbidden",
    "Gate",
    "GateInfo",
    "Internal",
    "Invalid",
    "JobCancelled",
    "JobExpired",
    "JobFailed",
    "JobRemoved",
    "Message",
    "NoResult",
    "NotFound",
    "NotOwner",
    "PeekedMessage",
    "Posted",
    "ProtocolError",
    "Queue",
    "QueueCounts",
    "QueueInfo",
    "Receipt",
    "Refused",
    "RequestTimeout",
    "Retry",
    "ScheduleInfo",
    "ScheduleOptions",
    "Settlement",
    "StaleDelivery",
    "Store",
    "TooLarge",
    "Topic",
    "TopicReceipt",
    "Transaction",
    "Unauthenticated",
    "Unavailable",
    "Unroutable",
    "WherryError",
    "connect",
]

_SHARED = {
    "Gate": "wherry.conversation.transaction",
    "PeekedMessage": "wherry.delivery",
    "Posted": "wherry.conversation.transaction",
}
"""Where it is what both clients share; all else that is not imported above is of the asyncio client."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(_SHARED.get(name, "wherry.aio"))
    globals()[name] = found = getattr(home, name)
    return found
