"""One run: a broker and some workers that do workflows, and are hurt on the way."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from chaos import jobs
from chaos.audit import Ended
from chaos.flows import BROKER, FREEZE, WORKER, draw_faults, draw_flows
from chaos.ledger import Given, Ledger
from crash.broker import Broker
from crash.history import Recorder
from installing import ROOT
from serving import DEADLINE_S

if TYPE_CHECKING:
    from pathlib import Path

    from chaos.flows import Drawn, Fault

WORKERS = 3
CONCURRENCY = 16
FLOWS_AT_A_TIME = 40
RESUME_S = 0.5
"""Soon after its socket is gone, what a worker had is given to another one."""
UNREACHABLE = 3
LOOK_S = 0.02
STILL_S = 120.0
"""After how long without an effect something is stuck."""


class Workers:
    """Processes of `wherry worker`, each started again when it is killed, or has found no broker.

    Args:
        folder: where they log.
        environ: their environment.
    """

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self._folder = folder
        self._environ = environ
        self._processes = [self._start(place) for place in range(WORKERS)]

    def kill(self, place: int) -> None:
        """Kills one, and starts it again."""
        self._processes[place].kill()
        self._processes[place].wait()
        self._processes[place] = self._start(place)

    def freeze(self, place: int) -> int:
        """Stops one where it is; returns its process id."""
        self._processes[place].send_signal(signal.SIGSTOP)
        return self._processes[place].pid

    def thaw(self, place: int, pid: int) -> None:
        """Lets it go on, if it is still that one."""
        if self._processes[place].pid == pid:
            self._processes[place].send_signal(signal.SIGCONT)

    def mend(self) -> None:
        """Starts those again that found no broker.

        Raises:
            AssertionError: one has ended for another reason.
        """
        for place, process in enumerate(self._processes):
            code = process.poll()
            if code is not None:
                assert code == UNREACHABLE, f"worker {place} ended with {code}: {self.said(place)}"
                self._processes[place] = self._start(place)

    def end(self) -> None:
        """Lets all end in order."""
        for process in self._processes:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for place, process in enumerate(self._processes):
            code = process.wait(DEADLINE_S)
            fine = (0,) if self._out(place).read_text() else (0, -signal.SIGTERM, UNREACHABLE)  # it was not ready yet
            assert code in fine, f"worker {place} ended with {code}: {self.said(place)}"

    def kill_all(self) -> None:
        """Leaves none running."""
        for process in self._processes:
            process.kill()
            process.wait()

    def said(self, place: int) -> str:
        """The last of what one has logged."""
        return self._log(place).read_text("utf-8", "replace")[-4000:]

    def _log(self, place: int) -> Path:
        return self._folder / f"worker-{place}.log"

    def _out(self, place: int) -> Path:
        return self._folder / f"worker-{place}.out"

    def _start(self, place: int) -> subprocess.Popen[bytes]:
        told = {"address": "chaos.jobs", "concurrency": CONCURRENCY, "log_level": "WARNING"}
        command = [sys.executable, "-m", "wherry_broker.cli.worker_process", json.dumps(told)]
        with self._log(place).open("ab") as log, self._out(place).open("wb") as out:
            return subprocess.Popen(command, env=self._environ, stdin=subprocess.DEVNULL, stdout=out, stderr=log)


class Ordeal:
    """The run.

    Args:
        folder: for the data of the broker, the ledger, and what all log.
        seed: of all that is drawn.
        total: how many calls there are, or a few more.
        faults: how many faults of each kind.

    Attributes:
        ended: the workflows that have ended.
        hurt: how many faults there were, by kind.
        left: what the queues hold in the end that are not empty: ready, delayed, leased and dead.
    """

    def __init__(self, folder: Path, seed: str, total: int, faults: dict[str, int]) -> None:
        draw = random.Random(seed)
        self.flows = draw_flows(draw, total)
        self.total = sum(len(flow.calls) for flow in self.flows)
        self.ended: list[Ended] = []
        self.hurt = dict.fromkeys((BROKER, WORKER, FREEZE), 0)
        self.left: dict[str, tuple[int, int, int, int]] = {}
        self.ledger = Ledger(folder / "ledger")
        self._faults = draw_faults(draw, self.total, WORKERS, faults)
        self._recorder = Recorder(folder / "broker.jsonl")
        self._broker = Broker(folder, folder / "data", self._recorder, "--resume-s", str(RESUME_S))
        self._all_hurt = asyncio.Event()
        path = os.pathsep.join([*(str(ROOT / part) for part in ("client", "broker", "tests"))])
        self._environ = self._broker.environ | {"PYTHONPATH": path, "CHAOS_LEDGER": str(folder / "ledger")}
        self._folder = folder

    def run(self) -> None:
        """Does all workflows, and hurts whom it has to; at the end nothing of it runs any more."""
        self._begin_broker()
        self._workers = Workers(self._folder, self._environ)
        try:
            asyncio.run(self._run())
            self._workers.end()
        finally:
            self._workers.kill_all()
            self._broker.end()
            self._recorder.close()

    def _begin_broker(self) -> None:
        self._broker.begin()
        self._broker.wait_ready()

    async def _run(self) -> None:
        jobs.tasks.url = self._broker.url
        async with jobs.tasks, asyncio.timeout(None) as patience, asyncio.TaskGroup() as group:
            hurting = group.create_task(self._hurt_all(patience))
            slots = asyncio.Semaphore(FLOWS_AT_A_TIME)
            doing = [group.create_task(self._do(flow, slots)) for flow in self.flows]
            await asyncio.gather(*doing)
            await self._all_hurt.wait()
            hurting.cancel()
            rows = await (await jobs.tasks.broker()).queues()
            counts = {row.name: (row.ready, row.delayed, row.leased, row.dead) for row in rows}
            self.left = {name: held for name, held in counts.items() if any(held) and name in jobs.tasks.by_queue()}

    async def _do(self, flow: Drawn, slots: asyncio.Semaphore) -> None:
        async with slots:
            sent = await flow.whole.send()
            name, value, token = await sent.result()
            self.ended.append(Ended(flow, sent.jobs, Given(name, value, tuple(token))))

    async def _hurt_all(self, patience: asyncio.Timeout) -> None:
        """Does the faults as their moments come, and sees that things go on."""
        seen, loop = -1, asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_S)
            self._workers.mend()
            lines = self.ledger.lines()
            if lines > seen:
                seen = lines
                patience.reschedule(loop.time() + STILL_S)
            while self._faults and self._faults[0].at <= lines:
                await self._hurt(self._faults.pop(0))
            if not self._faults:
                self._all_hurt.set()

    async def _hurt(self, fault: Fault) -> None:
        self.hurt[fault.kind] += 1
        if fault.kind == BROKER:
            self._broker.kill()
            await asyncio.to_thread(self._begin_broker)
        elif fault.kind == WORKER:
            self._workers.kill(fault.worker)
        else:
            pid = self._workers.freeze(fault.worker)
            asyncio.get_running_loop().call_later(fault.pause_s, self._workers.thaw, fault.worker, pid)
