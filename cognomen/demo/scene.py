"""The scene: issuer and attestor in `cognomen dev`, three components with their own interpreters, and the events that they report.

Nothing here signs, attests or verifies: the daemons and the components do that, as real processes. cognomen/demo/transcript puts the events
into words.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Self, TypeVar

import msgspec

from svid.clock import Clock

__all__ = ["AGENT", "DAEMONS", "REPLACED", "REPLACEMENT", "ROLES", "Event", "Scene", "SceneError", "make_interpreter"]

AGENT = "concierge"
DAEMONS = "daemons"
ROLES = (
    "connector",
    "reasoning",
    "orchestrator",
)  # in the order in which they start: each needs the ports of the earlier ones
REPLACED, REPLACEMENT = "connector", "connector-2"

_STOP_SECONDS = 10
_LOOK_UP_SECONDS = 0.5
_GOOD_ENDS = {0, -signal.SIGTERM}  # of components that we stop; the second if they had hardly begun
_TTL = "20s"
_COMMAND_SECONDS = 30

_Answer = TypeVar("_Answer")


class _Entry(msgspec.Struct):
    parent_id: str
    created_at: datetime


class _Entries(msgspec.Struct):
    entries: list[_Entry]


class _Revocation(msgspec.Struct):
    at: datetime


class _Revoked(msgspec.Struct):
    revocation: _Revocation


class _Authority(msgspec.Struct):
    key_id: str
    kind: str
    state: str
    tainted_at: datetime | None = None


class _Authorities(msgspec.Struct):
    authorities: list[_Authority]


class SceneError(Exception):
    """The scene cannot continue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line that a process wrote; `ended` after its last one.

    Units: `at` is a moment of the scene's monotonic clock.
    """

    who: str
    at: float
    name: str
    facts: Mapping[str, str | int]


class Scene:
    """Daemons and components of one run in one directory; leaving the block stops them all, last started first.

    Args:
        directory: short, because Unix socket paths are at most 107 bytes.
        seconds: how long the whole scene may take.
    """

    def __init__(self, directory: Path, clock: Clock, *, seconds: float) -> None:
        self._directory = directory
        self._clock = clock
        self._deadline = clock.monotonic() + seconds
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._stack = ExitStack()
        self._interpreters: dict[str, Path] = {}
        self._components: dict[str, subprocess.Popen[str]] = {}
        self._leaving: set[str] = set()
        self._socket = directory / "api.sock"
        self.log_path = directory / "log"

    def __enter__(self) -> Self:
        self._log: IO[str] = self._stack.enter_context(self.log_path.open("w"))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start_daemons(self) -> None:
        """Make an interpreter for each component, and start issuer and attestor with an entry for each role."""
        arguments: list[str | Path] = [
            "dev",
            "--state",
            self._directory / "state",
            "--socket",
            self._socket,
            f"--x509-ttl={_TTL}",
            f"--jwt-ttl={_TTL}",
        ]
        for who in (*ROLES, REPLACEMENT):
            self._interpreters[who] = make_interpreter(self._directory / who)
        for role in ROLES:
            arguments += [
                "--entry",
                f"/agent/{AGENT}/{role}=unix:uid:{os.getuid()},unix:path:{self._interpreters[role]}",
            ]
        self._start(DAEMONS, [sys.executable, "-m", "cognomen", *arguments])
        self.wait_for(DAEMONS, "SPIFFE_ENDPOINT_SOCKET")

    def start_component(self, who: str, ports: Mapping[str, int]) -> None:
        """Start a component that knows the ports of those that it calls; if its own is among them, it listens there."""
        role = REPLACED if who == REPLACEMENT else who
        arguments = [argument for name, port in ports.items() for argument in ("--port", f"{name}={port}")]
        self._components[who] = self._start(
            who, [self._interpreters[who], "-m", "cognomen.demo.component", role, *arguments]
        )

    def wait_for(self, who: str, name: str) -> Event:
        """The next event of that name; those before it are skipped."""
        while True:
            event = self.next_event()
            if event.who == who and event.name == name:
                return event

    def next_event(self, *, patiently: bool = False) -> Event:
        """The next event of any process; with `patiently`, wait for it without a limit."""
        event = None
        while event is None:  # a signal just before a wait does not end the wait, so no wait is long
            left = _LOOK_UP_SECONDS if patiently else self._deadline - self._clock.monotonic()
            try:
                event = self._events.get(timeout=min(max(left, 0), _LOOK_UP_SECONDS))
            except queue.Empty as e:
                if left <= 0:
                    raise SceneError("timed out") from e
        if event.name == "ended" and not (event.who in self._leaving and event.facts["exit_code"] in _GOOD_ENDS):
            raise SceneError(f"{event.who} ended early, with exit code {event.facts['exit_code']}")
        return event

    def end_components(self) -> Iterator[Event]:
        """Stop the components between two calls, callers first, and yield their remaining events: the last counts."""
        self._deadline = self._clock.monotonic() + _STOP_SECONDS
        for role in reversed(self._components):
            self._leaving.add(role)
            self._components[role].terminate()
            while True:
                event = self.next_event()
                if event.who == role and event.name == "ended":
                    break
                yield event

    def add_identity(self, who: str, path: str) -> datetime:
        """Give a component another identity, as an operator would; returns when the issuer made the entry."""
        (one,) = self._command(_Entries, "entry", "list", f"--spiffe-id=/agent/{AGENT}/{ROLES[-1]}").entries
        selectors = [f"--selector=unix:uid:{os.getuid()}", f"--selector=unix:path:{self._interpreters[who]}"]
        made = self._command(
            _Entries, "entry", "create", f"--spiffe-id={path}", f"--parent={one.parent_id}", *selectors
        )
        return made.entries[0].created_at

    def revoke(self, who: str) -> datetime:
        """Revoke all identities of a component's program, as an operator would; returns when the issuer accepted the command."""
        selector = f"unix:path:{self._interpreters[who]}"
        return self._command(_Revoked, "revoke", "selector", selector, "--reason=privilegeWithdrawn").revocation.at

    def taint(self) -> datetime:
        """Taint the X.509 authority, as an operator would, to replace all that it signed; returns when the issuer accepted the command."""
        found = self._command(_Authorities, "authority", "list").authorities
        key_id = next(one.key_id for one in found if (one.kind, one.state) == ("x509", "active"))
        found = self._command(_Authorities, "authority", "taint", key_id, "--reason=keyCompromise").authorities
        at = next(one.tainted_at for one in found if one.key_id == key_id)
        if at is None:
            raise SceneError("cognomen authority taint: the authority is not tainted")
        return at

    def replace(self, ports: Mapping[str, int]) -> None:
        """Stop the revoked component, and start another program in its place, with its own entry."""
        self.add_identity(REPLACEMENT, f"/agent/{AGENT}/{REPLACED}")
        self._leaving.add(REPLACED)
        _stop(self._components.pop(REPLACED))
        self.start_component(REPLACEMENT, ports)
        self._components = {
            REPLACEMENT: self._components.pop(REPLACEMENT),
            **self._components,
        }  # so that it stops after its callers

    def _command(self, answer: type[_Answer], *arguments: str) -> _Answer:
        socket = self._directory / "state" / "admin" / "issuer.sock"
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-m", "cognomen", *arguments, "--output=json", f"--socket={socket}"],
            stdout=subprocess.PIPE,
            stderr=self._log,
            timeout=_COMMAND_SECONDS,
            check=False,
        )
        if done.returncode:
            raise SceneError(f"cognomen {' '.join(arguments[:2])} failed, with exit code {done.returncode}")
        return msgspec.json.decode(done.stdout, type=answer)

    def _start(self, who: str, arguments: Sequence[str | Path]) -> subprocess.Popen[str]:
        child = subprocess.Popen(  # noqa: S603 - our own programs
            [str(argument) for argument in arguments],
            env={**os.environ, "SPIFFE_ENDPOINT_SOCKET": f"unix://{self._socket}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            process_group=0,  # Ctrl-C goes to the scene, which stops all processes in order
        )
        self._stack.callback(_stop, child)
        threading.Thread(target=self._listen, args=(who, child), daemon=True).start()
        return child

    def _listen(self, who: str, child: subprocess.Popen[str]) -> None:
        for line in child.stdout or ():
            self._events.put(_event(who, self._clock.monotonic(), line))
        at = self._clock.monotonic()
        self._events.put(Event(who=who, at=at, name="ended", facts={"exit_code": child.wait()}))


def _event(who: str, at: float, line: str) -> Event:
    if who == DAEMONS:
        name, _, value = line.strip().partition("=")
        return Event(who=who, at=at, name=name, facts={"value": value})
    facts = json.loads(line)
    return Event(who=who, at=at, name=facts.pop("event"), facts=facts)


def _stop(child: subprocess.Popen[str]) -> None:
    child.terminate()
    try:
        child.wait(timeout=_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def make_interpreter(directory: Path) -> Path:
    """Make a Python with its own executable file, so that `unix:path` differs, and with the import path of this one."""
    venv.EnvBuilder(symlinks=False, with_pip=False).create(directory)
    (packages,) = directory.glob("lib/python3.*/site-packages")
    (packages / "parent.pth").write_text("\n".join(path for path in sys.path if Path(path).is_dir()) + "\n")
    return (directory / "bin" / "python").resolve(strict=True)
