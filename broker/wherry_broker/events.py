"""What the broker's log calls the things that happen: one name each, so that a search for it finds all of them."""

from __future__ import annotations

STARTED = "broker_started"
NOTICE = "notice"
DRAINING = "broker_draining"
DRAIN_TIMED_OUT = "drain_timed_out"
STOPPED = "broker_stopped"
FORCED = "broker_stopped_at_once"
LOG_READ = "log_read"
LOG_TORN = "log_torn_tail_cut"
LOG_DAMAGED = "log_damaged"
LOG_LOST = "log_messages_lost"
LOG_REPAIRED = "log_repaired"
LOG_CLOSED = "log_closed"
LOG_FAILED = "log_failed"
BROKEN = "broker_broken"
CALLBACK_FAILED = "callback_failed"
