"""Where a broker is: the URL."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote, urlsplit

DEFAULT_PORT = 7117
_QUOTE = "In a token, / ? # and @ are written %2F %3F %23 and %40"


class Address(NamedTuple):
    """A broker's address, and the token if the URL holds one."""

    host: str
    port: int
    token: str = ""


def parse_url(url: str) -> Address:
    """The parts of `wherry://[user:token@]host[:port]`.

    Raises:
        ValueError: it is not such a URL; the text says what is wrong, and never shows the token.
    """
    scheme, found, _ = url.partition("://")
    if scheme.lower() != "wherry" or not found:
        raise ValueError(f"a broker's URL begins with wherry://{f', not with {scheme[:40]}://' if found else ''}")
    try:
        parts = urlsplit(url)
    except ValueError:  # its text may show all that stands before the host
        raise ValueError("a broker's URL is wherry://host:port; the host of this one makes no sense") from None
    try:
        port = parts.port
    except ValueError:  # a token with a / in it ends up here
        raise ValueError(f"the port of a broker's URL is a number of at most 65535. {_QUOTE}") from None
    if not parts.hostname or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError(f"a broker's URL is wherry://host:port, and nothing after it. {_QUOTE}")
    return Address(parts.hostname, DEFAULT_PORT if port is None else port, unquote(parts.password or ""))


def parse_urls(url: str) -> tuple[Address, ...]:
    """The addresses of `wherry://[user:token@]host[:port],host[:port],...`, which share the token.

    Raises:
        ValueError: it is not such a URL; the text says what is wrong, and never shows the token.
    """
    scheme, found, rest = url.partition("://")
    token, at, hosts = rest.rpartition("@")
    return tuple(parse_url(f"{scheme}{found}{token}{at}{host}") for host in hosts.split(","))
