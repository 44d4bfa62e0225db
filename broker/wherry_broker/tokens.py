"""The file that holds a token, for those who show one and for those who ask for it."""

from __future__ import annotations

from pathlib import Path


class TokenFileError(Exception):
    """A token cannot be had from its file; the text names the file and says why."""


def read_token(path: str) -> str:
    """The token that a file holds, without the line end.

    Raises:
        TokenFileError: the file cannot be read, or holds none.
    """
    try:
        token = Path(path).read_text("utf-8")
    except OSError as error:
        raise TokenFileError(f"token file {path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise TokenFileError(f"token file {path} is not UTF-8 text") from None
    token = token.removesuffix("\n").removesuffix("\r")
    if not token:
        raise TokenFileError(f"token file {path} is empty")
    return token
