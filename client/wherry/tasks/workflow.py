"""Workflows: jobs that wait for others.

`a.s(1) | b.then()` is a chain: b is called with what a returned. `group([...])` are calls that do not wait for each
other; `group([...]) | c.then()` calls c with the list of what they returned, in their order. Both nest. All jobs of a
workflow are published at once, in one commit, and those that wait do so at gates of the broker: what ends a job lets
through what waited for it, in the same entry of the log, so that nothing is lost when a worker dies in between.
"""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar, overload
from uuid import uuid4

from wherry.conversation.transaction import Gate
from wherry.errors import TooLarge
from wherry.model.fields import BATCH_MESSAGES_MAX
from wherry.model.names import split_id
from wherry.tasks.context import within_parent
from wherry.tasks.handle import Handle, SyncHandle
from wherry.tasks.names import GATE_HEADER, LATER_HEADER, LIST_HEADER
from wherry.tasks.values import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from wherry import sync
    from wherry.aio import Broker
    from wherry.conversation.transaction import Draft, Posted
    from wherry.errors import NoResult
    from wherry.tasks.registry import Tasks
    from wherry.tasks.task import (  # noqa: TC004 (this module and that one need each other)
        Call,
        Continuation,
        Job,
        Signature,
        Task,
    )

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")
D = TypeVar("D", bound="Draft")


class Planned(NamedTuple):
    """One job of a workflow.

    Attributes:
        task: its task.
        job: what to publish.
        after: the places of the jobs that it waits for.
        collects: whether it goes on when some of them fail.
        lists: whether what they return is a list, even of one.
    """

    task: Task[..., Any]
    job: Job
    after: tuple[int, ...]
    collects: bool
    lists: bool


class Plan:
    """The jobs of a workflow, each after those that it waits for.

    Args:
        whole: the workflow.

    Attributes:
        ends: the places of those that no other waits for, in their order.
    """

    def __init__(self, whole: Any) -> None:
        self.jobs: list[Planned] = []
        self._flow = f"flow.{uuid4().hex}"
        self._posted: dict[int, Posted] = {}
        self.ends = self._add(whole, ())
        self._followers: dict[int, list[int]] = {}
        for place, planned in enumerate(self.jobs):
            for before in planned.after:
                self._followers.setdefault(before, []).append(place)

    @property
    def ids(self) -> list[str]:
        """The ids of the jobs, once all of them are published."""
        return [self._posted[place].id for place in range(len(self.jobs))]

    def _add(self, node: Any, after: tuple[int, ...], before: Any = None) -> tuple[int, ...]:
        """Adds a call, a chain or a group.

        Args:
            node: what to add.
            after: the places of the jobs that it comes after.
            before: what those were, as a whole.

        Returns:
            The places of its ends.
        """
        if isinstance(node, Chain):
            for step in node.steps:
                after, before = self._add(step, after, before), step
            return after
        if isinstance(node, group):
            return tuple(end for each in node.calls for end in self._add(each, after, before))
        takes, lists = bool(after) and not node.immutable, isinstance(before, group)
        planned = Planned(node.task, node.job(takes=takes), after, lists and before.collects, lists)
        self.jobs.append(planned)
        return (len(self.jobs) - 1,)

    def drafts(self, make: Callable[[], D]) -> list[D]:
        """The transactions that publish the jobs, one after the other: as few as take all of them.

        Those that wait are published first, each after those that wait for it, so that its gate is there when it is to
        count for it, and nothing runs before all that waits is there.

        Args:
            make: makes a transaction.

        Raises:
            TooLarge: one job is more than a transaction can be.
        """
        waiting = [place for place, each in enumerate(self.jobs) if each.after]
        order = [*reversed(waiting), *(place for place, each in enumerate(self.jobs) if not each.after)]
        drafts = [make()]
        for _, alike in groupby(order, self._shared):
            self._put_in_turn(drafts, list(alike), make)
        return drafts

    def _put_in_turn(self, drafts: list[D], places: list[int], make: Callable[[], D]) -> None:
        """Puts jobs that share all but their arguments into the last transaction, or into a new one, or into more."""
        try:
            self._put(drafts[-1], places)
        except TooLarge:
            if not drafts[-1].is_empty:
                drafts.append(make())
                self._put_in_turn(drafts, places, make)
            elif len(places) > 1:
                middle = min(BATCH_MESSAGES_MAX, (len(places) + 1) // 2)
                self._put_in_turn(drafts, places[:middle], make)
                self._put_in_turn(drafts, places[middle:], make)
            else:
                raise

    def _put(self, draft: Draft, places: list[int]) -> None:
        planned = self.jobs[places[0]]
        headers, publish = within_parent(planned.job)
        options = {"track": True, "counts_for": self._counts_for(places[0]), **publish}
        if len(places) > 1:
            bodies = [self.jobs[place].job.body for place in places]
            posted = draft.publish_many(planned.job.queue, bodies, headers=headers, **options)
        else:
            gate = None
            if planned.after:
                gate = Gate(self._gate_of(places[0]), len(planned.after), strict=not planned.collects)
                headers = {**headers, **(self._taking(planned, gate) if planned.job.takes else {})}
            posted = [draft.publish(planned.job.queue, planned.job.body, headers=headers, waits_at=gate, **options)]
        self._posted.update(zip(places, posted, strict=True))

    def _shared(self, place: int) -> Any:
        """What jobs have to have in common to be published together; its place for one that has to be alone."""
        planned = self.jobs[place]
        job = planned.job
        if planned.after or "dedupe" in job.publish:
            return place
        return job.task, job.queue, job.publish, job.takes, self._followers.get(place)

    def _counts_for(self, place: int) -> list[str]:
        return [self._gate_of(each) for each in self._followers.get(place, ())]

    def _taking(self, planned: Planned, gate: Gate) -> dict[str, Any]:
        """The headers that say which results a job is called with, in which order."""
        headers: dict[str, Any] = {GATE_HEADER: gate.name, LIST_HEADER: planned.lists}
        later = [place for place, before in enumerate(planned.after) if not self.jobs[before].after]
        if len(later) < len(planned.after):  # a gate has its members as they were published
            headers[LATER_HEADER] = pack(later)
        return headers

    def _gate_of(self, place: int) -> str:
        return f"{self._flow}.{place}"


class Sendable(Generic[R_co]):
    """What can be sent as a whole."""

    _tasks: Tasks

    async def _sent(self) -> tuple[Broker, Plan]:
        plan, broker = Plan(self), await self._tasks.broker()
        for draft in plan.drafts(broker.transaction):
            async with draft:
                pass
        return broker, plan

    def _sent_sync(self) -> tuple[sync.Broker, Plan]:
        plan, broker = Plan(self), self._tasks.broker_sync()
        for draft in plan.drafts(broker.transaction):
            with draft:
                pass
        return broker, plan


class Flow(Handle[R_co]):
    """A workflow that was sent: the handle of its last job.

    Attributes:
        jobs: the ids of all its jobs, each after those that it waits for.
    """

    def __init__(self, broker: Broker, jobs: Sequence[str], task: Task[..., R_co]) -> None:
        super().__init__(broker, jobs[-1], task)
        self.jobs = list(jobs)
        self._broker = broker

    async def cancel(self) -> bool:
        """Cancels all of its jobs that have not ended; returns whether there was one."""
        total = 0
        for queue, offsets in _runs(self.jobs):
            total += await self._broker.queue(queue).cancel(*offsets)
        return total > 0


class SyncFlow(SyncHandle[R_co]):
    """The same for code that has no event loop.

    Attributes:
        jobs: the ids of all its jobs.
    """

    def __init__(self, broker: sync.Broker, jobs: Sequence[str], task: Task[..., R_co]) -> None:
        super().__init__(broker, jobs[-1], task)
        self.jobs = list(jobs)
        self._broker = broker

    def cancel(self) -> bool:
        """Cancels all of its jobs that have not ended; returns whether there was one."""
        return sum(self._broker.queue(queue).cancel(*offsets) for queue, offsets in _runs(self.jobs)) > 0


class Chain(Sendable[R_co]):
    """Calls, one after the other; each but the first is called with what the one before it returned.

    Args:
        steps: calls, and groups of them; the last one is a call.
    """

    def __init__(self, steps: Iterable[Any]) -> None:
        self.steps: list[Any] = []
        for each in steps:
            self.steps += each.steps if isinstance(each, Chain) else [each]
        self._tasks = _tasks_of(self.steps[0])

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.steps))

    @overload
    def __or__(self, after: Continuation[R_co, T]) -> Chain[T]: ...
    @overload
    def __or__(self, after: Signature[T] | Sendable[T]) -> Chain[T]: ...
    def __or__(self, after: Any) -> Chain[Any]:
        return Chain([self, after])

    async def send(self) -> Flow[R_co]:
        """Publishes all of it in one commit, or as few as it fits: one takes 10,000 jobs, or some hundreds that wait.

        Of several, the first ones have those that wait for others, and none of these is done if a later one fails.

        Returns:
            The handle of the last call.

        Raises:
            ValueError: it ends in a group, which has no last call.
        """
        self._check_end()
        broker, plan = await self._sent()
        return Flow(broker, plan.ids, plan.jobs[-1].task)

    def send_sync(self) -> SyncFlow[R_co]:
        """The same from code that has no event loop."""
        self._check_end()
        broker, plan = self._sent_sync()
        return SyncFlow(broker, plan.ids, plan.jobs[-1].task)

    def _check_end(self) -> None:
        if isinstance(self.steps[-1], group):
            raise ValueError("a chain that is sent ends in a call, not in a group")  # noqa: TRY004 (the type is right)


class group(Sendable[R_co]):  # noqa: N801 (as users of other systems know it)
    """Calls that do not wait for each other.

    Args:
        calls: calls, chains and groups; a group among them is the same as its calls in its place.
        collects: whether what follows goes on although some fail; it is given a `NoResult` in the place of their
            results then (a task in a process of its own cannot be). Otherwise the first that fails fails what follows.
    """

    @overload
    def __init__(self, calls: Iterable[Call[R_co] | Sendable[R_co]], *, collects: Literal[False] = False) -> None: ...
    @overload
    def __init__(
        self: group[T | NoResult], calls: Iterable[Call[T] | Sendable[T]], *, collects: Literal[True]
    ) -> None: ...
    def __init__(self, calls: Iterable[Call[Any] | Sendable[Any]], *, collects: bool = False) -> None:
        self.calls = list(calls)
        self.collects = collects
        if not self.calls:
            raise ValueError("a group has at least one call")
        self._tasks = _tasks_of(self.calls[0])

    def __repr__(self) -> str:
        return f"group({self.calls!r})"

    @overload
    def __or__(self, after: Continuation[list[R_co], T]) -> Chain[T]: ...
    @overload
    def __or__(self, after: Signature[T] | Sendable[T]) -> Chain[T]: ...
    def __or__(self, after: Any) -> Chain[Any]:
        return Chain([self, after])

    async def send(self) -> list[Handle[R_co]]:
        """Publishes all of it in one commit; returns a handle for each of its calls, in their order."""
        broker, plan = await self._sent()
        ids = plan.ids
        return [Handle(broker, ids[place], plan.jobs[place].task) for place in plan.ends]

    def send_sync(self) -> list[SyncHandle[R_co]]:
        """The same from code that has no event loop."""
        broker, plan = self._sent_sync()
        ids = plan.ids
        return [SyncHandle(broker, ids[place], plan.jobs[place].task) for place in plan.ends]


def chain(*steps: *tuple[*tuple[Call[Any] | Sendable[Any], ...], Call[T] | Sendable[T]]) -> Chain[T]:
    """The same as `step | step | ...`; type checkers do not see whether each is called with what it takes."""
    return Chain(steps)


@overload
def chord(
    calls: Iterable[Call[R] | Sendable[R]], callback: Continuation[list[R], T], *, collects: Literal[False] = False
) -> Chain[T]: ...
@overload
def chord(
    calls: Iterable[Call[R] | Sendable[R]], callback: Continuation[list[R | NoResult], T], *, collects: Literal[True]
) -> Chain[T]: ...
@overload
def chord(
    calls: Iterable[Call[Any] | Sendable[Any]], callback: Signature[T], *, collects: bool = False
) -> Chain[T]: ...
def chord(calls: Iterable[Call[Any] | Sendable[Any]], callback: Call[T], *, collects: bool = False) -> Chain[T]:
    """Calls, and then one with the list of what they returned: `group(calls) | callback`."""
    first: group[Any] = group(calls, collects=True) if collects else group(calls)
    return Chain([first, callback])


def _tasks_of(node: Any) -> Tasks:
    found: Tasks = node._tasks if isinstance(node, Sendable) else node.task._tasks  # noqa: SLF001 (of this package)
    return found


def _runs(jobs: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    """The offsets of jobs, queue by queue, from the last one on: those that wait for others would die when these go."""
    for queue, run in groupby(map(split_id, reversed(jobs)), itemgetter(0)):
        yield queue, [offset for _, offset in run]
