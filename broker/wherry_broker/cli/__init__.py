"""The command line. `main` runs with nothing installed but the client; everything else needs `wherry[server]`."""

from __future__ import annotations

import importlib.util
import sys

NEEDED = ("click", "structlog")


def main() -> None:
    """Runs the command line, and ends the process with its exit code."""
    if any(importlib.util.find_spec(name) is None for name in NEEDED):
        print("wherry: the command line needs more than the client: pip install 'wherry[server]'", file=sys.stderr)  # noqa: T201 (a command line prints)
        sys.exit(2)
    from wherry_broker.cli import root  # noqa: PLC0415 (needs click)

    sys.exit(root.run(sys.argv[1:]))
