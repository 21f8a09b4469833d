"""What an operator does in the demo, with the command as anybody would type it: plan and apply rules, revoke, taint, suspend.

cognomen/demo/scene runs the daemons and the components; the rules are the rulebook beside this module, in cognomen/demo/rules.
"""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, TypeVar

import msgspec

__all__ = ["Operator", "OperatorError"]

_RULES = Path(__file__).parent / "rules"
_COMMAND_SECONDS = 30
_CHANGES = 2  # the exit code of a plan that would change something

_Answer = TypeVar("_Answer")


class _Entry(msgspec.Struct):
    created_at: datetime


class _Entries(msgspec.Struct):
    entries: list[_Entry]


class _Applied(msgspec.Struct):
    revision: int


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


class _Row(msgspec.Struct):
    at: datetime


class _Rows(msgspec.Struct):
    rows: list[_Row]


class OperatorError(Exception):
    """A command failed."""


@dataclass(kw_only=True)
class Operator:
    """Types commands, in a shell of the scene.

    Args:
        directory: of the scene; the rules and the plan are written there.
        words: what to put in place of texts in the rulebook: this machine's uid and paths.
        log: gets what the commands write on standard error.
    """

    directory: Path
    environment: Mapping[str, str]
    words: dict[str, str]
    log: IO[str]

    def plan(self) -> int:
        """Plan the rules as they are in this scene now; returns how many entries that would create, change and delete."""
        rules = self.directory / "rules"
        rules.mkdir(exist_ok=True)
        for file in _RULES.glob("*.toml"):
            text = file.read_text()
            for ours, theirs in self.words.items():
                text = text.replace(f'"{ours}"', msgspec.json.encode(theirs).decode())
            (rules / file.name).write_text(text)
        said = self._run("plan", str(rules), f"--save={self._plan_file}", good=_CHANGES)
        return sum(line.startswith((b"+ /", b"~ /", b"- /")) for line in said.splitlines())

    def apply(self) -> int:
        """Apply the rules exactly as planned; returns the revision that is in force now."""
        return self._ask(_Applied, "apply", str(self._plan_file)).revision

    def made_at(self, path: str) -> datetime:
        """When the issuer made the entry with that path."""
        return self._ask(_Entries, "entry", "list", f"--spiffe-id={path}").entries[0].created_at

    def revoke(self, selector: str) -> datetime:
        """Revoke all identities of the programs that show a selector; returns when the issuer accepted the command."""
        return self._ask(_Revoked, "revoke", "selector", selector, "--reason=privilegeWithdrawn").revocation.at

    def suspend(self, component: str) -> datetime:
        """Suspend a component of an agent; returns when the issuer did it."""
        self._run("agent", "suspend", component, "--comment=it books flights to nowhere")
        return self._ask(_Rows, "audit", "list", "--action=agent suspended", "--limit=1").rows[0].at

    def resume(self, component: str) -> datetime:
        """Resume a component; returns when the issuer did it."""
        self._run("agent", "resume", component)
        return self._ask(_Rows, "audit", "list", "--action=agent resumed", "--limit=1").rows[0].at

    def taint(self) -> datetime:
        """Taint the X.509 authority, to replace all that it signed; returns when the issuer accepted the command."""
        found = self._ask(_Authorities, "authority", "list").authorities
        key_id = next(one.key_id for one in found if (one.kind, one.state) == ("x509", "active"))
        found = self._ask(_Authorities, "authority", "taint", key_id, "--reason=keyCompromise").authorities
        at = next(one.tainted_at for one in found if one.key_id == key_id)
        if at is None:
            raise OperatorError("cognomen authority taint: the authority is not tainted")
        return at

    @property
    def _plan_file(self) -> Path:
        return self.directory / "plan.json"

    def _ask(self, answer: type[_Answer], *arguments: str) -> _Answer:
        return msgspec.json.decode(self._run(*arguments, "--output=json"), type=answer)

    def _run(self, *arguments: str, good: int = 0) -> bytes:
        """Give a command; returns what it printed."""
        socket = self.directory / "state" / "admin" / "issuer.sock"
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-m", "cognomen", *arguments, f"--socket={socket}"],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=self.log,
            timeout=_COMMAND_SECONDS,
            check=False,
        )
        if done.returncode != good:
            raise OperatorError(f"cognomen {' '.join(arguments[:2])} failed, with exit code {done.returncode}")
        return done.stdout
