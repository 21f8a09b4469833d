"""Rulebooks that were applied, and what one may say after another: names that are retired stay so.

cognomen/rulebook decides what a rulebook is, and what it proves; issuer/works/rulebookplans what applying one changes.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

import msgspec

from cognomen.protocol.entry import RegistrationEntry, entry_to_document
from cognomen.protocol.errors import Kind, Refused
from cognomen.rulebook.compiling import GROUPS
from cognomen.rulebook.places import line_of, lines
from cognomen.rulebook.rules import Rulebook
from cognomen.rulebook.tables import AgentState
from svid.spiffeid import SpiffeID

__all__ = [
    "AppliedRulebook",
    "HeldAgent",
    "RetiredAgent",
    "check_names",
    "check_owner",
    "is_of_rulebook",
    "names_to_retire",
    "newly_retired",
    "plan_digest",
    "retired_in_words",
    "rules_digest",
]

_AGENTS = "/agent"
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedRulebook:
    """A rulebook that was applied.

    Args:
        revision: 1 for the first one.
        files: their contents, by name, as they were given; empty in a list of several.
        digest: of the files.
        components: how many components of active agents it has.
    """

    revision: int
    files: Mapping[str, str] = field(repr=False)
    digest: str
    components: int
    actor: str
    login: str
    comment: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RetiredAgent:
    """A name that no agent has any more, for good.

    Args:
        owner: empty: not known.
        revision: of the rulebook that retired it, or that was in force when an operator did.
        actor: the operator who retired it; empty: the rulebook did.
    """

    name: str
    owner: str
    revision: int
    at: datetime
    actor: str = ""
    login: str = ""
    comment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldAgent:
    """An agent that is suspended, whatever the rulebook says, until an operator resumes it; or one component of an agent.

    Args:
        name: AGENT, or AGENT/COMPONENT.
        review_by: the review that was due, if the issuer suspended it for that: a rulebook with a later one resumes it, too, unless an
            operator, who is the actor then, has suspended it as well.
    """

    name: str
    actor: str
    login: str
    comment: str
    at: datetime
    review_by: date | None = None


def is_of_rulebook(spiffe_id: SpiffeID) -> bool:
    """Whether entries with this ID belong to the rulebook, once there is one."""
    return any(spiffe_id.path == path or spiffe_id.is_below(path) for path in (_AGENTS, GROUPS))


def check_owner(place: str, spiffe_id: SpiffeID, in_force: int) -> str:
    """Check that a command that is not about the rulebook may have an entry with this ID; returns a warning, or an empty text.

    Args:
        place: how a message names the entry.
        in_force: the revision of the rulebook; 0: there is none.

    Raises:
        Refused: DENIED when it belongs to the rulebook.
    """
    if not is_of_rulebook(spiffe_id):
        return ""
    if in_force:
        raise Refused(
            Kind.DENIED,
            f"{place}: {spiffe_id.path} belongs to the rulebook",
            hint="change the rulebook: cognomen plan RULES, then cognomen apply RULES",
            spiffe_id=str(spiffe_id),
        )
    return f"{place}: spiffe_id: {spiffe_id.path} is below /agent/, which will belong to the rulebook"


def rules_digest(files: Mapping[str, str]) -> str:
    """SHA-256 of the files and their names, in hexadecimal."""
    return hashlib.sha256(msgspec.json.encode({name: files[name] for name in sorted(files)})).hexdigest()


def plan_digest(
    revision: int,
    rules: str,
    steps: Iterable[tuple[RegistrationEntry | None, RegistrationEntry | None]],
    *,
    let_expire: bool = False,
) -> str:
    """SHA-256 of a plan, in hexadecimal: two plans with one digest do the same to the same entries.

    Args:
        revision: of the rulebook that is in force; 0: none is.
        rules: the digest of the files that are to be applied.
        steps: each entry before and after; what the issuer will choose for a new one does not count.
        let_expire: what it takes away stays valid until it expires.
    """
    done = [[_document(before), _document(after)] for before, after in steps]
    done.sort(key=msgspec.json.encode)
    return hashlib.sha256(msgspec.json.encode([revision, rules, done, let_expire])).hexdigest()


def _document(entry: RegistrationEntry | None) -> object:
    if entry is None:
        return None
    document = entry_to_document(entry)
    return {key: document[key] for key in sorted(document) if key not in {"id", "created_at"}}


def check_names(rulebook: Rulebook, retired: Mapping[str, RetiredAgent], files: Mapping[str, str]) -> None:
    """Check that no retired name comes back.

    Args:
        files: those of the rulebook.

    Raises:
        Refused: CONFLICT
    """
    back = sorted(
        name for name, one in rulebook.agents.items() if name in retired and one.state is not AgentState.RETIRED
    )
    if not back:
        return
    one, where = retired[back[0]], rulebook.agents[back[0]].where
    more = f" and {len(back) - 1} more" if len(back) > 1 else ""
    place = f"{where.file}:{line_of((*where.path, 'state'), lines(files.get(where.file, '')))}"
    raise Refused(
        Kind.CONFLICT,
        f"{place}: agent {one.name}{more}: {retired_in_words(one)}, and a retired name never comes back",
        hint=f'if it is that agent, say so there: state = "{AgentState.RETIRED.value}"; if it is another, give it another name',
    )


def retired_in_words(one: RetiredAgent) -> str:
    """Who retired an agent, and when."""
    owner = f"owner {one.owner}" if one.owner else "its owner is not known"
    if not one.actor:
        return f"retired in revision {one.revision} ({owner})"
    comment = f": {one.comment}" if one.comment else ""
    return f"retired by {one.actor} on {one.at.date()} ({owner}){comment}"


def names_to_retire(rulebook: Rulebook, retired: Collection[str]) -> list[str]:
    """The agents whose names this rulebook retires."""
    return [one.name for one in rulebook.agents.values() if one.state is AgentState.RETIRED and one.name not in retired]


def newly_retired(
    rulebook: Rulebook, retired: Mapping[str, RetiredAgent], applied: AppliedRulebook
) -> list[RetiredAgent]:
    """The agents that this rulebook retires."""
    return [
        RetiredAgent(name=name, owner=rulebook.agents[name].owner, revision=applied.revision, at=applied.at)
        for name in names_to_retire(rulebook, retired)
    ]
