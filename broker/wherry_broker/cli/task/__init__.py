"""`wherry task`: the tasks of an application, and single jobs of theirs."""

from __future__ import annotations

from wherry_broker.cli.root import LazyGroup


class TaskGroup(LazyGroup):
    """The commands of `wherry task`."""

    package = "wherry_broker.cli.task"
    lazy = {  # noqa: RUF012 (never changed)
        "list": "The tasks of an application: their queues, what waits, runs or is dead, and options.",
        "jobs": "The jobs that a queue holds: of which tasks, and with what arguments.",
        "send": "Have a task done by a worker.",
        "status": "Show how a job stands, or how it ended.",
        "result": "Print what a job returned.",
        "cancel": "Cancel jobs, whether they wait or run.",
    }


command = TaskGroup(
    "task",
    short_help="List, send, look at or cancel jobs of an application's tasks.",
    help="List, send, look at or cancel jobs of an application's tasks. `wherry worker` does them.",
)
