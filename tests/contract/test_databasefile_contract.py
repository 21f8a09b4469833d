"""What every datastore that is one file promises to backup and recovery."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cognomen.protocol.errors import Kind, Refused
from issuer.datastore.fileport import DatabaseFile
from issuer.decisions.authority import AuthorityState
from issuer.decisions.changes import Change, ChangeKind
from tests.contract.datastores import DATABASE_FILES
from tests.doubles.issuer_values import x509_authority

Make = Callable[[Path], DatabaseFile]


@pytest.fixture(params=DATABASE_FILES.values(), ids=list(DATABASE_FILES))
def file_of(request: pytest.FixtureRequest) -> Make:
    found: Make = request.param
    return found


def untold(_done: int, _of: int) -> None:
    """Nobody wants to know."""


@pytest.fixture
async def path(file_of: Make, tmp_path: Path) -> Path:
    """A database with two authorities, the first of which signs, and one change."""
    found = tmp_path / "state" / "issuer.db"
    store = await file_of(found).open()
    signing, following = (await x509_authority()).authority, (await x509_authority(key_id="next")).authority
    await store.write(lambda tx: tx.authorities.put(signing))
    await store.write(lambda tx: tx.authorities.put(replace(following, state=AuthorityState.NEXT)))
    await store.write(lambda tx: tx.changes.append([Change(kind=ChangeKind.BUNDLE)]))
    await store.close()
    return found


async def test_a_copy_of_an_open_database_holds_what_was_committed(file_of: Make, path: Path, tmp_path: Path) -> None:
    store = await file_of(path).open()
    await store.write(lambda tx: tx.changes.append([Change(kind=ChangeKind.BUNDLE)]))
    copy = tmp_path / "copy"
    copy.write_bytes(b"")
    told: list[tuple[int, int]] = []
    contents = file_of(path).snapshot(copy, progress=lambda done, of: told.append((done, of)))
    head = await store.read(lambda tx: tx.changes.head())
    await store.close()
    assert (contents.change, contents.incarnation) == (2, head.incarnation)
    assert contents.keys == {"x509-1": True, "next": False}
    assert contents.size == copy.stat().st_size
    assert told[-1][0] == told[-1][1]
    assert file_of(copy).contents() == contents


@pytest.mark.parametrize("content", [b"", b"no database, " * 1000])
def test_what_is_none_of_ours_is_invalid_to_read(file_of: Make, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(Refused) as refused:
        file_of(tmp_path / "other").contents()
    assert refused.value.kind is Kind.INVALID


def test_what_is_not_there_cannot_be_read(file_of: Make, tmp_path: Path) -> None:
    (tmp_path / "copy").write_bytes(b"")
    for work in (
        file_of(tmp_path / "none").contents,
        lambda: file_of(tmp_path / "none").snapshot(tmp_path / "copy", progress=untold),
    ):
        with pytest.raises(Refused) as refused:
            work()
        assert refused.value.kind is Kind.UNAVAILABLE


async def test_what_was_acknowledged_is_in_the_file_once_the_store_is_closed(file_of: Make, path: Path) -> None:
    assert not file_of(path).has_log()
