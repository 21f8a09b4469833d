"""cognomen/cli/limits: what a plan says about limits on issuance."""

from cognomen.cli.limits import limit_lines
from cognomen.rulebook.rules import Rulebook
from tests.unit.cognomen.rulebook.books import CONCIERGE, book

LIMITED = CONCIERGE.replace(
    "[agent.concierge.component.crm]",
    '[agent.concierge.component.crm]\nlimits = { nodes = 20, jwt_per_minute = 120 }\nlimits_mode = "count"',
)


def test_a_limit_that_comes_changes_or_goes_has_a_line() -> None:
    enforced = LIMITED.replace('"count"', '"enforce"').replace("120", "60")
    assert list(limit_lines(Rulebook(), book(LIMITED))) == [
        ("+", "/agent/concierge/crm  limits: jwt_per_minute = 120, nodes = 20 (count, on burst refuse)")
    ]
    ((mark, line),) = limit_lines(book(LIMITED), book(enforced))
    assert (mark, line.partition(" → ")[2]) == ("~", "jwt_per_minute = 60, nodes = 20 (enforce, on burst refuse)")
    assert list(limit_lines(book(LIMITED), book(CONCIERGE))) == [
        ("-", "/agent/concierge/crm  limits: jwt_per_minute = 120, nodes = 20 (count, on burst refuse)")
    ]
    assert list(limit_lines(book(LIMITED), book(LIMITED))) == []
