"""Every exception that wherry raises on purpose.

::

    WherryError
    ├── Refused                     the broker answered, and said no
    │   ├── Busy                    a bound is reached: come back after `retry_after` seconds
    │   ├── NotFound                no such queue or message
    │   ├── StaleDelivery           the lease is not (or no longer) the caller's: another consumer may hold the message
    │   ├── TooLarge                a message or batch is over a limit that waiting does not change
    │   ├── Invalid                 a value is out of its range (also a ValueError)
    │   ├── Unauthenticated         the token is missing or wrong
    │   ├── Forbidden               the token does not give this right
    │   ├── ExistsDifferently       the queue exists with other options
    │   ├── Unroutable              no queue takes the subject
    │   ├── Conflict                the value of a store has another version than was asked for
    │   ├── Draining                the broker is shutting down and takes no new work
    │   ├── NotOwner                another broker serves this queue
    │   ├── Unavailable             the broker cannot do this now; nothing was done
    │   └── Internal                a bug in the broker
    ├── NoResult                    a message has ended, and nobody will return a result
    │   ├── JobFailed               it is dead: rejected, or its attempts are exhausted
    │   ├── JobExpired              its time to live passed
    │   ├── JobCancelled            it was cancelled
    │   └── JobRemoved              it was dropped, purged, or moved to another queue
    ├── AlreadySettled              this message was settled before, by this very client
    ├── Disconnected                the connection is gone; the outcome of what was under way is unknown
    ├── RequestTimeout              no answer in time (also a TimeoutError); says whether the outcome is unknown
    └── ProtocolError               the other end broke the protocol

Only `Refused` carries a code of protocol.md; it is definite: what was asked for was not done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence


class WherryError(Exception):
    """The root of all errors that wherry raises on purpose."""


class Refused(WherryError):
    """The broker refused a request. Nothing of it was done, unless the subclass says otherwise.

    Attributes:
        code: the error code, as protocol.md lists it.
        retryable: whether the same request may succeed later.
    """

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False


class Busy(Refused):
    """A bound of the queue (or of the broker) is reached: try again later.

    Attributes:
        retry_after: seconds until the refused amount is expected to fit.
        queue: the queue that is full.
        bound: the name of the option that is reached, such as `max_messages`.
        accepted: how many leading messages of the request were stored all the same.
    """

    code = "busy"
    retryable = True

    def __init__(
        self, text: str, *, retry_after: float = 0.0, queue: str = "", bound: str = "", accepted: int = 0
    ) -> None:
        super().__init__(text)
        self.retry_after = retry_after
        self.queue = queue
        self.bound = bound
        self.accepted = accepted


class NotFound(Refused):
    """There is no such queue or message."""

    code = "not_found"


class StaleDelivery(Refused):
    """The settle names a delivery that is over: its lease ran out, or the message was settled or taken away.

    Attributes:
        ranges: which of the messages it was, as (first offset, count).
    """

    code = "stale_delivery"

    def __init__(self, text: str, *, ranges: Sequence[tuple[int, int]] = ()) -> None:
        super().__init__(text)
        self.ranges = ranges


class TooLarge(Refused):
    """A message or batch is over a limit that waiting does not change."""

    code = "too_large"


class Invalid(Refused, ValueError):
    """A value is out of its range; the text names the value and the limit."""

    code = "invalid"


class Unauthenticated(Refused):
    """The token is missing or wrong."""

    code = "unauthenticated"


class Forbidden(Refused):
    """The token does not give this right."""

    code = "forbidden"


class ExistsDifferently(Refused):
    """The queue exists with other options; the text says which differ, and how."""

    code = "exists_differently"


class Unroutable(Refused):
    """No queue is bound to the subject of a topic's message, which is stored nowhere."""

    code = "unroutable"


class Conflict(Refused):
    """The value of a store has another version than was asked for: somebody else has changed it."""

    code = "conflict"


class Draining(Refused):
    """The broker is shutting down and takes no new work."""

    code = "draining"
    retryable = True


class NotOwner(Refused):
    """Another broker serves this queue."""

    code = "not_owner"
    retryable = True


class Unavailable(Refused):
    """The broker cannot do this now; nothing was done."""

    code = "unavailable"
    retryable = True


class Internal(Refused):
    """A bug in the broker; its log says more."""

    code = "internal"


class NoResult(WherryError):
    """A message has ended without a result, and there will be none.

    Attributes:
        state: how it ended: dead, expired, cancelled, dropped, purged or moved.
        reason: why it is dead: rejected or attempts; "" for other ends.
        error: what was said of that.
    """

    def __init__(self, text: str, state: str = "", reason: str = "", error: str = "") -> None:
        super().__init__(text)
        self.state = state
        self.reason = reason
        self.error = error


class JobFailed(NoResult):
    """The message is dead: it was rejected, or its attempts are exhausted. A redrive may change that."""


class JobExpired(NoResult):
    """The message's time to live passed before it was done."""


class JobCancelled(NoResult):
    """The message was cancelled."""


class JobRemoved(NoResult):
    """The message was dropped, purged, or moved to another queue, where it has another id."""


NO_RESULTS: dict[str, type[NoResult]] = {"dead": JobFailed, "expired": JobExpired, "cancelled": JobCancelled}
"""The exception of each end; all others are JobRemoved."""


class AlreadySettled(WherryError):
    """The message was settled before, by this very client."""


class Disconnected(WherryError):
    """The connection is gone, and this was not, or could not be, asked again on another one.

    Whether a request that was under way took effect is unknown.
    """


class RequestTimeout(WherryError, TimeoutError):
    """No answer came in time.

    Attributes:
        outcome_unknown: True when the request had been sent, so that it may have taken effect.
    """

    def __init__(self, text: str, *, outcome_unknown: bool) -> None:
        super().__init__(text)
        self.outcome_unknown = outcome_unknown


class ProtocolError(WherryError):
    """The other end broke the protocol; the connection is closed."""

    code: ClassVar[str] = "bad_frame"


REFUSALS: dict[str, type[Refused]] = {
    cls.code: cls
    for cls in (
        Busy,
        NotFound,
        StaleDelivery,
        TooLarge,
        Invalid,
        Unauthenticated,
        Forbidden,
        ExistsDifferently,
        Unroutable,
        Conflict,
        Draining,
        NotOwner,
        Unavailable,
        Internal,
    )
}
"""The exception of each error code, for the codes that answer a request."""
