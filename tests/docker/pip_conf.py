"""Prints this machine's pip settings as one pip.conf, and to a file the local paths that they name.

pip inside the build of an image must find packages as pip outside does: the same index, proxy and certificates.
"""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

SETTING = re.compile(r"(?:[\w-]+|:env:)\.([\w-]+)='(.*)'")


def settings() -> dict[str, str]:
    """pip's settings by name; what the environment says comes last and wins."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    lines.sort(key=lambda line: line.startswith(":env:"))
    return {match[1]: match[2] for line in lines if (match := SETTING.fullmatch(line))}


def local_paths(value: str) -> list[Path]:
    """The files and folders of this machine that a setting names, by path or file URL.

    The pages of an index that is a file URL may link to files beside it, so the folder that it is in comes along.
    """
    found = []
    for name in value.split():
        path = Path(unquote(urlsplit(name).path) if name.startswith("file:") else name)
        if path.is_absolute() and path.exists():
            around = path.resolve().parent
            found.append(around if name.startswith("file:") and around != Path("/") else path)
    return found


def main() -> None:
    """Writes the settings to standard output, and the paths to the file that the first argument names."""
    found = settings()
    parser = configparser.RawConfigParser()
    parser["global"] = {name: value.replace("\\n", "\n") for name, value in found.items()}
    parser.write(sys.stdout)
    paths = sorted({path for value in found.values() for path in local_paths(value.replace("\\n", " "))})
    Path(sys.argv[1]).write_text("".join(f"{path}\n" for path in paths), "utf-8")


if __name__ == "__main__":
    main()
