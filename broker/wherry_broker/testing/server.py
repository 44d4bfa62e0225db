"""`wherry serve` in a process of its own, on a free port."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

END_S = 60.0
"""How long a server may take to end, before it is killed."""
READY = "wherry ready on "


class Server:
    """A broker that runs, for tests.

    ::

        with Server("--durability", "written", data=tmp_path) as server:
            run(my_app, broker_url=server.url)

    Args:
        options: of `wherry serve`, such as "--durability", "written".
        data: where to keep the log; None to keep it in memory.
        environ: the environment of the process, such as `WHERRY_TOKEN`; that of this one, without anything that is
            wherry's own, when not given.
        log: where its standard error goes; None for a file that is gone with it.

    Attributes:
        process: the process.
        port: where it listens, on 127.0.0.1.
        url: the same, for `wherry.connect`.

    Raises:
        RuntimeError: it did not start; the text says what it said.
    """

    def __init__(
        self,
        *options: str,
        data: Path | str | None = None,
        environ: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> None:
        self._options = [*options, *(("--data", str(data)) if data is not None else ())]
        self._environ = environ
        self._folder = mkdtemp(prefix="wherry-") if log is None else ""
        self._log = Path(self._folder, "log") if log is None else log
        self.port = 0
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "wherry_broker.cli", "serve", "--port", str(self.port), *self._options]
        environ = _without_settings(os.environ) if self._environ is None else self._environ
        with self._log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 (no shell, and its own program)
                command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
            )
        assert process.stdout is not None
        ready = process.stdout.readline().decode()
        if not ready.startswith(READY):
            process.kill()
            process.communicate()
            raise RuntimeError(f"no broker has started: {self.log_text()}")
        self.port = int(ready.rpartition(":")[2])
        return process

    @property
    def url(self) -> str:
        """Where it is, for `wherry.connect`."""
        return f"wherry://127.0.0.1:{self.port}"

    def log_text(self) -> str:
        """What it has said on standard error."""
        return self._log.read_text("utf-8", errors="replace")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ends it, by SIGTERM in order; returns its exit code. More than once does no harm."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(END_S)
        finally:
            self.process.kill()
            self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()

    def kill(self) -> None:
        """Ends it as a crash does."""
        self.stop(signal.SIGKILL)

    def restart(self) -> None:
        """Starts it again on the same port, after `stop` or `kill`; what its log has is there again."""
        self.stop()
        self.process = self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._folder:
            shutil.rmtree(self._folder)


def _without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if not name.startswith("WHERRY_")}
