"""The headers of a job's message. protocol.md does not know them: they are between sender and worker."""

from __future__ import annotations

TASK_HEADER = "task"
DEADLINE_HEADER = "deadline"
"""When the job is wanted no more, in seconds since 1970."""
GATE_HEADER = "gate"
"""The gate at which this job waited for others, whose results it is called with; empty for no results."""
LIST_HEADER = "list"
"""Whether these results are a list although there is one only: it waited for a group."""
LATER_HEADER = "later"
"""The places, among these results, of jobs that did not wait themselves: they were published after those that did, and
those that did from the last one on. Packed; it is not there when none waited."""
PARENT_HEADER = "parent"
"""The id of the job that has sent this one."""
