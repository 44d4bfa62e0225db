"""The supervisor: it starts worker processes, replaces those that end, and ends them all in order."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from typing import TYPE_CHECKING

from wherry.tasks.serving import READY, RECYCLE, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

logger = logging.getLogger("wherry.tasks")

PAUSE_S = 1.0
PAUSE_MAX_S = 30.0
LASTED_S = 10.0
"""A process that lasted this long did not fail at its start."""
LOOK_S = 0.5
MARGIN_S = 5.0
"""How much longer than its grace a process may take to end before it is killed."""


class Supervisor:
    """Keeps worker processes running.

    Args:
        settings: what each is told.
        processes: how many there are.
        log_level: what they log.
        module: what each process runs, by `python -m`.
        watched: folders whose Python files are watched; when one changes, all processes are replaced.
        ready: called once all of them are ready for the first time.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        processes: int = 1,
        log_level: str = "INFO",
        module: str = "wherry.tasks.serving",
        watched: tuple[Path, ...] = (),
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._log_level = log_level
        self._module = module
        self._watched = watched
        self._ready = ready
        self._unready = processes
        self._processes: list[asyncio.subprocess.Process | None] = [None] * processes
        self._stopping = asyncio.Event()
        self._code = 0

    async def run(self) -> int:
        """Runs until `stop` is called, or a process ends in a way that starting it again does not mend.

        Returns:
            The exit code: 0, or that of the process.
        """
        async with asyncio.TaskGroup() as group:
            for place in range(len(self._processes)):
                group.create_task(self._keep(place))
            if self._watched:
                watching = group.create_task(self._watch())
                await self._stopping.wait()
                watching.cancel()
        return self._code

    def stop(self) -> None:
        """Ends all processes in order."""
        self._stopping.set()
        self._end_all()

    def kill(self) -> None:
        """Ends all processes at once."""
        for process in self._running():
            process.kill()

    def _running(self) -> list[asyncio.subprocess.Process]:
        return [each for each in self._processes if each is not None and each.returncode is None]

    def _end_all(self) -> None:
        for process in self._running():
            process.terminate()

    async def _keep(self, place: int) -> None:
        """Keeps one place filled."""
        pause = PAUSE_S
        while not self._stopping.is_set():
            started = time.monotonic()
            was_ready, code = await self._one(place)
            if self._stopping.is_set() or code == 0:
                continue
            if code != RECYCLE:
                logger.error("worker process %d ended with %s", place + 1, _how(code))
                if not was_ready and self._unready:  # it never worked: this is no accident
                    self._code = code if code > 0 else 1
                    self.stop()
                    return
                pause = PAUSE_S if time.monotonic() - started > LASTED_S else min(2 * pause, PAUSE_MAX_S)
                await self._pause(pause)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _one(self, place: int) -> tuple[bool, int]:
        """Runs one process to its end; returns whether it came to be ready, and its exit code."""
        argument = json.dumps({**self._settings._asdict(), "log_level": self._log_level})
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", self._module, argument, stdout=asyncio.subprocess.PIPE
        )
        self._processes[place] = process
        if self._stopping.is_set():
            process.terminate()
        killer = asyncio.create_task(self._kill_late(process))
        was_ready = False
        assert process.stdout is not None
        async for line in process.stdout:
            if not was_ready and line.decode().strip() == READY:
                was_ready = True
                self._count_ready()
            else:  # what a task prints
                sys.stdout.write(line.decode(errors="replace"))
                sys.stdout.flush()
        code = await process.wait()
        killer.cancel()
        return was_ready, code

    async def _kill_late(self, process: asyncio.subprocess.Process) -> None:
        await self._stopping.wait()
        await asyncio.sleep(self._settings.grace + MARGIN_S)
        logger.error("worker process %d did not end, and is killed", process.pid)
        process.kill()

    def _count_ready(self) -> None:
        if self._unready:
            self._unready -= 1
            if not self._unready:
                self._ready()

    async def _watch(self) -> None:
        before = dict(_changes(self._watched))
        while True:
            await asyncio.sleep(LOOK_S)
            now = await asyncio.to_thread(lambda: dict(_changes(self._watched)))
            if now != before:
                names = sorted(path.name for path in now if before.get(path) != now[path]) or ["a file is gone"]
                logger.info("%s changed: starting again", ", ".join(names))
                before = now
                self._end_all()


def _changes(folders: tuple[Path, ...]) -> Iterator[tuple[Path, int]]:
    """The Python files in some folders, with when each was changed."""
    for folder in folders:
        for path in folder.rglob("*.py"):
            try:
                yield path, path.stat().st_mtime_ns
            except FileNotFoundError:  # gone while we looked
                continue


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
