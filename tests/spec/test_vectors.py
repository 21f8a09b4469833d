"""Every golden file is judged as its index says, and the files are what certs/make.py writes."""

from pathlib import Path

import pytest

from certs.vectors import write_vectors
from tests.doubles.project import ROOT
from tests.spec.vectors import Vector, all_vectors, refusal

_FOLDER = ROOT / "tests" / "vectors"


@pytest.mark.parametrize("vector", all_vectors(), ids=lambda vector: f"{vector.kind}/{vector.name}")
def test_a_vector_is_judged_as_its_index_says(vector: Vector) -> None:
    assert refusal(vector.kind, vector.name) == vector.refused_by


def test_writing_the_vectors_again_leaves_no_diff(tmp_path: Path) -> None:
    write_vectors(tmp_path)
    written = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    stored = {path.relative_to(_FOLDER): path.read_bytes() for path in _FOLDER.rglob("*") if path.is_file()}
    assert written == stored


def test_no_private_key_is_among_the_vectors() -> None:
    for path in _FOLDER.rglob("*"):
        assert not path.is_file() or b"PRIVATE KEY" not in path.read_bytes()
