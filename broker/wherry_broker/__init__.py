"""The wherry broker."""

from __future__ import annotations


def version() -> str:
    """The version of the installed package; "dev" for a checkout that is not installed."""
    from importlib import metadata  # noqa: PLC0415 (slow to import, and rarely asked for)

    try:
        return metadata.version("wherry")
    except metadata.PackageNotFoundError:
        return "dev"
