"""Which executables that rules name are links on this machine: of a process that was started by a link, the kernel shows where it leads."""

from collections.abc import Iterable, Mapping
from os.path import realpath

from cognomen.protocol.selector import Selector

__all__ = ["links_of"]

_PATH = "path:"


def links_of(selectors: Iterable[Selector]) -> Mapping[str, str]:
    """The paths in these selectors that are links, or lead through one, and what is there; not those that we cannot look at."""
    paths = {one.value.removeprefix(_PATH) for one in selectors if one.type == "unix" and one.value.startswith(_PATH)}
    return {path: target for path in paths if (target := _target(path)) not in {"", path}}


def _target(path: str) -> str:
    try:
        return realpath(path, strict=True)
    except OSError:  # it is not there, it is a loop, or we may not look
        return ""
