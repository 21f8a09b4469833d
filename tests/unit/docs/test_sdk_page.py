"""The page of the SDK has its examples as they are run."""

import ast
from pathlib import Path

import pytest

from tests.doubles.project import ROOT

PAGE = (ROOT / "docs" / "reference" / "sdk.md").read_text()
EXAMPLES = sorted((ROOT / "docs" / "reference" / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_whole(path: Path) -> None:
    source = path.read_text()
    code = source.splitlines()[ast.parse(source).body[0].end_lineno :]
    assert "\n".join(code).strip() in PAGE
