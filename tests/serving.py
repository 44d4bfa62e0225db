"""What tests share that run the command line as a user does: `wherry` by its name, and a broker on a free port."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import IO, TYPE_CHECKING, Any, Self

from installing import ROOT, plain_environ
from wherry_broker.testing import Server

if TYPE_CHECKING:
    from pathlib import Path

DEADLINE_S = 60
"""After how long whatever a test waits for has failed."""


class CommandLine:
    """`wherry`, the one of this checkout, in an environment that nothing else is set in.

    Args:
        folder: where to put the program that is found on PATH.
        environ: further variables.
    """

    def __init__(self, folder: Path, **environ: str) -> None:
        self.program = folder / "wherry"
        self.program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m wherry_broker.cli "$@"\n', "utf-8")
        self.program.chmod(0o755)
        plain = plain_environ()
        sources = os.pathsep.join(str(ROOT / name) for name in ("client", "broker"))
        path = f"{folder}{os.pathsep}{plain['PATH']}"
        self.environ = {**plain, "PATH": path, "PYTHONPATH": sources, **environ}

    def start(self, *arguments: str, environ: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[bytes]:
        """Begins a command; what it reads and writes are pipes, unless `options` of Popen say otherwise."""
        pipes: dict[str, int | IO[bytes]] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen([self.program, *arguments], env=self.environ | (environ or {}), **{**pipes, **options})

    def run(
        self, *arguments: str, stdin: bytes | int = b"", environ: dict[str, str] | None = None, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end, with what it reads, or a file descriptor; what it wrote comes as text."""
        if isinstance(stdin, int):
            options["stdin"], stdin = stdin, b""
        with self.start(*arguments, environ=environ, **options) as process:
            try:
                out, err = process.communicate(stdin or None, DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(arguments, process.returncode, (out or b"").decode(), (err or b"").decode())

    def out(self, *arguments: str, stdin: bytes = b"") -> str:
        """The standard output of a command that has to work."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def sh(self, script: str) -> str:
        """The standard output of a script that has to work."""
        command = ["bash", "-euo", "pipefail", "-c", script]
        done = subprocess.run(
            command, check=False, env=self.environ, capture_output=True, text=True, timeout=DEADLINE_S
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


class Served(CommandLine):
    """A broker on a free port, and an environment in which `wherry` speaks to it.

    Args:
        folder: where its standard error goes, as `broker.log`, and the program `wherry`.
        options: of `wherry serve`.
        environ: further variables, for the broker and for all commands.
    """

    def __init__(self, folder: Path, *options: str, **environ: str) -> None:
        super().__init__(folder, **environ)
        self.log = folder / "broker.log"
        self._server = Server(*options, environ=self.environ, log=self.log)
        self.process, self.port, self.url = self._server.process, self._server.port, self._server.url
        self.environ["WHERRY_URL"] = self.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        code = self.stop()
        if kind is None:
            assert code == 0, f"the broker does not end well: {self.log.read_text('utf-8')}"

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ends the broker; returns its exit code."""
        return self._server.stop(number)
