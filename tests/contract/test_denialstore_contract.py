"""What every place for denials does."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from attestor.deniallog import DenialLog, Piece
from attestor.state.denialfile import DenialFile
from attestor.state.port import DenialStore
from svid.denials import Denial
from tests.doubles.state import MemoryDenials

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> DenialStore:
    makers: dict[str, Callable[[], DenialStore]] = {
        "file": lambda: DenialFile(tmp_path / "state"),
        "memory": MemoryDenials,
    }
    return makers[request.param]()


def some(numbers: Iterable[int]) -> list[Denial]:
    return [Denial(number, NOON + timedelta(seconds=number % 2**31)) for number in numbers]


def piece(numbers: Iterable[int]) -> Piece:
    return DenialLog(some(numbers)).after(0)


def test_a_new_place_holds_nothing(store: DenialStore) -> None:
    assert not store.load()


def test_what_is_added_is_kept_behind_what_was_there(store: DenialStore) -> None:
    store.replace(piece([3]))
    store.append(piece([2**128 - 1, 0]))
    store.append(piece([5]))
    assert [*store.load()] == some([3, 2**128 - 1, 0, 5])


def test_a_replacement_forgets_what_was_there(store: DenialStore) -> None:
    store.replace(piece([1, 2]))
    store.append(piece([3]))
    store.replace(piece([2]))
    assert [*store.load()] == some([2])
    store.replace(piece([]))
    assert not store.load()


def test_tens_of_thousands_are_kept(store: DenialStore) -> None:
    store.replace(piece(range(20_000)))
    store.append(piece(range(20_000, 30_000)))
    assert [*store.load()] == some(range(30_000))
