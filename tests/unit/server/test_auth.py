from __future__ import annotations

import pytest

from wherry_broker.server.auth import TokenAuth


@pytest.mark.parametrize("token", ["", "anything", "\ud800", "x" * 1024])
def test_without_a_token_everyone_comes_in(token):
    auth = TokenAuth("")
    assert not auth.required
    assert auth.accepts(token)


@pytest.mark.parametrize(
    ("token", "accepted"),
    [("s3cret", True), ("", False), ("s3cre", False), ("s3cret ", False), ("S3CRET", False), ("\ud800", False)],
)
def test_with_a_token_only_its_bearer_comes_in(token, accepted):
    auth = TokenAuth("s3cret")
    assert auth.required
    assert auth.accepts(token) is accepted


def test_a_token_beyond_ascii():
    assert TokenAuth("clé-ключ").accepts("clé-ключ")


def test_the_token_itself_is_not_kept():
    assert "s3cret" not in repr(vars(TokenAuth("s3cret")))
