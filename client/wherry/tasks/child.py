"""The process that does one job at a time for a worker: `python -m wherry.tasks.child`.

Its standard input brings calls, its standard output takes what becomes of them, both as msgpack; what the task prints
goes to standard error. A process is what can be killed when its time is over, and what computes beside the others.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import signal
import sys
import traceback
from typing import TYPE_CHECKING, Any

import msgpack

from wherry.delivery import Token
from wherry.tasks.context import Context, Told, running
from wherry.tasks.function import BadArguments
from wherry.tasks.places import ran_over
from wherry.tasks.policy import Again, after_failure
from wherry.tasks.values import unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from wherry.tasks.task import Task

READ_BYTES = 65_536


def context_of(call: Mapping[str, Any], tell: Callable[[dict[str, Any]], None]) -> Context:
    """What a task can ask of the job that the worker has sent.

    Args:
        call: the job.
        tell: takes progress.
    """

    def report(fraction: float, note: str) -> None:
        tell({"progress": fraction, "note": note})

    token = Token(*call["token"])
    # It is killed when it is cancelled.
    return Context(Told(call["id"], call["attempt"], token, call["headers"]), call["deadline"], {}, report)


def find(module: str, path: str) -> Task[..., Any]:
    """The task at a path, such as `mail.send`, of a module."""
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found  # type: ignore[no-any-return]


@contextlib.contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Has TimeoutError raised in what runs for longer."""
    if seconds is None:
        yield
        return

    def over(*_: object) -> None:
        raise TimeoutError(ran_over(seconds))

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def work(task: Task[..., Any], call: Mapping[str, Any]) -> dict[str, Any]:
    """Does a job.

    Returns:
        `result`, or `again` with the seconds to wait and the error's text, or `gave_up` with it.
    """
    try:
        args, kwargs = task.function.unpack(call["body"], *unpack(call["before"]))
        with time_limit(call["timeout"]):
            value = task.function.call(*args, **kwargs)
        return {"result": task.function.pack_result(value)}
    except BadArguments as error:
        return {"gave_up": str(error)}
    except BaseException as error:  # noqa: BLE001 (the outermost frame of the task: whatever it is, the attempt failed)
        traceback.print_exc()  # the worker gets to know the text only
        decided = after_failure(task.defined, call["attempt"], error, random.random())  # noqa: S311 (jitter)
        text = f"{type(error).__name__}: {error}"
        return {"again": decided.delay, "text": text} if isinstance(decided, Again) else {"gave_up": decided.reason}


def main() -> None:
    """Does jobs until standard input ends."""
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what tasks print must not get between the answers

    def tell(said: dict[str, Any]) -> None:
        out.write(msgpack.packb(said))

    unpacker = msgpack.Unpacker()
    while data := os.read(0, READ_BYTES):
        unpacker.feed(data)
        for call in unpacker:
            token = running.set(context_of(call, tell))
            try:
                tell(work(find(call["module"], call["path"]), call))
            finally:
                running.reset(token)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # the worker is told too, and says what is to be done
        sys.exit(130)
