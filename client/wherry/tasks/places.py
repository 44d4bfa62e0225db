"""Where sync tasks run that asked for a process of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

import msgpack

from wherry.tasks.policy import Again, GivenUp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

READ_BYTES = 65_536


class ChildDied(Exception):
    """The process of a task ended before the task did."""


class Failed(Exception):
    """A task in a process failed; what becomes of it was decided there.

    Attributes:
        decided: what becomes of the attempt.
        text: the error.
    """

    def __init__(self, decided: Again | GivenUp, text: str) -> None:
        super().__init__(text)
        self.decided = decided
        self.text = text


def ran_over(seconds: float) -> str:
    """What a TimeoutError says of a task that ran for longer than it may."""
    return f"it ran for {seconds:g} s, which is its limit"


class Processes:
    """Processes for sync tasks, started as they are needed, each doing one job at a time.

    Args:
        size: how many run at a time.
    """

    def __init__(self, size: int) -> None:
        self._free = asyncio.Semaphore(size)
        self._idle: list[asyncio.subprocess.Process] = []

    async def run(self, call: Mapping[str, Any], report: Callable[[float, str], None], limit: float | None) -> bytes:
        """Has a process do a job.

        Args:
            call: the job, as `wherry.tasks.child` reads it.
            report: takes progress.
            limit: after how many seconds the process is killed.

        Returns:
            The packed result.

        Raises:
            Failed: the task failed.
            ChildDied: the process ended on the way.
            TimeoutError: it was killed.
        """
        async with self._free:
            process = self._idle.pop() if self._idle else await _start()
            try:
                async with asyncio.timeout(limit):
                    said = await _converse(process, call, report)
            except BaseException as error:  # whatever it is doing now is wanted no more
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
                if isinstance(error, TimeoutError):
                    error.args = (f"it did not end in {limit:g} s, and its process was killed",)
                raise
            self._idle.append(process)
        return _result_of(said)

    async def close(self) -> None:
        """Ends the processes that do nothing."""
        for process in self._idle:
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()
        self._idle.clear()


def _result_of(said: dict[str, Any]) -> bytes:
    if "gave_up" in said:
        raise Failed(GivenUp(said["gave_up"]), said["gave_up"])
    if "again" in said:
        raise Failed(Again(said["again"]), said["text"])
    result: bytes = said["result"]
    return result


async def _start() -> asyncio.subprocess.Process:
    # What this process can import, that one can.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "wherry.tasks.child", stdin=pipe, stdout=pipe, env=environment
    )


async def _converse(
    process: asyncio.subprocess.Process, call: Mapping[str, Any], report: Callable[[float, str], None]
) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(msgpack.packb(call))
    unpacker = msgpack.Unpacker()
    while data := await process.stdout.read(READ_BYTES):
        unpacker.feed(data)
        for said in unpacker:
            if "progress" not in said:
                return said  # type: ignore[no-any-return]
            report(said["progress"], said["note"])
    code = await process.wait()
    raise ChildDied(f"the task's process ended with {f'signal {-code}' if code < 0 else f'exit code {code}'}")
