"""The docs: every link between them leads somewhere, and what is generated is up to date."""

import ast
import dataclasses
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import svid
from cognomen.daemon.auditlog import RESTORED
from issuer.decisions.audit import AuditEvent, CredentialKind

ROOT = Path(__file__).parents[2]
PAGES = sorted(path for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors that a forge makes of a page's headings."""
    headings = HEADING.findall(re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for link in LINK.findall(text):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_generated_pages_are_up_to_date(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "docs/reference/make.py", str(tmp_path)], cwd=ROOT, check=True)
    for page in tmp_path.iterdir():
        assert page.read_text() == (ROOT / "docs" / "reference" / page.name).read_text(), "run make reference"


PROTECT = (ROOT / "docs" / "how-to" / "protect-a-service.md").read_text()


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", PROTECT, re.DOTALL))
def test_the_code_of_how_to_protect_a_service_names_what_is_there(block: str) -> None:
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and node.module == "svid":
            assert {alias.name for alias in node.names} <= set(svid.__all__)


AUDIT = (ROOT / "docs" / "reference" / "audit.md").read_text()
RECORDED = {"_put", "_change"}  # take an action as their argument


def actions() -> Iterator[str]:
    """What the issuer's source names as an action of the record."""
    for path in ((ROOT / "issuer" / "recording.py"), *(ROOT / "issuer" / "flows").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            named = [keyword.value for keyword in node.keywords if keyword.arg == "action"]
            if isinstance(node.func, ast.Attribute) and node.func.attr in RECORDED:
                named += node.args
            yield from (one.value for one in named if isinstance(one, ast.Constant) and isinstance(one.value, str))


def test_the_page_of_the_audit_record_names_each_field_and_action() -> None:
    fields, listed = (set(re.findall(r"`([^`]+)`", part)) for part in AUDIT.split("## Actions"))
    assert {field.name for field in dataclasses.fields(AuditEvent)} <= fields
    issued = {f"{kind} issued" for kind in CredentialKind if kind is not CredentialKind.AUTHORITY}
    known = {*actions(), *issued, "x509 minted", "jwt minted", RESTORED}
    assert len(known) > 25
    assert known <= listed
    assert listed - known == {"cognomen svid show", "incarnation"}
