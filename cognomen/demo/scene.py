"""The scene: issuer and attestor in `cognomen dev`, three components with their own interpreters, the double of a model, and their events.

Nothing here signs, attests or verifies: the daemons and the components do that, as real processes. cognomen/demo/transcript puts the events
into words.
"""

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from cognomen.demo.model import Rule
from cognomen.demo.operator import Operator
from cognomen.demo.scan import Process
from cognomen.demo.webauthority import WebAuthority
from svid.clock import Clock

__all__ = [
    "AGENT",
    "DAEMONS",
    "MODEL",
    "OWNERS",
    "REPLACED",
    "REPLACEMENT",
    "ROLES",
    "Event",
    "Scene",
    "SceneError",
    "make_interpreter",
]

AGENT = "concierge"
DAEMONS, MODEL = "daemons", "model"
ROLES = (
    "connector",
    "reasoning",
    "orchestrator",
)  # in the order in which they start: each needs the ports of the earlier ones
REPLACED, REPLACEMENT = "connector", "connector-2"
THINKER = "reasoning"
OWNERS: Mapping[str, str] = {"state": "the issuer and the attestor", "web": "the HTTPS servers"}
"""Whose the directories of a scene are that are not the agent's."""

_STOP_SECONDS = 15
_LOOK_UP_SECONDS = 0.5
_GOOD_ENDS = {0, -signal.SIGTERM}  # of components that we stop; the second if they had hardly begun
_TTL = "20s"
_TRUST_DOMAIN = "example.org"
_PASSED = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH")  # of our own environment, which may hold keys


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
        self.directory = directory
        self._clock = clock
        self._deadline = clock.monotonic() + seconds
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._stack = ExitStack()
        self._environments: dict[str, Mapping[str, str]] = {}
        self._interpreters: dict[str, Path] = {}
        self._components: dict[str, subprocess.Popen[str]] = {}
        self._leaving: set[str] = set()
        self._socket = directory / "api.sock"
        self._children: dict[str, subprocess.Popen[str]] = {}
        self.log_path = directory / "log"

    def __enter__(self) -> Self:
        self._log: IO[str] = self._stack.enter_context(self.log_path.open("w"))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start_daemons(self) -> None:
        """Make an interpreter for each component, start issuer and attestor without any entry, and the double of a model.

        The issuer serves its keys over HTTPS at a URL, which is all that the double knows of it.
        """
        web = self.directory / "web"
        web.mkdir(mode=0o700)
        authority = WebAuthority(web, self._clock)
        port = self._stack.enter_context(_kept_port())
        issuer, identity = f"https://localhost:{port}", authority.certify("issuer")
        self._trust = authority.path
        self._rule = Rule(issuer=issuer, subject=f"spiffe://{_TRUST_DOMAIN}/agent/{AGENT}/{THINKER}")
        arguments: list[str | Path] = [
            "dev",
            "--state",
            self.directory / "state",
            "--socket",
            self._socket,
            f"--x509-ttl={_TTL}",
            f"--jwt-ttl={_TTL}",
            f"--trust-domain={_TRUST_DOMAIN}",
            f"--jwt-issuer={issuer}",
            f"--web-address=127.0.0.1:{port}",
            f"--web-certificate-file={identity}",
            f"--web-key-file={identity}",
            "--no-entry",
        ]
        for who in (*ROLES, REPLACEMENT):
            self._interpreters[who] = make_interpreter(self.directory / who)
        self.operator = Operator(
            directory=self.directory,
            environment=self._environment({}),
            words={"unix:uid:1001": f"unix:uid:{os.getuid()}"}
            | {_path_in_rules(role): self.path_selector(role) for role in ROLES},
            log=self._log,
        )
        self._start(DAEMONS, [sys.executable, "-m", "cognomen", *arguments], {})
        self._components[MODEL] = self._start(MODEL, self._model(authority.certify(MODEL)), {})
        self._wait_for({(DAEMONS, "SPIFFE_ENDPOINT_SOCKET"), (MODEL, "listening")})

    def path_selector(self, who: str) -> str:
        """The selector that only a component's own program shows."""
        return f"unix:path:{self._interpreters[who]}"

    def rename_program(self) -> None:
        """Let the rules name another program in place of the revoked one."""
        self.operator.words[_path_in_rules(REPLACED)] = self.path_selector(REPLACEMENT)

    def _model(self, identity: Path) -> Sequence[str | Path]:
        names = {"issuer": self._rule.issuer, "subject": self._rule.subject, "audience": self._rule.audience}
        options = {**names, "trust": self._trust, "identity": identity}
        return [
            sys.executable,
            "-m",
            "cognomen.demo.modelserver",
            *(f"--{name}={one}" for name, one in options.items()),
        ]

    def start_component(self, who: str, ports: Mapping[str, int]) -> None:
        """Start a component that knows the ports of those that it calls; if its own is among them, it listens there."""
        role = REPLACED if who == REPLACEMENT else who
        arguments = [argument for name, port in ports.items() for argument in ("--port", f"{name}={port}")]
        environment = {"SPIFFE_ENDPOINT_SOCKET": f"unix://{self._socket}"}
        if role == THINKER:
            environment |= self._for_the_sdk()
        self._components[who] = self._start(
            who, [self._interpreters[who], "-m", "cognomen.demo.component", role, *arguments], environment
        )

    def _for_the_sdk(self) -> Mapping[str, str]:
        """What the model's SDK needs to know: the provider and its rule, and whom to trust for HTTPS; nothing secret."""
        return {
            "ANTHROPIC_BASE_URL": f"https://localhost:{self._model_port}",
            "ANTHROPIC_FEDERATION_RULE_ID": self._rule.rule_id,
            "ANTHROPIC_ORGANIZATION_ID": self._rule.organization_id,
            "ANTHROPIC_SERVICE_ACCOUNT_ID": self._rule.service_account_id,
            "SSL_CERT_FILE": str(self._trust),
        }

    def _wait_for(self, names: set[tuple[str, str]]) -> None:
        """Wait for events of these processes and names; others meanwhile are skipped."""
        while names:
            event = self.next_event()
            names = names - {(event.who, event.name)}
            if (event.who, event.name) == (MODEL, "listening"):
                self._model_port = int(event.facts["port"])

    def processes(self) -> Sequence[Process]:
        """All that run, each with the environment that it was given."""
        return [
            Process(who=who, pid=child.pid, given=self._environments[who])
            for who, child in self._children.items()
            if child.poll() is None
        ]

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

    def replace(self, ports: Mapping[str, int]) -> None:
        """Stop the revoked component, and start the program that the rules name in its place."""
        self._leaving.add(REPLACED)
        _stop(self._components.pop(REPLACED))
        self.start_component(REPLACEMENT, ports)
        self._components = {
            MODEL: self._components.pop(MODEL),
            REPLACEMENT: self._components.pop(REPLACEMENT),
            **self._components,
        }  # so that each stops after its callers

    def _environment(self, more: Mapping[str, str]) -> Mapping[str, str]:
        """The environment of a process: a few harmless variables of ours, what it needs beside them, and a home in the scene."""
        passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
        own = {
            "HOME": str(self.directory),
            "TMPDIR": str(self.directory),
            "PYTHONPATH": os.pathsep.join(_import_path()),
        }
        return {**passed, **own, **more}

    def _start(
        self, who: str, arguments: Sequence[str | Path], environment: Mapping[str, str]
    ) -> subprocess.Popen[str]:
        self._environments[who] = self._environment(environment)
        child = subprocess.Popen(  # noqa: S603 - our own programs
            [str(argument) for argument in arguments],
            env=self._environments[who],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            process_group=0,  # Ctrl-C goes to the scene, which stops all processes in order
        )
        self._stack.callback(_stop, child)
        self._children[who] = child
        threading.Thread(target=self._listen, args=(who, child), daemon=True).start()
        return child

    def _listen(self, who: str, child: subprocess.Popen[str]) -> None:
        for line in child.stdout or ():
            self._events.put(_event(who, self._clock.monotonic(), line))
        at = self._clock.monotonic()
        self._events.put(Event(who=who, at=at, name="ended", facts={"exit_code": child.wait()}))


def _path_in_rules(role: str) -> str:
    """The selector of a program, as the rulebook in the repository has it."""
    return f"unix:path:/srv/{AGENT}/{role}/bin/python"


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


def _import_path() -> Sequence[str]:
    return [path for path in sys.path if Path(path).is_dir()]


@contextmanager
def _kept_port() -> Iterator[int]:
    """A port of loopback for a server that says before it starts where it will be.

    While our socket has the port and does not listen, the system gives it to nobody who asks for any port; but a server that names it gets
    it, if both allow the reuse of addresses.
    """
    with socket.socket() as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind(("127.0.0.1", 0))
        yield int(keeper.getsockname()[1])


def make_interpreter(directory: Path) -> Path:
    """Make a Python with its own executable file, so that `unix:path` differs, and with the import path of this one."""
    venv.EnvBuilder(symlinks=False, with_pip=False).create(directory)
    (packages,) = directory.glob("lib/python3.*/site-packages")
    (packages / "parent.pth").write_text("\n".join(_import_path()) + "\n")
    return (directory / "bin" / "python").resolve(strict=True)
