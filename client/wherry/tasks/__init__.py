"""Tasks: functions whose calls become jobs, done by workers elsewhere."""

from wherry.model.options import Retry
from wherry.tasks.context import Context, current
from wherry.tasks.function import BadArguments
from wherry.tasks.handle import Handle, SyncHandle
from wherry.tasks.policy import Reject, RetryLater
from wherry.tasks.registry import Tasks
from wherry.tasks.task import AsyncTask, Continuation, Signature, SyncTask, Task
from wherry.tasks.worker import Worker
from wherry.tasks.workflow import Chain, Flow, SyncFlow, chain, chord, group

__all__ = [
    "AsyncTask",
    "BadArguments",
    "Chain",
    "Context",
    "Continuation",
    "Flow",
    "Handle",
    "Reject",
    "Retry",
    "RetryLater",
    "Signature",
    "SyncFlow",
    "SyncHandle",
    "SyncTask",
    "Task",
    "Tasks",
    "Worker",
    "chain",
    "chord",
    "current",
    "group",
]
