"""How a message stands, in one line."""

from __future__ import annotations

import pytest

from wherry.model.status import Status
from wherry_broker.cli.waiting import standing


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (Status("mail/1", "ready", "no consumer is attached"), "mail/1: no consumer is attached"),
        (Status("mail/1", "ready", "it is next", starts_in=3.4), "mail/1: it is next, it may start in 3 s"),
        (Status("mail/1", "leased", "it is leased to w"), "mail/1: it is leased to w"),
        (Status("mail/1", "leased", "x", progress=0.5, note="half"), f"mail/1 [{'#' * 15}{'.' * 15}]  50% half"),
        (Status("mail/1", "leased", "x", progress=0.0, attempts=2), f"mail/1 [{'.' * 30}]   0%  (attempt 2)"),
        (Status("mail/1", "delayed", "it is delayed", progress=0.5), "mail/1: it is delayed"),
    ],
)
def test_how_a_message_stands(status, line):
    assert standing(status) == line
