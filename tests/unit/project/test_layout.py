"""The folders of tests/unit mirror those of the project."""

from tests.doubles.project import ROOT

UNIT = ROOT / "tests" / "unit"
PROJECT = UNIT / "project"  # tests of the repository itself


def test_each_folder_of_unit_tests_mirrors_a_folder_of_the_project() -> None:
    folders = {test.parent for test in UNIT.rglob("test_*.py")} - {PROJECT}
    assert UNIT not in folders
    assert [str(folder) for folder in sorted(folders) if not (ROOT / folder.relative_to(UNIT)).is_dir()] == []
