"""Everything that a plan says, beside what the issuer answered: how the rules differ, and which guard rails they loosen."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from cognomen.cli.limits import limit_lines
from cognomen.rulebook.casetests import Outcome, run
from cognomen.rulebook.differing import Difference, differences
from cognomen.rulebook.findingplaces import FindingPlaces
from cognomen.rulebook.proving import Finding, loosened
from cognomen.rulebook.rules import Component, Rulebook
from cognomen.rulebook.tables import Mode
from cognomen.wire.admin import document_from_message
from cognomen.wire.pb import admin_pb2 as pb
from svid.encoding import JSON

__all__ = ["PlanFacts", "document_of"]


@dataclass(frozen=True, kw_only=True)
class PlanFacts:
    """A plan, and the rules of which it was made.

    Args:
        before, files_before: the rulebook in force; empty: there is none.
    """

    rulebook: Rulebook
    files: Mapping[str, str]
    before: Rulebook
    files_before: Mapping[str, str]
    plan: pb.RulebookPlan

    @property
    def has_changes(self) -> bool:
        """Whether applying it would leave a new revision."""
        return self.plan.new_revision or bool(self.plan.changes)

    @cached_property
    def differences(self) -> list[Difference]:
        """How the rules differ beside their entries."""
        return list(differences(self.before, self.rulebook, {one.name for one in self.plan.held}))

    @cached_property
    def observed(self) -> list[tuple[Component, bool]]:
        """The components that only observe, and whether that is new."""
        new = {
            "/" + one.after.spiffe_id.removeprefix("spiffe://").partition("/")[2]
            for one in self.plan.changes
            if one.after.observe and not one.before.observe
        }
        return [(one, one.path in new) for one in self.rulebook.active() if one.mode is Mode.OBSERVE]

    @cached_property
    def loosened(self) -> list[Finding]:
        """The guard rails that components go without."""
        return list(loosened(self.rulebook, self.before))

    @cached_property
    def places(self) -> FindingPlaces:
        """Where stands what the findings are about."""
        return FindingPlaces(self.files.items())

    @cached_property
    def failed_tests(self) -> list[Outcome]:
        """The tests of the rulebook that fail; nothing is refused for them."""
        return [one for one in run(self.rulebook) if not one.is_good]

    @cached_property
    def files_by_change(self) -> tuple[list[str], list[str], list[str]]:
        """The names of the files that come, change and go."""
        both = self.files.keys() & self.files_before.keys()
        changed = (name for name in both if self.files[name] != self.files_before[name])
        return sorted(self.files.keys() - both), sorted(changed), sorted(self.files_before.keys() - both)

    @property
    def counts(self) -> dict[str, int]:
        """How many entries come, change and go."""
        changes = self.plan.changes
        created = sum(not one.HasField("before") for one in changes)
        deleted = sum(not one.HasField("after") for one in changes)
        return {"created": created, "updated": len(changes) - created - deleted, "deleted": deleted}


def document_of(found: PlanFacts) -> dict[str, JSON]:
    """All of it as JSON."""
    plan = found.plan
    changes: list[JSON] = [
        {
            "before": dict(document_from_message(one.before)) if one.HasField("before") else None,
            "after": dict(document_from_message(one.after)) if one.HasField("after") else None,
        }
        for one in plan.changes
    ]
    added, changed, removed = found.files_by_change
    return {
        "in_force": plan.in_force,
        "digest": plan.digest,
        "new_revision": found.has_changes,
        "changes": changes,
        **found.counts,
        "unchanged": plan.unchanged,
        "rules": [_difference(one) for one in found.differences],
        "limits": [f"{mark} {line}" for mark, line in limit_lines(found.before, found.rulebook)],
        "files": {"added": [*added], "changed": [*changed], "removed": [*removed]},
        "retired": list(plan.retired),
        "held": [dict(document_from_message(one)) for one in plan.held],
        "lost": [dict(document_from_message(one)) for one in plan.lost],
        "warnings": list(plan.warnings),
        "more_warnings": plan.more_warnings,
        "ended": plan.ended,
        "superseded": plan.superseded,
        "ends": [dict(document_from_message(one)) for one in plan.ends],
        "more_ends": plan.more_ends,
        "exchanged": [dict(document_from_message(one)) for one in plan.exchanged],
        "observed": [{"component": str(one.name), "is_new": is_new} for one, is_new in found.observed],
        "allowed": [_finding(one, found.places) for one in found.loosened],
        "failed_tests": [one.case.name for one in found.failed_tests],
    }


def _difference(one: Difference) -> JSON:
    before, after = (None if each is None else _facts(each) for each in (one.before, one.after))
    return {"what": one.what, "name": one.name, "before": before, "after": after}


def _facts(facts: Mapping[str, JSON]) -> dict[str, JSON]:
    return dict(facts)


def _finding(one: Finding, places: FindingPlaces) -> JSON:
    return {
        "guard": one.guard.value,
        "components": [str(each.name) for each in one.components],
        "file": one.components[0].where.file,
        "line": places.line(one),
        "problem": one.problem,
        "is_new": one.is_new,
        "more": one.more,
    }
