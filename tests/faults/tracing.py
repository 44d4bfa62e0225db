"""Running a broker under strace: what it asks of the kernel for its log, and one of these calls made to fail.

strace counts the calls of each thread and of each name apart. A broker reads its log and begins the next segment in its
main thread (`Traced`), and writes it in a thread of its own, to which strace is attached once the broker is ready
(`attached`), so that a fault can be put to every call of either.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from installing import plain_environ, skip_loudly
from serving import DEADLINE_S, CommandLine

if TYPE_CHECKING:
    from collections.abc import Iterator

OPENING = ("mkdir", "openat", "getdents64", "pread64", "flock", "statfs")
CHANGING = ("write", "writev", "pwrite64", "fallocate", "ftruncate", "fdatasync", "fsync")
NAMING = ("rename", "renameat", "renameat2", "unlink", "unlinkat")
CALLS = (*OPENING, *CHANGING, *NAMING)
"""The calls by which a broker touches its data directory."""
SEGMENTS_MAX = 60


class Fault(NamedTuple):
    """What happens instead of the Nth call of a name in one thread; `what` is an errno's name, or KILL."""

    call: str
    what: str
    when: int

    @property
    def option(self) -> str:
        """As strace takes it."""
        how = "signal=KILL" if self.what == "KILL" else f"error={self.what}"
        return f"inject={self.call}:{how}:when={self.when}"

    def __str__(self) -> str:
        return f"{self.what} at {self.call} {self.when}"


def number_of(what: str) -> int:
    """The number of an error by its name."""
    number: int = getattr(errno, what)
    return number


def need_strace() -> None:
    """Installs strace, or skips the test, loudly, where that cannot be."""
    need_program("strace", "strace")
    done = subprocess.run(["strace", "-o", os.devnull, "true"], check=False, capture_output=True, text=True)
    if done.returncode:
        skip_loudly(f"strace does not work here: {done.stderr.strip()}")


def need_program(program: str, package: str) -> None:
    """Installs a Debian package when its program is not there, or skips the test, loudly, where that cannot be."""
    if shutil.which(program):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        skip_loudly(f"{program} is not there, and this user cannot install the package {package}")
    environ = {**plain_environ(), "DEBIAN_FRONTEND": "noninteractive"}
    command = f"apt-get install -y {package} || (apt-get update && apt-get install -y {package})"
    done = subprocess.run(["sh", "-c", command], check=False, env=environ, capture_output=True, text=True, timeout=300)
    if not shutil.which(program):
        skip_loudly(f"the package {package} cannot be installed: {done.stderr.strip().splitlines()[-1:]}")


def paths(data: Path) -> list[str]:
    """Every file that the log in a directory may consist of: strace takes no patterns."""
    names = [f"{number:016d}.log" for number in range(1, SEGMENTS_MAX)]
    return [str(data), *(str(data / name) for name in ("lock", "reserve", *names, *(f"{name}.tmp" for name in names)))]


def _options(data: Path, trace: Path, fault: Fault | None) -> list[str]:
    options = ["strace", "-q", "-y", "-o", str(trace), "-e", f"trace={','.join(CALLS)}"]
    for path in paths(data):
        options += ["-P", path]
    return [*options, *(("-e", fault.option) if fault else ())]


class Call(NamedTuple):
    """A call in a trace; `path` is the first file that it names, and `result` -1 for an error."""

    thread: str
    name: str
    path: str
    result: int
    faulted: bool


def read_trace(trace: Path) -> list[Call]:
    """The calls that a trace tells of, in order; those that another thread came between are put together again."""
    calls: list[Call] = []
    begun: dict[str, str] = {}
    for line in trace.read_text("utf-8", "replace").splitlines():
        thread, text = re.match(r"(\d+ +)?(.*)", line).groups("")
        if text.endswith("<unfinished ...>"):
            begun[thread] = text
            continue
        if text.startswith("<... "):
            text = begun.pop(thread) + text
        call = re.match(r"(\w+)\(", text)
        if call:
            path = re.search(r"[<\"](/[^>\"]*)", text)
            result = re.search(r"\) += (-?\d+)", text)
            number = int(result[1]) if result else -1
            calls.append(Call(thread, call[1], path[1] if path else "", number, "(INJECTED)" in text))
    return calls


def counts(calls: list[Call]) -> Counter[str]:
    """How often each call was made by the thread that made it most often: as far as strace counts."""
    result: Counter[str] = Counter()
    for (_, name), count in Counter((call.thread, call.name) for call in calls).items():
        result[name] = max(result[name], count)
    return result


class Broker(CommandLine):
    """A broker that may be faulted, in an environment in which `wherry` speaks to it.

    Args:
        folder: where its files go: the program, what it logs, traces.
        data: its data directory.
        options: further ones of `wherry serve`.
        fault: what happens to its main thread while it starts; None for nothing, and for no strace.
        traced: whether its calls are written down while it starts.
        prefix: a program that runs it, such as prlimit.
    """

    def __init__(
        self,
        folder: Path,
        data: Path,
        *options: str,
        fault: Fault | None = None,
        traced: bool = False,
        prefix: tuple[str, ...] = (),
    ):
        super().__init__(folder)
        self.data = data
        self.trace = folder / "trace"
        self.log = folder / "broker.log"
        command = [str(self.program), "serve", "--port", "0", "--data", str(data), "--log-format", "json", *options]
        command = [*prefix, *command]
        if traced or fault:
            # -D: the broker is the child of this process, and strace is not in between.
            command = [*_options(data, self.trace, fault), "-f", "-D", *command]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, env=self.environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
            )
        assert self.process.stdout is not None
        ready = self.process.stdout.readline().decode()
        self.port = int(ready.rpartition(":")[2]) if ready else 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"wherry://127.0.0.1:{self.port}"

    def events(self) -> Counter[str]:
        """How often it logged each thing."""
        return Counter(json.loads(line)["event"] for line in self.said().splitlines() if line.startswith("{"))

    def said(self) -> str:
        """All that it logged."""
        return self.log.read_text("utf-8")

    def wait(self) -> int:
        """Its exit code, once it has ended by itself."""
        try:
            return self.process.wait(DEADLINE_S)
        finally:
            self.kill()

    def stop(self) -> int:
        """Ends it in order; returns its exit code."""
        self.process.terminate()
        return self.wait()

    def kill(self) -> None:
        """Ends it at once."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def writer_of(process: int) -> int:
    """The thread of a broker that writes its log: the first one that it starts."""
    threads = sorted(int(entry.name) for entry in Path(f"/proc/{process}/task").iterdir())
    assert threads[0] == process
    return threads[1]


@contextmanager
def attached(broker: Broker, fault: Fault | None) -> Iterator[None]:
    """Puts a fault to the thread that writes the log, from now on; its trace is whole when the broker has ended."""
    broker.trace.unlink(missing_ok=True)
    command = [*_options(broker.data, broker.trace, fault), "-p", str(writer_of(broker.process.pid))]
    command.remove("-q")  # it says when it is attached
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        try:
            said = strace.stderr.readline()
            if "attached" not in said:
                skip_loudly(f"strace cannot attach to a thread here: {said.strip()}")
            yield
        finally:
            deadline = time.monotonic() + DEADLINE_S
            if broker.process.poll() is None:
                strace.terminate()
            strace.wait(max(0.1, deadline - time.monotonic()))


def note(text: str) -> None:
    """Tells a figure at once; `-rP`, or a failure, shows it."""
    print(text, flush=True)  # noqa: T201 (what a test measured is for people to read)
