"""A plan of a rulebook: made, shown, saved in a file, and read from it again."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec

from cognomen.cli.admin import Admin
from cognomen.cli.entrydiff import in_words
from cognomen.cli.givenfile import write_given
from cognomen.cli.output import counted, print_json, warn
from cognomen.cli.rulefiles import content_of, rules_and_files
from cognomen.protocol.errors import Kind, Refused
from cognomen.rulebook.compiling import group_path
from cognomen.rulebook.proving import loosened
from cognomen.rulebook.rules import Component, Rulebook
from cognomen.rulebook.tables import Mode
from cognomen.rulebook.whole import read_whole
from cognomen.wire.admin import document_from_message
from cognomen.wire.pb import admin_pb2 as pb
from cognomen.wire.pb import node_pb2
from svid.clock import SystemClock
from svid.encoding import JSON

__all__ = ["Planned", "apply_planned", "plan_again", "plan_of", "print_plan", "save_plan", "saved_plan"]

_MARK = "cognomen_plan"
_VERSION = 1
_ISSUER = "/cognomen/issuer"
_COLOURS = {"+": "green", "~": "yellow", "-": "red"}


class _SavedPlan(msgspec.Struct, forbid_unknown_fields=True):
    """What `plan --save` writes."""

    cognomen_plan: int
    trust_domain: str
    digest: str
    let_expire: bool
    files: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan, and what it was made of."""

    rulebook: Rulebook
    files: Mapping[str, str]
    let_expire: bool
    plan: pb.RulebookPlan

    @property
    def has_changes(self) -> bool:
        """Whether applying it would change an entry."""
        return bool(self.plan.changes)


def plan_of(admin: Admin, rules: Path, *, let_expire: bool) -> Planned:
    """Ask the issuer what applying these rules would do.

    Raises:
        Refused: as rules_and_files, and as the issuer refuses.
    """
    rulebook, files = rules_and_files(rules)
    plan = admin.plan_rulebook(pb.PlanRulebookRequest(files=files, let_expire=let_expire))
    return Planned(rulebook=rulebook, files=files, let_expire=let_expire, plan=plan)


def plan_again(admin: Admin, applied: pb.Rulebook, *, let_expire: bool) -> Planned:
    """Ask the issuer what applying a rulebook again would do that was applied before.

    Raises:
        Refused: as the issuer refuses.
    """
    rulebook, _ = read_whole({name: text.encode() for name, text in applied.files.items()})
    plan = admin.plan_rulebook(pb.PlanRulebookRequest(files=applied.files, let_expire=let_expire))
    return Planned(rulebook=rulebook, files=applied.files, let_expire=let_expire, plan=plan)


def apply_planned(admin: Admin, found: Planned, comment: str) -> pb.ApplyRulebookResponse:
    """Apply exactly this plan.

    Raises:
        Refused: as the issuer refuses.
    """
    return admin.apply_rulebook(
        pb.ApplyRulebookRequest(
            files=found.files, digest=found.plan.digest, let_expire=found.let_expire, comment=comment
        )
    )


def saved_plan(admin: Admin, path: Path) -> Planned | None:
    """The plan that is saved in a file, as it would be made now; None: the file is no saved plan.

    Raises:
        Refused: CONFLICT when it is of another trust domain, or is not what would be done now; INVALID when it is damaged.
    """
    content = content_of(path) if os.path.isfile(path) else b""  # noqa: PTH113 - False also for what may not be looked at
    if not content[: len(_MARK) + 8].lstrip(b'{ \n"').startswith(_MARK.encode()):
        return None
    try:
        saved = msgspec.json.decode(content, type=_SavedPlan)
    except (msgspec.MsgspecError, UnicodeDecodeError) as e:
        raise Refused(Kind.INVALID, f"{path}: expected a plan as plan --save wrote it: {e}") from e
    if saved.cognomen_plan != _VERSION:
        raise Refused(Kind.INVALID, f"{path}: expected a plan of version {_VERSION}, found {saved.cognomen_plan}")
    if saved.trust_domain != admin.trust_domain.name:
        raise Refused(
            Kind.CONFLICT,
            f"{path}: expected a plan of {admin.trust_domain.name}, found one of {saved.trust_domain}",
            hint="name the admin socket of that issuer, or plan again",
        )
    rulebook, _ = read_whole({name: text.encode() for name, text in saved.files.items()})
    plan = admin.plan_rulebook(pb.PlanRulebookRequest(files=saved.files, let_expire=saved.let_expire))
    if plan.digest != saved.digest:
        raise Refused(
            Kind.CONFLICT,
            f"{path}: the rulebook or its entries were changed since the plan was made",
            hint="plan again",
        )
    return Planned(rulebook=rulebook, files=saved.files, let_expire=saved.let_expire, plan=plan)


def save_plan(found: Planned, trust_domain: str, path: Path) -> None:
    """Write a plan into a file, for `apply`."""
    saved = _SavedPlan(
        cognomen_plan=_VERSION,
        trust_domain=trust_domain,
        digest=found.plan.digest,
        let_expire=found.let_expire,
        files=dict(found.files),
    )
    write_given(path, msgspec.json.encode(saved) + b"\n", mode=0o600)


def print_plan(found: Planned, output: str) -> None:
    """Print it: as lines with +, ~ and -, or as JSON."""
    plan = found.plan
    if output == "json":
        print_json(_document(found))
        return
    for warning in plan.warnings:
        warn(warning)
    today = SystemClock().now().date()
    for agent in found.rulebook.agents.values():
        if agent.review_by is not None and agent.review_by < today:
            warn(f"agent {agent.name}: its review was due on {agent.review_by}; ask {agent.owner}")
    for mark, line in sorted(_lines(found), key=lambda one: one[1]):
        click.secho(f"{mark} {line}", fg=_COLOURS[mark])
    for component, is_new in _observed(found):
        click.echo(f"? {component.name} only observes{' from now on' if is_new else ''}: nothing is issued for it")
    for one in loosened(found.rulebook):
        click.echo(f"! {one.components[0].name} allows {one.guard}: {one.problem}")
    counts = _counts(plan)
    in_force = f"revision {plan.in_force} is in force" if plan.in_force else "no rulebook is in force"
    changes = f"{counts['created']} created, {counts['updated']} updated, {counts['deleted']} deleted"
    click.echo(f"entries: {changes}, {plan.unchanged} unchanged; {in_force}")
    if plan.ended or plan.superseded:
        now, later = counted(plan.ended, "credential"), counted(plan.superseded, "credential")
        click.echo(f"{now} revoked at once, {later} once they are replaced")


def _lines(found: Planned) -> Iterator[tuple[str, str]]:
    groups = {group_path(one.nodes): str(one.nodes) for one in found.rulebook.components()}
    for change in found.plan.changes:
        before = _shown(change.before, groups) if change.HasField("before") else None
        after = _shown(change.after, groups) if change.HasField("after") else None
        if after is None:
            assert before is not None  # noqa: S101 - a change has one of the two
            yield "-", _said(before)
        elif before is None:
            yield "+", _said(after)
        else:
            yield "~", f"{before['spiffe_id']}  {in_words(before, after)}"


def _said(entry: Mapping[str, JSON]) -> str:
    if entry["parent_id"] == _ISSUER:
        return f"nodes {entry['spiffe_id']}"
    said = {key: value for key, value in entry.items() if key not in {"spiffe_id", "owner", "labels", "parent_id"}}
    return f"{entry['spiffe_id']}  {in_words(None, said)}; nodes: {entry['parent_id']}"


def _shown(entry: node_pb2.Entry, groups: Mapping[str, str]) -> dict[str, JSON]:
    """An entry with paths for its SPIFFE IDs, and for those of node groups what the rulebook calls these nodes."""
    document = dict(document_from_message(entry))
    for key in ("spiffe_id", "parent_id"):
        path = "/" + str(document[key]).removeprefix("spiffe://").partition("/")[2]
        document[key] = groups.get(path, path)
    if entry.HasField("audiences"):
        own = f"spiffe://{entry.spiffe_id.removeprefix('spiffe://').partition('/')[0]}"
        document["audiences"] = [
            one.removeprefix(own) if one.startswith(f"{own}/") else one for one in entry.audiences.values
        ]
    return document


def _counts(plan: pb.RulebookPlan) -> dict[str, int]:
    created = sum(not one.HasField("before") for one in plan.changes)
    deleted = sum(not one.HasField("after") for one in plan.changes)
    return {"created": created, "updated": len(plan.changes) - created - deleted, "deleted": deleted}


def _document(found: Planned) -> dict[str, JSON]:
    plan = found.plan
    changes: list[JSON] = [
        {
            "before": dict(document_from_message(one.before)) if one.HasField("before") else None,
            "after": dict(document_from_message(one.after)) if one.HasField("after") else None,
        }
        for one in plan.changes
    ]
    allowed: list[JSON] = [
        {"guard": one.guard.value, "components": [str(each.name) for each in one.components], "problem": one.problem}
        for one in loosened(found.rulebook)
    ]
    return {
        "in_force": plan.in_force,
        "digest": plan.digest,
        "changes": changes,
        **_counts(plan),
        "unchanged": plan.unchanged,
        "warnings": list(plan.warnings),
        "ended": plan.ended,
        "superseded": plan.superseded,
        "allowed": allowed,
        "observed": [{"component": str(one.name), "is_new": is_new} for one, is_new in _observed(found)],
    }


def _observed(found: Planned) -> Iterator[tuple[Component, bool]]:
    """The components that only observe, and whether that is new."""
    new = {
        "/" + one.after.spiffe_id.removeprefix("spiffe://").partition("/")[2]
        for one in found.plan.changes
        if one.after.observe and not one.before.observe
    }
    for component in found.rulebook.active():
        if component.mode is Mode.OBSERVE:
            yield component, component.path in new
