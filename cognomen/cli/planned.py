"""A plan of a rulebook: made, shown, saved in a file, and read from it again."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from cognomen.cli.admin import Admin
from cognomen.cli.givenfile import write_given
from cognomen.cli.output import print_json
from cognomen.cli.planfacts import PlanFacts, document_of
from cognomen.cli.planlines import print_lines
from cognomen.cli.planreach import print_reach, reach_document
from cognomen.cli.rulefiles import checked, content_of, content_of_all, texts_of
from cognomen.cli.threads import in_thread
from cognomen.protocol.errors import Kind, Refused
from cognomen.rulebook.reading import read
from cognomen.rulebook.rules import Rulebook
from cognomen.wire.pb import admin_pb2 as pb

__all__ = ["Planned", "apply_planned", "plan_again", "plan_of", "print_plan", "save_plan", "saved_plan"]

_MARK = "cognomen_plan"
_VERSION = 1


class _SavedPlan(msgspec.Struct, forbid_unknown_fields=True):
    """What `plan --save` writes."""

    cognomen_plan: int
    trust_domain: str
    digest: str
    let_expire: bool
    files: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Planned(PlanFacts):
    """A plan, and what it was made of."""

    let_expire: bool


def plan_of(admin: Admin, rules: Path, *, let_expire: bool) -> Planned:
    """Ask the issuer what applying these rules would do.

    Raises:
        Refused: as content_of_all and checked, and as the issuer refuses.
    """
    content = content_of_all(rules)
    files = texts_of(content)
    # The issuer reads the same rules meanwhile: with 10,000 components each of the two takes more than a second.
    asked = in_thread(partial(_ask, admin, files, let_expire=let_expire))
    rulebook = checked(rules, content)
    return _planned(rulebook, files, *asked.result(), let_expire=let_expire)


def plan_again(admin: Admin, applied: pb.Rulebook, *, let_expire: bool) -> Planned:
    """Ask the issuer what applying a rulebook again would do that was applied before.

    Raises:
        Refused: as the issuer refuses.
    """
    files = dict(applied.files)
    return _planned(_read(files), files, *_ask(admin, files, let_expire=let_expire), let_expire=let_expire)


def _ask(admin: Admin, files: Mapping[str, str], *, let_expire: bool) -> tuple[pb.RulebookPlan, dict[str, str]]:
    """Ask for a plan, as often as it takes to get all of its changes, and for the rulebook that it replaces."""
    request = pb.PlanRulebookRequest(files=files, let_expire=let_expire)
    plan = admin.plan_rulebook(request)
    while plan.more_changes:
        request.skip = len(plan.changes)
        part = admin.plan_rulebook(request)
        if part.digest != plan.digest or not part.changes:
            raise Refused(
                Kind.CONFLICT, "plan: the rulebook or its entries were changed while it was made", hint="plan again"
            )
        plan.changes.extend(part.changes)
        plan.more_changes = part.more_changes
    before: dict[str, str] = {}
    if plan.in_force:
        before.update(admin.get_rulebook(pb.GetRulebookRequest(revision=plan.in_force)).files)
    return plan, before


def _planned(
    rulebook: Rulebook, files: Mapping[str, str], plan: pb.RulebookPlan, before: Mapping[str, str], *, let_expire: bool
) -> Planned:
    return Planned(
        rulebook=rulebook,
        files=files,
        before=rulebook if before == files else _read(before),
        files_before=before,
        plan=plan,
        let_expire=let_expire,
    )


def _read(files: Mapping[str, str]) -> Rulebook:
    """A rulebook that was applied, as far as this release can read it."""
    return read({name: text.encode() for name, text in files.items()})[0]


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
    asked = _ask(admin, saved.files, let_expire=saved.let_expire)
    found = _planned(_read(saved.files), saved.files, *asked, let_expire=saved.let_expire)
    if found.plan.digest != saved.digest:
        raise Refused(
            Kind.CONFLICT,
            f"{path}: the rulebook or its entries were changed since the plan was made",
            hint="plan again",
        )
    return found


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


def print_plan(found: Planned, output: str, reach: pb.AskAttestorsResponse | None = None) -> None:
    """Print it: as lines with +, ~, - and !, or as JSON; and what the nodes answered, if they were asked."""
    if output == "json":
        print_json(document_of(found) | reach_document(reach))
        return
    print_lines(found)
    print_reach(reach)
