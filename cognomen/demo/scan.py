"""The search for stored secrets at the end of a scene: in its files, and in the environment and the arguments of each of its processes.

A finding names the kind and the place of a secret, never the secret. What is not the agent's is not left out: a private key that is in
the directory of its owner, and closed to others, is counted for that owner. How secrets look: cognomen/demo/shapes.
"""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cognomen.demo.shapes import KEY_KINDS, in_arguments, in_bytes, in_environment

__all__ = ["Finding", "Process", "Scan"]

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Finding:
    """One secret that is stored.

    Attributes:
        where: a file, or a process and the part of it.
    """

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process that is scanned.

    Attributes:
        given: the environment with which it was started.
    """

    who: str
    pid: int
    given: Mapping[str, str] = field(repr=False)


@dataclass(slots=True)
class Scan:
    """What was read so far, and what was found.

    Attributes:
        processes: by their ids.
        owned: how many files with a private key each owner has, where they belong.
        private: processes that let nobody of their own user read their environment; what they were started with was read instead.
        unread: files that could not be read.
    """

    files: int = 0
    processes: set[int] = field(default_factory=set)
    findings: set[Finding] = field(default_factory=set)
    owned: Counter[str] = field(default_factory=Counter)
    private: set[str] = field(default_factory=set)
    unread: set[str] = field(default_factory=set)
    _known: dict[bytes, frozenset[str]] = field(default_factory=dict, repr=False)

    @property
    def is_clean(self) -> bool:
        """Whether there was something to read, all of it was read, and no secret was in it."""
        return self.files > 0 and len(self.processes) > 0 and not self.findings and not self.unread

    def read_files(self, directory: Path, owners: Mapping[str, str]) -> None:
        """Read every file below a directory; what links point to is not read, unless it is below as well.

        Args:
            owners: by the name of a directory directly below, whose private keys belong there.
        """

        def note(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):
                self.unread.add(str(Path(error.filename).relative_to(directory)))

        for folder, _, names in os.walk(directory, onerror=note):
            for name in names:
                self._read_file(Path(folder) / name, directory, owners)

    def _read_file(self, path: Path, directory: Path, owners: Mapping[str, str]) -> None:
        inside = path.relative_to(directory)
        try:
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode):
                return
            kinds = set(self._kinds_in(path.read_bytes()))
        except FileNotFoundError:
            return  # a process has replaced it: those files are there for a moment
        except OSError:
            self.unread.add(str(inside))
            return
        self.files += 1
        owner = owners.get(inside.parts[0])
        is_closed = not stat.S_IMODE(status.st_mode) & 0o077
        if owner is not None and is_closed and kinds & KEY_KINDS:
            self.owned[owner] += 1
            kinds -= KEY_KINDS
        self.findings |= {Finding(where=str(inside), what=kind) for kind in kinds}

    def _kinds_in(self, text: bytes) -> frozenset[str]:
        """The kinds in it; a text that was there before, as each copy of an interpreter is, is not searched again."""
        digest = hashlib.sha256(text).digest()
        if digest not in self._known:
            self._known[digest] = frozenset(in_bytes(text))
        return self._known[digest]

    def read_process(self, process: Process) -> None:
        """Read the environment and the arguments of a process and of all that it started; one that has ended is left out."""
        for pid, depth in _family(process.pid):
            who = process.who if not depth else f"{process.who} (process {pid})"
            try:
                arguments = _strings(pid, "cmdline")
            except OSError:
                continue
            try:
                environment = dict(_pair(text) for text in _strings(pid, "environ"))
            except PermissionError:
                environment = dict(process.given)
                self.private.add(process.who)
            except OSError:
                continue
            self.processes.add(pid)
            self.findings |= {Finding(where=f"arguments of {who}", what=kind) for kind in in_arguments(arguments)}
            self.findings |= {
                Finding(where=f"environment of {who}: {name}", what=kind) for name, kind in in_environment(environment)
            }


def _strings(pid: int, name: str) -> list[str]:
    text = (_PROC / str(pid) / name).read_bytes()
    return [os.fsdecode(one) for one in text.removesuffix(b"\0").split(b"\0")] if text else []


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _family(pid: int) -> Iterator[tuple[int, int]]:
    """A process and its descendants, each with its distance."""
    parents: dict[int, int] = {}
    for path in _PROC.glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text(errors="replace").rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {pid: 0}
    while more := {
        child: found[parent] + 1 for child, parent in parents.items() if parent in found and child not in found
    }:
        found |= more
    yield from found.items()
