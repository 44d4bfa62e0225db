"""The command line. `main` runs with nothing installed but the client; everything else needs `wherry[server]`."""

from __future__ import annotations

import importlib.util
import os
import sys

NEEDED = ("click", "structlog")


def main() -> None:
    """Runs the command line, and ends the process with its exit code."""
    _open_missing_files()
    if any(importlib.util.find_spec(name) is None for name in NEEDED):
        print("wherry: the command line needs more than the client: pip install 'wherry[server]'", file=sys.stderr)  # noqa: T201 (a command line prints)
        sys.exit(2)
    from wherry_broker.cli import root  # noqa: PLC0415 (needs click)

    sys.exit(root.run(sys.argv[1:]))


def _open_missing_files() -> None:
    """Puts something in the place of standard files that are closed, as by `>&-`.

    Else the first socket would get the number of one, which the event loop does not survive. An input that is closed
    cannot be read, and an output not be written: that is an error, and no empty message and no message lost.
    """
    for number, name, access, mode in (
        (0, "stdin", os.O_WRONLY, "r"),
        (1, "stdout", os.O_RDONLY, "w"),
        (2, "stderr", os.O_WRONLY, "w"),
    ):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, access), number)
            setattr(sys, name, os.fdopen(number, mode))
