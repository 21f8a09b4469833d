"""Which release is running."""

from functools import cache
from importlib import metadata

__all__ = ["version"]


@cache
def version() -> str:
    """The version of the distribution `cognomen`."""
    return metadata.version("cognomen")
