"""attestor/shares: one entry leaves room to the others."""

from attestor.shares import Queue, Room, Shelf
from svid.entry import EntryID

A, B, C = map(EntryID, "abc")


def test_one_entry_takes_half_of_the_room_and_each_further_one_finds_some() -> None:
    room = Room(100)
    assert sum(room.take(A) for _ in range(200)) == 50
    assert sum(room.take(B) for _ in range(200)) == 25
    assert room.take(C)


def test_room_that_is_given_back_can_be_taken_again() -> None:
    room = Room(4)
    assert [room.take(A) for _ in range(3)] == [True, True, False]
    room.give_back(A)
    assert room.take(A)


def test_entries_take_turns_in_a_queue() -> None:
    queue: Queue[str] = Queue()
    for item in ("a1", "a2", "a3"):
        queue.put(A, item)
    queue.put(B, "b1")
    assert queue.take(3) == ["a1", "b1", "a2"]
    assert queue
    assert queue.take(3) == ["a3"]
    assert not queue


def test_a_shelf_keeps_what_was_used_last() -> None:
    shelf: Shelf[str, int] = Shelf(2)
    shelf.put(A, "x", 1)
    shelf.put(A, "y", 2)
    shelf.use(A, "x")
    shelf.put(A, "z", 3)
    assert (shelf.get(A, "x"), shelf.get(A, "y"), shelf.get(A, "z"), len(shelf)) == (1, None, 3, 2)


def test_who_keeps_most_makes_room() -> None:
    shelf: Shelf[int, int] = Shelf(10)
    shelf.put(B, 0, 0)
    for number in range(100):
        shelf.put(A, number, number)
    assert shelf.get(B, 0) == 0
    assert len(shelf) == 10
    for number in range(1, 5):
        shelf.put(B, number, number)
    assert [shelf.get(B, number) for number in range(5)] == list(range(5))
    assert len(shelf) == 10
    assert shelf.get(C, 1) is None


def test_an_entry_whose_last_thing_made_room_is_forgotten() -> None:
    shelf: Shelf[int, int] = Shelf(1)
    shelf.put(A, 1, 1)
    shelf.put(B, 1, 1)
    assert (shelf.get(A, 1), shelf.get(B, 1), len(shelf)) == (None, 1, 1)


def test_what_is_put_again_takes_no_second_place() -> None:
    shelf: Shelf[int, int] = Shelf(2)
    for value in range(5):
        shelf.put(A, 1, value)
    assert (shelf.get(A, 1), len(shelf)) == (4, 1)
