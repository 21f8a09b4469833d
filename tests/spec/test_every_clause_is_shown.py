"""Each clause of clauses.toml is shown by a test, or says why not."""

import ast
import tomllib
from collections.abc import Iterator

from tests.doubles.project import ROOT

TESTS = ROOT / "tests"
CLAUSES = tomllib.loads((TESTS / "spec" / "clauses.toml").read_text())


def shown() -> set[str]:
    """Read the markers from the source, so that a test that is skipped here counts too."""
    return {clause for path in TESTS.rglob("test_*.py") for clause in _marked(ast.parse(path.read_text()))}


def _marked(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.clause":
            yield from (str(ast.literal_eval(argument)) for argument in node.args)


def test_each_clause_has_a_test_or_a_reason() -> None:
    assert sorted(set(CLAUSES) - shown() - {name for name, clause in CLAUSES.items() if clause.get("reason")}) == []


def test_no_clause_has_a_test_and_a_reason_why_there_is_none() -> None:
    assert sorted(name for name in shown() & set(CLAUSES) if "reason" in CLAUSES[name]) == []


def test_each_marker_names_a_clause() -> None:
    assert sorted(shown() - set(CLAUSES)) == []


def test_each_clause_has_a_rule_in_words() -> None:
    assert [name for name, clause in CLAUSES.items() if not clause["rule"] or clause.keys() - {"rule", "reason"}] == []
