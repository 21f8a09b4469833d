"""The docs: every link between them leads somewhere, and what is generated is up to date."""

import ast
import dataclasses
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import click
import pytest

import svid
from cognomen.cli.auditfile import checkpoint_line, row_line
from cognomen.cli.main import cognomen
from cognomen.protocol.auditlog import AuditRow
from issuer.decisions.actions import Action
from issuer.decisions.audit import AuditEvent
from issuer.decisions.ledger import CredentialKind
from tests.doubles.project import ROOT

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


@pytest.mark.parametrize("folder", ["docs/reference", "docs/explanation"])
def test_the_generated_pages_are_up_to_date(folder: str, tmp_path: Path) -> None:
    subprocess.run([sys.executable, f"{folder}/make.py", str(tmp_path)], cwd=ROOT, check=True)
    pages = list(tmp_path.iterdir())
    assert pages
    for page in pages:
        assert page.read_text() == (ROOT / folder / page.name).read_text(), "run make reference"


INSTALLED = re.compile(r"pip3? install (.*?)[`\n]")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pip_is_given_files_and_never_a_name_that_a_stranger_may_publish(page: Path) -> None:
    for arguments in INSTALLED.findall(page.read_text()):
        for one in shlex.split(arguments):
            assert one.startswith(("-", "./", "dist/", "/")), arguments


PROTECT = (ROOT / "docs" / "how-to" / "protect-a-service.md").read_text()


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", PROTECT, re.DOTALL))
def test_the_code_of_how_to_protect_a_service_names_what_is_there(block: str) -> None:
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and node.module == "svid":
            assert {alias.name for alias in node.names} <= set(svid.__all__)


def test_how_to_protect_a_service_says_what_else_must_be_installed_for_each_program() -> None:
    project = tomllib.loads((ROOT / "packaging" / "svid" / "pyproject.toml").read_text())["project"]
    extras = " ".join(one for group in project["optional-dependencies"].values() for one in group)
    for section in re.split(r"^## ", PROTECT, flags=re.MULTILINE):
        for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL):
            names = {one.partition(".")[0] for one in re.findall(r"^(?:from|import) ([\w.]+)", block, re.MULTILINE)}
            for name in names - set(sys.stdlib_module_names) - {"svid"}:
                said = section.partition("```")[0].lower()
                assert name in extras or f"needs {name} installed" in " ".join(said.split()), name


def test_the_commands_of_no_more_api_keys_write_a_directory_each_and_what_reads_a_file_finds_it() -> None:
    page = (ROOT / "docs" / "how-to" / "no-more-api-keys.md").read_text()
    written = re.findall(r"--write (/run/\S+)", page)
    assert len(written) == len(set(written)) >= 2, "a watch keeps its directory"
    files = {f"{directory}/{name}" for directory in written for name in re.findall(r"--token (\w+)=", page)}
    read = set(re.findall(r"/run/agent/\w+/\w+", page))
    assert len(read) >= 5
    assert read <= files


RPC = (ROOT / "docs" / "contributing" / "add-an-admin-rpc.md").read_text()


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", RPC, re.DOTALL))
def test_the_code_of_how_to_add_an_admin_rpc_is_code_of_ours(block: str) -> None:
    """Word for word, so that it is checked where it is used."""
    used = [(ROOT / path).read_text() for path in ("issuer/api/admin/nodes.py", "cognomen/cli/node.py")]
    lines = textwrap.dedent(block)
    assert any(textwrap.indent(lines, "    ") in text for text in used), lines


AUDIT = (ROOT / "docs" / "reference" / "audit.md").read_text()


def test_the_page_of_the_audit_record_names_each_field_and_action() -> None:
    fields, listed = (set(re.findall(r"`([^`]+)`", part)) for part in AUDIT.split("## Actions"))
    assert {field.name for field in dataclasses.fields(AuditEvent)} <= fields
    known = {*map(str, Action), *(f"{kind} issued" for kind in CredentialKind)}
    assert known <= listed
    assert listed - known == {"cognomen svid show", "incarnation", "of_agents", "of_component"}


@pytest.mark.parametrize(
    ("index", "pages"),
    [("docs/README.md", "docs/[!R]*.md"), ("docs/README.md", "docs/*/*.md"), ("docs/adr/README.md", "docs/adr/0*.md")],
)
def test_an_index_names_every_page(index: str, pages: str) -> None:
    links = {(ROOT / index).parent / link.partition("#")[0] for link in LINK.findall((ROOT / index).read_text())}
    named = {link.resolve() for link in links if not str(link).startswith("http")}
    apart = {ROOT / "docs/adr" / name for name in ("0000-template.md",)}
    found = set(ROOT.glob(pages)) - apart - (set() if "adr" in index else set((ROOT / "docs/adr").glob("*.md")))
    assert sorted(found - named) == []


def test_the_glossary_is_in_order_and_says_each_word_once() -> None:
    text = (ROOT / "docs" / "reference" / "glossary.md").read_text()
    words = [word.replace("`", "").lower() for word in re.findall(r"^\| \*\*(.+?)\*\* \| \S", text, re.MULTILINE)]
    assert words == sorted(set(words))
    standard = {"trust domain", "spiffe id", "x509-svid", "jwt-svid", "workload api", "workload", "selector", "peer"}
    assert standard <= set(words)


def test_every_command_of_the_auditors_page_takes_output_json() -> None:
    page = (ROOT / "docs" / "how-to" / "audit.md").read_text()
    assert "Every command also takes `--output json`" in page
    for line in re.findall(r"^\$ cognomen (.*)", page, re.MULTILINE):
        group, name, *_ = line.split()
        command = cognomen.get_command(click.Context(cognomen), group)
        assert isinstance(command, click.Group)
        leaf = command.get_command(click.Context(command), name)
        assert leaf is not None
        (output,) = [one for one in leaf.params if one.name == "output"]
        assert "json" in output.to_info_dict()["type"]["choices"], line


def test_the_row_of_the_reference_is_written_as_export_writes_it() -> None:
    assert '\n    {"number":7,"hash":"…","body":"…"}\n' in AUDIT
    assert row_line(AuditRow(number=7, body=b"b", hash=b"\0")) == '{"number":7,"hash":"00","body":"b"}'
    assert checkpoint_line(b"x") == '{"checkpoint":"x"}'
    assert '`{"checkpoint":"…"}`' in AUDIT
