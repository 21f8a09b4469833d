"""docs/reference/sdk.md: each public name of the SDK is there once, and each example runs beside `cognomen dev` as it is."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import svid
from bench.rig.daemons import Dev
from tests.doubles.project import ROOT

EXAMPLES = sorted((ROOT / "docs" / "reference" / "examples").glob("*.py"))
PAGE = (ROOT / "docs" / "reference" / "sdk.md").read_text()


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    with Dev(tmp_path_factory.mktemp("d"), "--entry", f"/web=unix:uid:{os.getuid()}") as running:
        yield running


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_shows_something(example: Path, dev: Dev, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, example],
        env=dev.environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert "Traceback" not in done.stderr


def test_every_public_name_is_on_the_page_once() -> None:
    assert sorted(re.findall(r"^### `(\w+)`$", PAGE, re.MULTILINE)) == sorted(svid.__all__)


@pytest.mark.parametrize("part", PAGE.split("\n## ")[1:], ids=lambda part: part.partition("\n")[0])
def test_every_name_is_used_in_the_example_of_its_group(part: str) -> None:
    code = part.partition("```python\n")[2].partition("```")[0]
    used = set(re.findall(r"\w+", code.replace("from svid import", "")))
    for name in re.findall(r"^### `(\w+)`$", part, re.MULTILINE):
        assert name in used
