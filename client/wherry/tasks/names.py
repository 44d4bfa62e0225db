"""The headers of a job's message. protocol.md does not know them: they are between sender and worker."""

from __future__ import annotations

TASK_HEADER = "task"
DEADLINE_HEADER = "deadline"
"""When the job is wanted no more, in seconds since 1970."""
PARENT_HEADER = "parent"
"""The id of the job that has sent this one."""
