"""A job that was sent: how it stands, and what comes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Self, TypeVar

from wherry.model.names import message_id, split_id

if TYPE_CHECKING:
    from wherry import sync
    from wherry.aio import Broker, Queue
    from wherry.model.status import Status
    from wherry.model.times import Duration
    from wherry.tasks.task import Task

R_co = TypeVar("R_co", covariant=True)


class Handle(Generic[R_co]):
    """A job that was sent."""

    def __init__(self, broker: Broker, id: str, task: Task[..., R_co]) -> None:  # noqa: A002 (what everyone calls it)
        name, offset = split_id(id)
        self._of(broker.queue(name), offset, task)

    def _of(self, queue: Queue, offset: int, task: Task[..., R_co]) -> None:
        self._queue = queue
        self._offset = offset
        self._task = task

    @classmethod
    def sent(cls, queue: Queue, offset: int, task: Task[..., R_co]) -> Self:
        """The handle of a job that was just published."""
        handle = cls.__new__(cls)
        handle._of(queue, offset, task)  # noqa: SLF001 (of this very class)
        return handle

    @property
    def id(self) -> str:
        """Its id, such as `mail/42`; `Task.handle` makes a handle of it again, in another program too."""
        return message_id(self._queue.name, self._offset)

    def __repr__(self) -> str:
        return f"<Handle {self.id} of {self._task.name}>"

    async def status(self) -> Status:
        """How it stands: state, position, starts_in, progress, attempts, history, and why it does not run now.

        Raises:
            NotFound: there is no such job, or it ended so long ago that it is forgotten.
        """
        return await self._queue.status(self._offset)

    async def result(self, timeout: Duration | None = None) -> R_co:
        """What the task returned, once it has; the broker tells, and any number may wait.

        Args:
            timeout: how long to wait, in seconds; for as long as it takes when not given.

        Raises:
            JobFailed: it is dead: it failed as often as it may, or for good; the error's text is that of the task.
            JobExpired: its time passed before it was begun.
            JobCancelled: it was cancelled.
            RequestTimeout: it has not ended in time; the text says how it stands.
            NotFound: it is not remembered any more how it ended.
        """
        result: R_co = self._task.function.unpack_result(await self._queue.result(self._offset, timeout))
        return result

    async def cancel(self) -> bool:
        """Cancels it, whether it waits or runs: an async task is stopped, a sync one sees it by `current().cancelled`.

        It reaches what it has sent, too, and what that has sent, though it has ended itself.

        Returns:
            Whether any of that had not ended yet.
        """
        return await self._queue.cancel(self._offset) > 0


class SyncHandle(Generic[R_co]):
    """The same for code that has no event loop.

    Attributes:
        id: its id.
    """

    def __init__(self, broker: sync.Broker, id: str, task: Task[..., R_co]) -> None:  # noqa: A002
        self.id = id
        self._queue = broker.queue(split_id(id)[0])
        self._task = task

    def __repr__(self) -> str:
        return f"<SyncHandle {self.id} of {self._task.name}>"

    def status(self) -> Status:
        """How it stands; see `Handle.status`."""
        return self._queue.status(self.id)

    def result(self, timeout: Duration | None = None) -> R_co:
        """What the task returned, once it has; see `Handle.result`."""
        result: R_co = self._task.function.unpack_result(self._queue.result(self.id, timeout))
        return result

    def cancel(self) -> bool:
        """Cancels it; see `Handle.cancel`."""
        return self._queue.cancel(self.id) > 0
