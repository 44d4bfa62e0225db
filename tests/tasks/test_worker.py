"""A worker does jobs, and what becomes of those that fail."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from datetime import date

import pydantic
import pytest

import wherry
from patience import PATIENCE_S
from wherry.tasks import BadArguments, Reject, Retry, RetryLater, Tasks, Worker, current, runner

AT_ONCE = Retry(base=0)


async def gone(running, task):
    """Returns when the task's queue holds nothing."""
    await running.until(lambda: running.counts(task.queue) == (0, 0, 0, 0))


async def dead(running, tasks, task):
    """The only message of the task's queue, once it is dead."""
    await running.until(lambda: running.counts(task.queue) == (0, 0, 0, 1))
    (message,) = await (await tasks.broker()).queue(task.queue).peek(state="dead")
    return message


async def test_jobs_are_done_with_their_arguments(running, tasks, working):
    seen = []

    @tasks.task
    async def note(a: int, *rest: str, b: set[int], **more: float) -> None:
        seen.append((a, rest, b, more))

    @tasks.task
    def in_a_thread(a: int) -> None:
        seen.append((a, threading.current_thread() is threading.main_thread()))

    async with working():
        await note.send(1, "x", "y", b={2}, c=3)
        await gone(running, note)
        await in_a_thread.send(5)
        await gone(running, in_a_thread)
    assert seen == [(1, ("x", "y"), {2}, {"c": 3.0}), (5, False)]


async def test_calling_a_task_calls_the_function(tasks):
    @tasks.task
    async def twice(a: int) -> int:
        """Says it."""
        return 2 * a

    @tasks.task
    def thrice(a: int) -> int:
        return 3 * a

    assert (await twice(2), thrice(2), twice.__doc__) == (4, 6, "Says it.")


async def test_a_function_that_is_called_here_finds_a_job_that_goes_nowhere(running, tasks):
    @tasks.task
    async def inner() -> int:
        return current().attempt

    @tasks.task
    def outer(n: int) -> str:
        current().progress(0.5)
        assert not current().cancelled
        return inner.send_sync().id

    def sent() -> str:
        result = outer(1)
        tasks.close_sync()
        return result

    assert await inner() == 1
    job = await asyncio.to_thread(sent)
    (message,) = await (await tasks.broker()).queue(inner.queue).peek()
    assert (message.id, message.headers) == (job, {"task": "app.inner"})
    with pytest.raises(LookupError):
        current()


async def test_a_function_that_a_task_calls_is_a_part_of_its_job(tasks, working):
    @tasks.task
    async def inner() -> str:
        return current().id

    @tasks.task
    async def outer() -> str:
        return await inner()

    async with working():
        handle = await outer.send()
        assert await handle.result(PATIENCE_S) == handle.id


async def test_wrong_arguments_are_refused_before_they_are_sent(tasks):
    @tasks.task
    async def add(a: int, b: int) -> None: ...

    with pytest.raises(BadArguments, match=r"'app.add': missing a required argument: 'b'"):
        await add.send(1)
    with pytest.raises(BadArguments, match="cannot be sent"):
        await add.send(1, object())


async def test_arguments_that_do_not_fit_are_no_reason_to_try_again(running, tasks, working):
    @tasks.task
    async def add(a: int) -> None: ...

    async with working():
        await add.send("one")
        message = await dead(running, tasks, add)
    assert message.error == "task 'app.add', parameter 'a': 'one' is no int"
    assert message.attempt == 1


async def test_models_are_checked_before_the_task_is_called(running, tasks, working):
    class User(pydantic.BaseModel):
        name: str
        born: date

    def greet(user: User) -> User:
        return user.model_copy(update={"name": user.name.title()})

    greet.__annotations__ = {"user": User, "return": User}  # not the texts of this module: User is in no module
    task = tasks.task(retries=5)(greet)
    ann = User(name="ann", born=date(2000, 2, 29))
    async with working():
        assert await (await task.send(ann)).result(PATIENCE_S) == User(name="Ann", born=ann.born)
        failed = await task.send({"name": "bob", "born": "yesterday"})
        with pytest.raises(wherry.JobFailed) as caught:
            await failed.result(PATIENCE_S)
    assert caught.value.error.startswith(
        "task 'app.greet', parameter 'user': {'name': 'bob', 'born': 'yesterday'} is no "
    )
    assert "User: born: Input should be a valid date" in caught.value.error
    assert (await failed.status()).attempts == 1


async def test_a_worker_warns_of_annotations_that_it_cannot_find(tasks, working, caplog):
    @tasks.task
    def spend(amount: Money, count: int) -> None: ...  # noqa: F821 (that is the point)

    async with working():
        assert "task 'app.spend': the annotation of amount names what cannot be found" in caplog.text


async def test_a_failed_job_is_tried_again_and_then_dead(running, tasks, working, caplog):
    caplog.set_level("INFO", "wherry.tasks")
    attempts = []

    @tasks.task(retries=2, back_off=AT_ONCE)
    async def fail() -> None:
        attempts.append(current().attempt)
        raise RuntimeError(f"no {len(attempts)}")

    async with working():
        await fail.send()
        message = await dead(running, tasks, fail)
    assert attempts == [1, 2, 3]
    assert (message.reason, message.error) == ("rejected", "RuntimeError: no 3")
    assert "job app.fail/1 of task 'app.fail' failed in attempt 1, again in 0.0 s: RuntimeError: no 1\n" in caplog.text
    assert "job app.fail/1 of task 'app.fail' is dead after attempt 3: RuntimeError: no 3\n" in caplog.text


@pytest.mark.parametrize("sync", [False, True])
async def test_the_log_shows_the_way_through_the_task_and_not_that_through_the_worker(
    running, tasks, working, caplog, sync
):
    def fail() -> None:
        try:
            {}["missing"]
        except KeyError as error:
            raise ValueError("no") from error

    async def fail_async() -> None:
        fail()

    task = tasks.task(name="fail", retries=0)(fail if sync else fail_async)
    async with working():
        await task.send()
        await dead(running, tasks, task)
    (trace,) = [record.exc_text for record in caplog.records if record.exc_text]
    files = set(re.findall(r'File "(.*?)"', trace))
    assert files == {__file__}
    assert '{}["missing"]' in trace


@pytest.mark.parametrize("error", [Reject("never"), KeyError("not wanted")])
async def test_some_errors_are_not_tried_again(running, tasks, working, error):
    @tasks.task(retries=5, retry_on=(OSError,))
    def fail() -> None:
        raise error

    async with working():
        await fail.send()
        message = await dead(running, tasks, fail)
    assert message.attempt == 1


async def test_a_task_may_ask_for_another_attempt(running, tasks, working):
    attempts = []

    @tasks.task(retries=1, retry_on=())
    async def later() -> None:
        attempts.append(current().attempt)
        if len(attempts) == 1:
            raise RetryLater("not yet", after=0.01)

    async with working():
        await later.send()
        await gone(running, later)
    assert attempts == [1, 2]


@pytest.mark.parametrize("sync", [False, True])
async def test_what_takes_too_long_is_told_and_may_tidy_up(running, tasks, working, caplog, sync):
    told = []

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            told.append("stopped")
            raise

    def spin() -> None:
        try:
            while True:
                time.sleep(0.001)
        except TimeoutError:
            told.append("stopped")
            raise

    slow = tasks.task(name="slow", timeout=0.05, retries=0)(spin if sync else wait)
    async with working():
        await slow.send()
        message = await dead(running, tasks, slow)
    assert told == ["stopped"]
    assert message.error == "TimeoutError: it ran for 0.05 s, which is its limit"
    (trace,) = [record.exc_text for record in caplog.records if record.exc_text]
    assert "in spin" in trace or "in wait" in trace
    assert "runner.py" not in trace


async def test_what_does_not_end_is_given_up(running, tasks, working):
    release = threading.Event()

    @tasks.task(timeout=0.02, grace=0.02, retries=0)
    def deaf() -> None:
        release.wait(60)  # sees nothing of an exception until it returns

    async with working() as worker:
        await deaf.send()
        message = await dead(running, tasks, deaf)
        assert worker.overruns == 1
        release.set()
    assert message.error == (
        "RuntimeError: it ran for 0.02 s, which is its limit, and did not end in the 0.02 s after that"
    )


async def test_a_job_of_an_unknown_name_waits_for_another_worker(running, tasks, working, caplog):
    other = Tasks(running.url, prefix="app")

    @other.task(queue="shared")
    async def unknown() -> None: ...

    @tasks.task(queue="shared")
    async def known() -> None: ...

    async with other, working():
        await unknown.send()
        await running.until(lambda: running.counts("shared") == (0, 1, 0, 0))
        queue = (await tasks.broker()).queue("shared")
        (message,) = await queue.peek(state="delayed")
        assert (message.attempt, message.error) == (0, "no worker that was asked knows the task 'app.unknown'")
        assert (await queue.status(message.id)).why.endswith(f"attempt 1 released: {message.error}")
    assert "'app.unknown' is not known here" in caplog.text


async def test_it_waits_longer_each_time_and_is_done_once_somebody_knows_it(running, tasks, working, monkeypatch):
    monkeypatch.setattr(runner, "UNKNOWN_PAUSE_S", 0.001)
    monkeypatch.setattr(runner, "UNKNOWN_PAUSE_MAX_S", 0.01)
    other = Tasks(running.url, prefix="app")

    @other.task(queue="shared")
    async def later() -> str:
        return "done"

    @tasks.task(queue="shared")
    async def known() -> None: ...

    async with other:
        handle = await later.send()
        async with working():
            ended = running.shard.state.names["shared"].ended
            await running.until(lambda: ended.get("released", 0) > runner.DOUBLINGS_MAX)
        message = await (await tasks.broker()).queue("shared").find(handle.id)
        assert message.attempt == 0  # none of it counts

        async with asyncio.TaskGroup() as group:
            worker = Worker(other)
            work = group.create_task(worker.run())
            assert await handle.result(PATIENCE_S) == "done"
            worker.stop()
            await work


async def test_what_is_no_job_is_dead(running, tasks, working):
    @tasks.task(queue="q")
    async def task() -> None: ...

    async with working():
        await (await tasks.broker()).queue("q").publish(b"hello")
        message = await dead(running, tasks, task)
    assert message.error == "it is no job: it has no header 'task'"


async def test_so_many_jobs_run_at_a_time(running, tasks, working):
    now, most = 0, 0

    @tasks.task
    async def work(_: int) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.005)
        now -= 1

    async with working(concurrency=3, prefetch=1):
        await work.map(range(20))
        await gone(running, work)
    assert most == 3


async def test_a_worker_that_stops_lets_jobs_end_and_hands_back_the_rest(running, tasks, working):
    begun, end, ended = asyncio.Event(), asyncio.Event(), []

    @tasks.task
    async def work(n: int) -> None:
        begun.set()
        await end.wait()
        ended.append(n)

    async with working(concurrency=1) as worker:
        await work.map(range(3))
        await begun.wait()
        worker.stop()
        await running.until(lambda: running.counts(work.queue)[0] == 2)
        end.set()
    assert ended == [0]
    assert running.counts(work.queue) == (2, 0, 0, 0)
    (first, _) = await (await tasks.broker()).queue(work.queue).peek()
    assert first.attempt == 0  # handed back unspent


async def test_what_does_not_end_in_the_grace_is_handed_back(running, tasks, working):
    begun = asyncio.Event()

    @tasks.task
    async def work() -> None:
        begun.set()
        await asyncio.sleep(60)

    async with working(grace=0.01):
        await work.send()
        await begun.wait()
    await running.until(lambda: running.counts(work.queue) == (1, 0, 0, 0))
    (message,) = await (await tasks.broker()).queue(work.queue).peek()
    assert message.attempt == 0


async def test_a_cancelled_job_is_stopped(running, tasks, working):
    begun, stopped = asyncio.Event(), asyncio.Event()

    @tasks.task
    async def work() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    async with working() as worker:
        handle = await work.send()
        await begun.wait()
        await (await tasks.broker()).queue(work.queue).cancel(handle.id)
        await stopped.wait()
        await running.until(lambda: not worker.running)
    assert running.counts(work.queue) == (0, 0, 0, 0)


async def test_a_thread_sees_that_it_is_cancelled(running, tasks, working, caplog):
    caplog.set_level("INFO")
    begun, saw = threading.Event(), threading.Event()

    @tasks.task
    def work() -> None:
        begun.set()
        while not current().cancelled:
            time.sleep(0.001)
        saw.set()

    async with working():
        handle = await work.send()
        await asyncio.to_thread(begun.wait)
        await (await tasks.broker()).queue(work.queue).cancel(handle.id)
        await asyncio.to_thread(saw.wait)
    assert "job app.work/1 of task 'app.work' was cancelled" in caplog.text
    assert "ack of" not in caplog.text


async def test_the_resources_of_a_worker_are_there_for_its_tasks(running, tasks, working):
    trace = []

    @tasks.resource
    async def database():
        trace.append("opened")
        yield {"name": "db"}
        trace.append("closed")

    @tasks.task
    async def use() -> None:
        trace.append(current().state["database"]["name"])

    async with working():
        await use.send()
        await gone(running, use)
    assert trace == ["opened", "db", "closed"]


async def test_a_job_is_wanted_no_longer_than_the_one_that_sent_it(running, tasks, working):
    seen = {}

    @tasks.task
    async def child() -> None:
        seen["child"] = current().deadline

    @tasks.task
    async def parent() -> None:
        seen["parent"] = current().deadline
        await child.send()

    async with working():
        queue = (await tasks.broker()).queue(parent.queue)
        deadline = time.time() + 60
        await queue.publish(parent.function.pack((), {}), headers={"task": "app.parent", "deadline": deadline})
        await running.until(lambda: "child" in seen)
    assert seen == {"parent": deadline, "child": deadline}


async def test_a_job_whose_deadline_has_passed_is_not_begun(running, tasks, working):
    @tasks.task
    async def work() -> None:
        pytest.fail("it was begun")

    async with working():
        queue = (await tasks.broker()).queue(work.queue)
        await queue.publish(work.function.pack((), {}), headers={"task": "app.work", "deadline": time.time() - 1})
        message = await dead(running, tasks, work)
    assert message.error.startswith("its deadline passed")


async def test_the_queue_is_as_its_tasks_ask_for(running, tasks, working):
    @tasks.task(retries=4, max_leased=7, result_ttl=60)
    async def work() -> None: ...

    broker = await tasks.broker()
    await broker.declare(work.queue)
    async with working():
        options = (await broker.queue(work.queue).info()).options
    assert (options["max_attempts"], options["max_leased"], options["result_ttl_ms"]) == (5, 7, 60_000)


def test_a_task_that_cannot_be_is_refused():
    tasks = Tasks(prefix="")
    tasks.task(name="a")(print)
    with pytest.raises(ValueError, match="'a' already"):
        tasks.task(name="a")(print)
    with pytest.raises(ValueError, match="'b c' cannot name a queue"):
        tasks.task(name="b c")(print)
    with pytest.raises(ValueError, match="retries is 0 or more, not -1"):
        tasks.task(name="c", retries=-1)(print)
    with pytest.raises(ValueError, match="max_leased: an option of a queue"):
        tasks.task(name="d", queue="shared", max_leased=3)(print)
    with pytest.raises(ValueError, match="no option of a task: speed"):
        Tasks(defaults={"speed": 1})


def test_there_is_no_current_task_outside():
    with pytest.raises(LookupError, match="no current task"):
        current()
