"""attestor/state/denialfile: what is not whole is left out, and nothing else."""

import stat
import sys
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from attestor.state.denialfile import DenialFile
from cognomen.protocol.errors import Kind, Refused
from tests.contract.test_denialstore_contract import piece, some
from tests.doubles.project import ROOT


@pytest.fixture
def file(tmp_path: Path) -> DenialFile:
    file = DenialFile(tmp_path / "state")
    file.replace(piece([1]))
    file.append(piece([2, 3]))
    return file


def test_file_and_directory_are_their_owners_alone(file: DenialFile) -> None:
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700


def test_a_write_cut_at_any_byte_costs_that_write_alone_and_the_next_one_is_kept(file: DenialFile) -> None:
    before = file.path.stat().st_size
    file.append(piece([4]))
    whole = file.path.read_bytes()
    for length in range(before, len(whole) - 1):
        file.path.write_bytes(whole[:length])
        with capture_logs() as logs:
            assert [*file.load()] == some([1, 2, 3])
        assert [line["event"] for line in logs] == ["damaged denials on disk left out"] * (length > before + 1)
        file.append(piece([5]))
        assert [*file.load()] == some([1, 2, 3, 5])
    file.path.write_bytes(whole[:-1])
    assert [*file.load()] == some([1, 2, 3, 4]), "only the end of the line is missing"


def test_a_flipped_bit_costs_its_line_at_most(file: DenialFile) -> None:
    whole = file.path.read_bytes()
    begin = whole.index(b"\n") + 1
    for place in range(begin, len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 4
        file.path.write_bytes(damaged)
        kept = [*file.load()]
        assert kept in ([], some([1]), some([2, 3]), some([1, 2, 3])), place
        assert kept or whole[place : place + 1] == b"\n", "only where two lines became one are both lost"


def test_what_does_not_begin_as_denials_is_refused_and_the_next_step_named(file: DenialFile) -> None:
    file.path.write_bytes(b"cognomen-denials 2\n")
    with pytest.raises(Refused) as refused:
        file.load()
    assert refused.value.kind is Kind.INVALID
    assert "remove the file" in refused.value.hint


def test_a_file_that_others_can_read_is_refused(file: DenialFile) -> None:
    file.path.chmod(0o640)
    with pytest.raises(Refused, match="0640"):
        file.load()


def test_a_link_is_neither_read_nor_written(file: DenialFile) -> None:
    there = file.path.rename(file.path.with_name("there"))
    file.path.symlink_to(there)
    before = there.read_bytes()
    with pytest.raises(Refused, match="symbolic link"):
        file.load()
    with pytest.raises(Refused):
        file.append(piece([4]))
    assert there.read_bytes() == before


def test_a_file_that_was_removed_is_not_begun_in_the_middle(file: DenialFile) -> None:
    file.path.unlink()
    with pytest.raises(Refused) as refused:
        file.append(piece([4]))
    assert refused.value.kind is Kind.UNAVAILABLE
    assert not file.path.exists()


WRITER = """
import sys
from pathlib import Path
from attestor.state.denialfile import DenialFile
from tests.contract.test_denialstore_contract import piece

file = DenialFile(Path(sys.argv[1]))
file.replace(piece([*(denial.number for denial in file.load())]))
for number in range(int(sys.argv[2]), 2**63):
    file.append(piece([number]))
    print(number, flush=True)
"""


@pytest.mark.parametrize("lines", [1, 20])
async def test_what_was_said_to_be_kept_survives_kill_9(tmp_path: Path, lines: int) -> None:
    first, last = 1, 0
    for _ in range(2):
        process = await create_subprocess_exec(
            sys.executable, "-c", WRITER, str(tmp_path / "state"), str(first), stdout=PIPE, cwd=ROOT
        )
        assert process.stdout is not None
        told = [int(await process.stdout.readline()) for _ in range(lines)]
        process.kill()
        rest, _ = await process.communicate()
        last = max(told + [int(line) for line in rest.split(b"\n")[:-1]])
        kept = [denial.number for denial in DenialFile(tmp_path / "state").load()]
        assert kept[:last] == [*range(1, last + 1)]
        first = len(kept) + 1
