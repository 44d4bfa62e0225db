"""Effects of tasks, outside of any broker: a file that is only appended to, and the fencing that its reader does.

An effect is one line. The order of the lines is the order in which effects came, whatever has become of the processes
that they came from; so a reader that takes them in turn refuses just what a store would have refused: an effect whose
fencing token is lower than one that it has seen for the same job.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class Given(NamedTuple):
    """A result that a job was called with: of which call, its value, and the token of the attempt that it came from."""

    name: str
    value: int
    token: tuple[int, int]


class Effect(NamedTuple):
    """What one attempt of a job has done.

    Attributes:
        name: the call, as the workflow names it.
        job: the job's id.
        token: the attempt's fencing token: epoch and attempt.
        value: what comes of it.
        before: what it was called with.
    """

    name: str
    job: str
    token: tuple[int, int]
    value: int
    before: tuple[Given, ...]


class Ledger:
    """The file.

    Args:
        path: where it is; made when it is not there.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = path
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_RDWR, 0o644)

    def add(self, effect: Effect) -> None:
        """Appends an effect, by one call of the system."""
        os.write(self._file, b"\n" + json.dumps(effect, separators=(",", ":")).encode() + b"\n")

    def lines(self) -> int:
        """About how many effects there are."""
        size = os.fstat(self._file).st_size
        return os.pread(self._file, size, 0).count(b"]\n")

    def read(self) -> list[Effect]:
        """All effects, in the order in which they came; a line that a kill has torn is none."""
        size = os.fstat(self._file).st_size
        effects = (_effect(line) for line in os.pread(self._file, size, 0).splitlines() if line)
        return [effect for effect in effects if effect is not None]

    def close(self) -> None:
        """Closes it."""
        os.close(self._file)


def _effect(line: bytes) -> Effect | None:
    try:
        name, job, token, value, before = json.loads(line)
    except json.JSONDecodeError:
        return None
    return Effect(name, job, _token(token), value, tuple(Given(n, v, _token(t)) for n, v, t in before))


def _token(pair: Iterable[int]) -> tuple[int, int]:
    epoch, attempt = pair
    return epoch, attempt


class Fenced(NamedTuple):
    """What a store has that refuses stale effects.

    Attributes:
        stands: the last effect of each job that was let in.
        refused: those that were not.
    """

    stands: dict[str, Effect]
    refused: list[Effect]


def fence(effects: Iterable[Effect]) -> Fenced:
    """Lets in the effects whose token is not lower than one that was seen for the same job."""
    found = Fenced({}, [])
    for effect in effects:
        last = found.stands.get(effect.job)
        if last is not None and effect.token < last.token:
            found.refused.append(effect)
        else:
            found.stands[effect.job] = effect
    return found
