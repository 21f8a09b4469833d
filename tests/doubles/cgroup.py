"""A workload attestor of another package: in which control group of the kernel's a caller runs, as whoever launched it chose.

It stands for attestors that look at containers and units.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from cognomen.daemon.plugins import Plugin
from cognomen.gate.caller import Caller
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.selector import Selector, SelectorError
from svid.clock import Clock

__all__ = ["PLUGIN", "CgroupAttestor", "CgroupSettings"]


class CgroupSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What it is told.

    Args:
        proc: where the kernel tells of processes.
    """

    proc: Path = Path("/proc")


class CgroupAttestor:
    """Vouches for the control group, `cgroup:path:/...`."""

    def __init__(self, settings: CgroupSettings) -> None:
        self._proc = settings.proc

    @property
    def name(self) -> str:
        return "cgroup"

    async def attest(self, caller: Caller, *, needed: Collection[str]) -> frozenset[Selector]:
        found = self._path(caller) if "cgroup:path" in needed else ""
        if not caller.is_alive():  # after the look: so what was seen is this process's
            raise _gone(caller)
        try:
            return frozenset({Selector("cgroup", f"path:{found}")} if found else ())
        except SelectorError:  # a path that no selector can hold matches no entry
            return frozenset()

    async def unseen(self, caller: Caller, *, needed: Collection[str]) -> Sequence[str]:
        if "cgroup:path" in needed and not self._path(caller):
            return ["cgroup:path: the kernel tells of no control group of version 2"]
        return []

    def _path(self, caller: Caller) -> str:
        try:
            lines = (self._proc / str(caller.pid) / "cgroup").read_text().splitlines()
        except OSError as e:
            raise _gone(caller) from e
        return next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "")


def _gone(caller: Caller) -> Refused:
    return Refused(
        Kind.UNAUTHENTICATED,
        "caller: the process that connected has ended",
        pid=caller.pid,
        uid=caller.uid,
    )


def _made(settings: CgroupSettings, _: Clock) -> CgroupAttestor:
    return CgroupAttestor(settings)


PLUGIN: Plugin[CgroupSettings, Clock, CgroupAttestor] = Plugin(CgroupSettings, _made)
