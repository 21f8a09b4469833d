"""The tally: counts what happened in a scene, and decides whether everything happened that should."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cognomen.demo.scan import Scan
from cognomen.demo.scene import MODEL, REPLACED, REPLACEMENT, ROLES, THINKER, Event

__all__ = ["LATE", "Tally"]

LATE = "/agent/archive/clerk"
"""The identity that the connector's program gets while everything is running, as a component of a second agent."""

_ROTATIONS = 3
_TOKENS = 3
_TRADES = 3

_ENDS: Mapping[str, str] = {
    "handshake refused": "next handshake refused",
    "connection closed": "open connection closed",
    "token refused": "JWT-SVID refused",
}

_UNDISTURBED: Mapping[str, str] = {
    **{f"{role} holds an identity": f"{role} has its own X509-SVID and JWT-SVID" for role in ROLES},
    "reasoning answered orchestrator": "orchestrator called reasoning over mTLS",
    "connector answered orchestrator": "orchestrator called the connector over mTLS with a JWT-SVID",
    "connector refused reasoning": "reasoning's call to the connector was refused: it was not allowed",
    "connector gained an identity": "a rule was applied: the connector's open stream received its new SVID",
    **{f"{role} rotated": f"{role}'s X509-SVID rotated {_ROTATIONS} times during calls" for role in ROLES},
    "tokens rotated": f"orchestrator's JWT-SVID was renewed at least {_TOKENS - 1} times",
}
_THOUGHT: Mapping[str, str] = {
    "thought": f"{THINKER} called its model through the unchanged SDK of the provider",
    "traded": f"the model traded JWT-SVIDs for access tokens at least {_TRADES} times",
}
_OTHERS_WENT_ON = "others went on"
_REVOKED: Mapping[str, str] = {
    **{name: f"connector revoked: {text}" for name, text in _ENDS.items()},
    _OTHERS_WENT_ON: "orchestrator and reasoning kept working, and missed no call",
}
_AT_WORK = {REPLACEMENT, *ROLES} - {REPLACED}
"""The components that are running at the end."""
_IS_BACK = f"{REPLACEMENT} answered orchestrator"
_REMINTED = "reminted"
_RESUMED = "resumed"
_SUSPENDED = frozenset(f"suspended: {name}" for name in _ENDS)
_EXPECTED: Mapping[str, str] = {
    **_UNDISTURBED,
    **_THOUGHT,
    **_REVOKED,
    _IS_BACK: "the connector was replaced: orchestrator called the new one",
    _REMINTED: "authority tainted during calls: every SVID replaced",
    **{f"suspended: {name}": f"connector suspended: {text}" for name, text in _ENDS.items()},
    _RESUMED: "connector resumed: orchestrator called it again",
}
_WENT_ON_CALLING = {"orchestrator", THINKER}


@dataclass(slots=True)
class Tally:
    """What has been achieved and counted so far.

    Args:
        created_at: when the issuer made the entry of LATE; None: not yet.
        revoked_at: when it accepted the command that revokes the connector; None: not yet.
        ends: how long after that each kind of refusal of the connector came.
        suspended_at, resumed_at: when it suspended the replaced connector, and resumed it; None: not yet.
        suspensions: how long after that each kind of refusal came, and the first call after it was resumed.
        tainted_at: when it accepted the command that taints the authority; None: not yet.
        reminted: how long after that each component held an SVID of another authority.
        scan: the search for stored secrets; None: not yet.
    """

    created_at: datetime | None = None
    revoked_at: datetime | None = None
    latency: timedelta | None = None
    ends: dict[str, timedelta] = field(default_factory=dict)
    suspended_at: datetime | None = None
    resumed_at: datetime | None = None
    suspensions: dict[str, timedelta] = field(default_factory=dict)
    tainted_at: datetime | None = None
    reminted: dict[str, timedelta] = field(default_factory=dict)
    scan: Scan | None = None
    _authorities: dict[str, str] = field(default_factory=dict)
    rotations: Counter[str] = field(default_factory=Counter)
    _ids: dict[str, str] = field(default_factory=dict)
    _counts: dict[str, Counter[str]] = field(default_factory=dict)
    _at_rotation: Counter[str] = field(default_factory=Counter)
    _answered_at_end: int | None = None
    _made_at_remint: dict[str, int] = field(default_factory=dict)
    _went_on: set[str] = field(default_factory=set)
    _done: set[str] = field(default_factory=set)

    @property
    def everything_happened(self) -> bool:
        """Whether everything that must happen has happened."""
        return self._done >= set(_EXPECTED)

    @property
    def is_undisturbed(self) -> bool:
        """Whether everything has happened that must come before the revocation."""
        return self._done >= set(_UNDISTURBED)

    @property
    def is_revoked(self) -> bool:
        """Whether everything has happened that must come before the revoked component is replaced."""
        return self._done >= set(_REVOKED)

    @property
    def is_back(self) -> bool:
        """Whether another component works in place of the revoked one."""
        return self.is_revoked and _IS_BACK in self._done

    @property
    def is_reminted(self) -> bool:
        """Whether everything has happened that must come before the suspension."""
        return self.is_back and _REMINTED in self._done

    @property
    def is_suspended(self) -> bool:
        """Whether everything has happened that must come before the component is resumed."""
        return self._done >= _SUSPENDED

    @property
    def succeeded(self) -> bool:
        """Whether everything happened, no call failed, and no secret was found; call this when all have reported their last counts."""
        return self.everything_happened and self._is_flawless and self.scan is not None and self.scan.is_clean

    def count(self, name: str) -> int:
        """The sum of all components' counts of that name."""
        return sum(counts[name] for counts in self._counts.values())

    def note(self, event: Event) -> None:
        """Count an event in; a rotation counts if calls went on since the one before."""
        if event.name in {"counted", "rotated"}:
            counts = Counter({name: value for name, value in event.facts.items() if isinstance(value, int)})
            self._note_progress(event.who, counts)
            self._counts[event.who] = counts
            if counts["tokens"] >= _TOKENS:
                self._done.add("tokens rotated")
            if counts["traded"] >= _TRADES:
                self._done.add("traded")
            if event.name == "rotated" and counts["own"]:
                self._note_rotation(event.who, calls=counts["made"] + counts["answered"])
                self._note_authority(event)
        elif event.name == "identity":
            self._authorities[event.who] = str(event.facts["authority"])
            self._ids[event.who] = str(event.facts["spiffe_id"])
        elif event.name == "thought":
            self._done.add(event.name)
        elif event.name == "gained" and self.created_at is not None:
            self.latency = datetime.fromisoformat(str(event.facts["at"])) - self.created_at
        elif event.name in {*_ENDS, "called"}:
            self._note_command(event.name, datetime.fromisoformat(str(event.facts["at"])))
        if (achieved := _achievement(event)) is not None:
            self._done.add(achieved)

    def _note_command(self, name: str, at: datetime) -> None:
        """Note what the operator's last command about the connector caused: a refusal of it, or the first call that it takes again."""
        if name == "called":
            if self.resumed_at is not None and _RESUMED not in self._done:
                self.suspensions[_RESUMED] = at - self.resumed_at
                self._done.add(_RESUMED)
        elif self.suspended_at is not None:
            self.suspensions[name] = at - self.suspended_at
            self._done.add(f"suspended: {name}")
        elif self.revoked_at is not None:
            self.ends[name] = at - self.revoked_at
            self._done.add(name)

    def _note_progress(self, who: str, counts: Mapping[str, int]) -> None:
        """Check that reasoning keeps answering once the connector is refused everywhere, and that calls go on after a taint."""
        if who == "reasoning" and set(self.ends) == set(_ENDS):
            if self._answered_at_end is None:
                self._answered_at_end = counts["answered"]
            elif counts["answered"] > self._answered_at_end:
                self._done.add(_OTHERS_WENT_ON)
        if who in _WENT_ON_CALLING and set(self.reminted) == _AT_WORK:
            if counts["made"] > self._made_at_remint.setdefault(who, counts["made"]):
                self._went_on.add(who)
            if self._went_on == _WENT_ON_CALLING:
                self._done.add(_REMINTED)

    def _note_rotation(self, role: str, *, calls: int) -> None:
        if calls > self._at_rotation[role]:
            self.rotations[role] += 1
        self._at_rotation[role] = calls
        if self.rotations[role] >= _ROTATIONS:
            self._done.add(f"{role} rotated")

    def _note_authority(self, event: Event) -> None:
        """Note a component that has an SVID of another authority than the tainted one."""
        authority = str(event.facts["authority"])
        if self.tainted_at is not None and authority != self._authorities[event.who]:
            self.reminted[event.who] = datetime.fromisoformat(str(event.facts["at"])) - self.tainted_at
        self._authorities[event.who] = authority

    def latest(self, event: Event) -> timedelta | None:
        """How long after the operator's last command about the connector this came; None: it is nothing that a command caused."""
        if event.name == "called":
            return self.suspensions.get(_RESUMED)
        if event.name not in _ENDS:
            return None
        return (self.ends if self.suspended_at is None else self.suspensions).get(event.name)

    def verdicts(self) -> Iterator[str]:
        """One line for each thing that must happen, and whether it did."""
        for key, text in _EXPECTED.items():
            is_fulfilled = key in self._done and (key != _OTHERS_WENT_ON or self.count("failed") == 0)
            yield _verdict(text + self._after(key), is_fulfilled=is_fulfilled)
        made, answered, failed = map(self.count, ("made", "answered", "failed"))
        yield _verdict(f"{made} calls made, {answered} answered, {failed} failed", is_fulfilled=self._is_flawless)
        if self.scan is not None:
            places = "files, environments and arguments"
            yield _verdict(f"no static secret in {places}", is_fulfilled=self.scan.is_clean)

    def _after(self, key: str) -> str:
        took = max(self.reminted.values(), default=None) if key == _REMINTED else self.ends.get(key)
        took = self.suspensions.get(key.removeprefix("suspended: ")) if key in {*_SUSPENDED, _RESUMED} else took
        return "" if took is None else f" after {took.total_seconds() * 1000:.0f} ms"

    @property
    def _is_flawless(self) -> bool:
        """Each call was answered; a caller may not have read an answer of the revoked component."""
        made, answered = self.count("made"), self.count("answered")
        return 0 < made <= answered <= made + self.count("revoked") and self.count("failed") == 0

    def scanned(self) -> Iterator[str]:
        """What was scanned for static secrets, and what was found, in sentences."""
        if self.scan is None:
            return
        scan = self.scan
        if scan.private:
            yield (
                f"Root alone may read the environment of the {' and '.join(sorted(scan.private))}: the one that they were started with was"
                " scanned."
            )
        if scan.owned:
            owned = ", ".join(f"{count} of {owner}" for owner, count in sorted(scan.owned.items()))
            yield f"Not the agent's, in files that their owner alone may read: private keys, {owned}."
        yield from (f"NOT READ: {name}." for name in sorted(scan.unread))
        yield from (f"STATIC SECRET: {finding}." for finding in sorted(scan.findings))
        yield (
            f"Scan for static secrets: {scan.files} files, and environment and arguments of {len(scan.processes)} processes:"
            f" {len(scan.findings)} found."
        )

    def table(self) -> Sequence[str]:
        """One line for each component, below a line of headings."""
        heading = f"{'component':<12}  {'SPIFFE ID, in example.org':<29}  rotations  made  answered  failed"
        rows = []
        for role, spiffe_id in self._ids.items():
            counts = self._counts.get(role, Counter())
            path = "/" + spiffe_id.removeprefix("spiffe://").partition("/")[2]
            numbers = f"{self.rotations[role]:>9}  {counts['made']:>4}  {counts['answered']:>8}  {counts['failed']:>6}"
            rows.append(f"{role:<12}  {path:<29}  {numbers}")
        if MODEL in self._counts:
            rows.append(
                f"{MODEL:<12}  {'none: it is the provider':<29}  {'':>9}  {0:>4}  {self._counts[MODEL]['answered']:>8}  {0:>6}"
            )
        return [heading, *rows]


def _achievement(event: Event) -> str | None:
    """The key of _EXPECTED that this event alone fulfils."""
    facts = event.facts
    match event.who, event.name:
        case role, "identity":
            return f"{role} holds an identity"
        case "reasoning", "answered" if _role(facts["caller"]) == "orchestrator":
            return "reasoning answered orchestrator"
        case who, "answered" if _role(facts["caller"]) == _role(facts["token_of"]) == "orchestrator":
            return f"{who} answered orchestrator"
        case "connector", "refused" if _role(facts["caller"]) == "reasoning":
            return "connector refused reasoning"
        case "connector", "gained" if str(facts["spiffe_id"]).endswith(LATE):
            return "connector gained an identity"
        case _:
            return None


def _verdict(text: str, *, is_fulfilled: bool) -> str:
    return f"  {'ok     ' if is_fulfilled else 'MISSING'}  {text}"


def _role(spiffe_id: str | int) -> str:
    return str(spiffe_id).rpartition("/")[2]
