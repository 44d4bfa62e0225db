"""One job, from its message to its settle."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from wherry import errors
from wherry.tasks.context import Context, running
from wherry.tasks.function import BadArguments, module_of
from wherry.tasks.names import DEADLINE_HEADER, GATE_HEADER, LATER_HEADER, LIST_HEADER, TASK_HEADER
from wherry.tasks.places import ChildDied, Failed, Processes, ran_over
from wherry.tasks.policy import Again, GivenUp, after_failure
from wherry.tasks.values import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from wherry.aio import Broker
    from wherry.aio.message import Message
    from wherry.tasks.task import Task
    from wherry.tasks.threads import Threads

logger = logging.getLogger("wherry.tasks")

UNKNOWN_PAUSE_S, UNKNOWN_PAUSE_MAX_S = 1.0, 60.0
"""How long a job of an unknown name waits before another worker looks at it: at first, and at most, twice as long each
time. Where workers of two versions share a queue it soon finds the right one; where nobody knows it, it may wait."""
DOUBLINGS_MAX = 6


class Overrun(Exception):
    """A task did not end in the time that it had to tidy up."""


class Runner:
    """Does jobs.

    Args:
        tasks: the tasks that this worker knows, by name.
        state: what the worker's resources are, by name.
        threads: where sync tasks run.
        processes: where those run that asked for a process.
        broker: where the results of others are.

    Attributes:
        jobs: what runs, with the message that each is for.
        done: how many jobs have ended.
        overruns: how many tasks were given up that may run still.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task[..., Any]],
        state: Mapping[str, Any],
        threads: Threads,
        processes: Processes,
        broker: Broker,
    ) -> None:
        self.jobs: dict[asyncio.Task[None], Message] = {}
        self.done = 0
        self.overruns = 0
        self._tasks = tasks
        self._state = state
        self._threads = threads
        self._processes = processes
        self._broker = broker
        self._loop = asyncio.get_running_loop()

    async def run(self, message: Message) -> None:
        """Does the job of a message, and settles it; the failures of the task are dealt with."""
        try:
            await self._run(message)
        except errors.Disconnected as error:
            logger.warning("what became of job %s could not be told: %s", message.id, error)
        finally:
            self.done += 1

    def stop_cancelled(self) -> None:
        """Stops the jobs that are wanted no more."""
        for job, message in self.jobs.items():
            if message.cancelled:
                job.cancel()

    async def _run(self, message: Message) -> None:
        try:
            headers = message.headers
        except ValueError as error:
            message.reject(f"it is no job: {error}")
            return
        task = self._tasks.get(headers.get(TASK_HEADER, ""))
        if task is None:
            self._put_back(message, headers.get(TASK_HEADER))
            return
        deadline = headers.get(DEADLINE_HEADER)
        if deadline is not None and deadline <= time.time():
            message.reject(f"its deadline passed {time.time() - deadline:.1f} s before it was begun")
            return
        try:
            result = await self._result(task, message, headers, deadline)
        except Exception as error:  # noqa: BLE001 (the outermost frame of the task: whatever it is, the attempt failed)
            self._fail(task, message, error)
        except asyncio.CancelledError:
            if not message.cancelled:  # nothing is wrong with it: the worker ends
                message.release()
        else:
            if not message.cancelled:  # a thread looks for itself, and returns
                message.ack(result)
        if message.cancelled:
            logger.info("job %s of task %r was cancelled", message.id, task.name)

    def _put_back(self, message: Message, name: object) -> None:
        if not name:
            message.reject(f"it is no job: it has no header {TASK_HEADER!r}")
            return
        logger.warning("task %r is not known here: job %s waits for a worker that knows it", name, message.id)
        longer = 2 ** min(message.delivery.released, DOUBLINGS_MAX)
        pause = min(UNKNOWN_PAUSE_S * longer, UNKNOWN_PAUSE_MAX_S)
        message.release(delay=pause, reason=f"no worker that was asked knows the task {name!r}")

    async def _result(
        self, task: Task[..., Any], message: Message, headers: Mapping[str, Any], deadline: float | None
    ) -> bytes:
        context = Context(message, deadline, self._state, partial(self._report, message))
        function, timeout = task.function, task.defined.timeout
        if deadline is not None:
            left = deadline - time.time()
            timeout = left if timeout is None else min(timeout, left)
        before = await self._before(message) if GATE_HEADER in headers else ()
        if task.defined.process:
            return await self._in_process(task, message, list(before), context, timeout)
        args, kwargs = function.unpack(message.body, *before)
        token = running.set(context)
        try:
            if timeout is None and function.is_async:
                value = await function.call(*args, **kwargs)
            else:
                value = await self._value(task, partial(function.call, *args, **kwargs), timeout)
        finally:
            running.reset(token)
        return function.pack_result(value)

    def _report(self, message: Message, fraction: float, note: str) -> None:
        """Has progress told, of a job that may run in a thread."""
        self._loop.call_soon_threadsafe(_tell, message, fraction, note)

    async def _before(self, message: Message) -> list[Any]:
        """What the jobs returned that this one has waited for, if it is called with that: one value, or a list."""
        name = message.headers.get(GATE_HEADER)
        if not name:
            return []
        members = (await self._broker.gate(name)).members
        later = unpack(message.headers[LATER_HEADER]) if LATER_HEADER in message.headers else range(len(members))
        results = [_value_of(each) for each in await self._broker.results(in_order(members, later))]
        return results if len(results) == 1 and not message.headers.get(LIST_HEADER) else [results]

    async def _value(self, task: Task[..., Any], call: partial[Any], timeout: float | None) -> Any:
        if timeout is None:
            return await self._threads.run(call, None)
        if task.function.is_async:
            work = asyncio.ensure_future(self._within(call, timeout))
        else:
            work = asyncio.ensure_future(self._threads.run(call, timeout))
        try:
            done, _ = await asyncio.wait((work,), timeout=timeout + task.defined.grace)
        except asyncio.CancelledError:
            work.cancel()
            raise
        if not done:
            self.overruns += 1
            work.add_done_callback(_forget)
            grace = task.defined.grace
            raise Overrun(f"{ran_over(timeout)}, and did not end in the {grace} s after that")
        return work.result()

    async def _within(self, call: partial[Any], timeout: float) -> Any:
        try:
            async with asyncio.timeout(timeout) as limit:
                return await call()
        except TimeoutError as error:
            if limit.expired() and not error.args:
                error.args = (ran_over(timeout),)
            raise

    async def _in_process(
        self, task: Task[..., Any], message: Message, before: list[Any], context: Context, timeout: float | None
    ) -> bytes:
        function = task.function.call
        call = {
            "module": module_of(function),
            "path": function.__qualname__,
            "body": message.body,
            "before": pack(before),
            "id": context.id,
            "attempt": context.attempt,
            "token": list(context.token),
            "headers": dict(context.headers),
            "deadline": context.deadline,
            "timeout": timeout,
        }
        limit = None if timeout is None else timeout + task.defined.grace
        return await self._processes.run(call, context._report, limit)  # noqa: SLF001 (the same progress)

    def _fail(self, task: Task[..., Any], message: Message, error: Exception) -> None:
        if message.settled:
            return
        decided: Again | GivenUp
        known = None if isinstance(error, BadArguments | Failed | ChildDied | Overrun) else error  # the task's own
        if isinstance(error, BadArguments):
            decided = GivenUp(str(error))
        elif isinstance(error, Failed):
            decided = error.decided
        elif isinstance(error, ChildDied | Overrun):
            decided = after_failure(task.defined, message.attempt, RuntimeError(str(error)), 1.0)
        else:
            decided = after_failure(task.defined, message.attempt, error, random.random())  # noqa: S311 (jitter)
        if isinstance(decided, GivenUp):
            logger.error(
                "job %s of task %r is dead after attempt %d: %s",
                message.id,
                task.name,
                message.attempt,
                decided.reason,
                exc_info=known and _own(known, task),
            )
            message.reject(decided.reason)
        else:
            logger.info(
                "job %s of task %r failed in attempt %d, again in %.1f s: %s",
                message.id,
                task.name,
                message.attempt,
                decided.delay,
                _text(error),
            )
            message.nack(error, delay=decided.delay)


def _tell(message: Message, fraction: float, note: str) -> None:
    if not message.settled:  # a thread may tell when its job is over
        message.progress(fraction, note)


def in_order(members: Sequence[str], later: Sequence[int]) -> list[str]:
    """The members of a gate, which come as they were published, as the workflow has them.

    Args:
        members: their ids.
        later: the places of those that were published after the others, rising; the others were published from the
            last one on.
    """
    result = list(members[: len(members) - len(later)][::-1])
    for place, job in zip(later, members[len(result) :], strict=True):
        result.insert(place, job)
    return result


def _value_of(result: bytes | errors.WherryError) -> Any:
    """What a job returned, or the `NoResult` in place of that."""
    if isinstance(result, bytes):
        return unpack(result) if result else None
    if isinstance(result, errors.NoResult):
        return result
    raise result


def _text(error: Exception) -> str:
    """What to say of a failure; those that are not the task's own say all in their text."""
    return str(error) if isinstance(error, Failed | ChildDied | Overrun) else f"{type(error).__name__}: {error}"


def _own(error: BaseException, task: Task[..., Any]) -> BaseException:
    """The same error, with the way through the task's own code, and not that through the worker's."""
    code = getattr(task.function.call, "__code__", None)
    each: BaseException | None = error
    while each is not None:
        each.__traceback__ = _within_task(each.__traceback__, code)
        each = each.__cause__ or each.__context__
    return error


def _within_task(trace: TracebackType | None, code: object) -> TracebackType | None:
    if trace is None or not trace.tb_frame.f_globals["__name__"].startswith("wherry.tasks."):
        return trace  # caught by the task itself, on its way
    while trace is not None and trace.tb_frame.f_code is not code:
        trace = trace.tb_next
    return trace


def _forget(work: asyncio.Future[Any]) -> None:
    """Looks at the outcome of what was given up, so that nobody is told that nobody did."""
    if not work.cancelled() and work.exception() is not None:
        logger.warning("a task that was given up has ended: %s", work.exception())
