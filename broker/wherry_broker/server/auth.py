"""Who may come in."""

from __future__ import annotations

import hashlib
import hmac


class TokenAuth:
    """One bearer token for all.

    Only the token's SHA-256 is kept, and digests are compared in constant time: neither the length nor a matching
    prefix of a guess shows in how long the answer takes.

    Args:
        token: what clients must show; "" lets everyone in.
    """

    def __init__(self, token: str) -> None:
        self.required = bool(token)
        self._digest = _digest(token)

    def accepts(self, token: str) -> bool:
        """Whether a client that shows `token` may come in."""
        return hmac.compare_digest(_digest(token), self._digest) or not self.required


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
