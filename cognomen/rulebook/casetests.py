"""Run the tests of a rulebook: what a process gets by these rules, and what its author expected."""

from collections.abc import Iterator
from dataclasses import dataclass

from cognomen.rulebook.engine import Engine, Shown
from cognomen.rulebook.rules import Case, ComponentName, Rulebook

__all__ = ["Outcome", "run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one test.

    Args:
        found: the identities that the process gets.
        audiences: the external audiences for which these get tokens.
    """

    case: Case
    found: frozenset[ComponentName]
    audiences: frozenset[str]

    @property
    def is_good(self) -> bool:
        """Whether it is as expected."""
        return self.found == self.case.expect and self.case.audiences in (None, self.audiences)


def run(rulebook: Rulebook) -> Iterator[Outcome]:
    """Run all tests, in their order."""
    engine = Engine(rulebook)
    for case in rulebook.cases:
        found = engine.match(Shown(selectors=case.selectors, node=case.node, node_path=case.node_path))
        audiences = frozenset[str]().union(*(rulebook.external_audiences(one) for one in found))
        yield Outcome(case=case, found=frozenset(one.name for one in found), audiences=audiences)
