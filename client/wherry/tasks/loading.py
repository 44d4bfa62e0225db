"""Finding the tasks of an application by their address, such as `myapp.mail:tasks`."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from wherry.tasks.registry import Tasks


class NoTasks(Exception):
    """There are no tasks at an address; the text says why."""


def load(address: str) -> Tasks:
    """The tasks at an address.

    Args:
        address: a module, and the name that its `Tasks` has there (`tasks` when not given), with a colon between.

    Raises:
        NoTasks: there is no such module, or nothing of that name, or that is none.
    """
    module, _, name = address.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # as `python -m` does: what stands in the folder that one is in can be imported
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and not module.startswith(error.name):
            raise  # the module is there, and misses another one: its traceback says which
        raise NoTasks(f"there is no module {module!r} here, or in what is installed") from None
    holder = found
    for each in (name or "tasks").split("."):
        if not hasattr(found, each):
            raise NoTasks(f"{module!r} has no {name or 'tasks'!r}{_instead(module, holder)}")
        found = getattr(found, each)
    if not isinstance(found, Tasks):
        what = f"{address!r} is not a wherry.tasks.Tasks but of the type {type(found).__name__}"
        raise NoTasks(f"{what}{_instead(module, holder)}")
    return found


def _instead(module: str, holder: Any) -> str:
    """What may have been meant."""
    names = [name for name, value in vars(holder).items() if isinstance(value, Tasks)]
    return f"; there is {' and '.join(f'{module}:{name}' for name in names)}" if names else ""
