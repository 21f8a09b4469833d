"""cognomen/gate/shares: one account leaves room to the others."""

from cognomen.gate.shares import Places, Queue, Room, Share, Shelf

A, B, C = 1000, 1001, 1002


def test_one_account_takes_half_of_the_room_and_each_further_one_finds_some() -> None:
    room = Room(Share.MINTS, 100)
    assert sum(room.take(A) for _ in range(200)) == 50
    assert sum(room.take(B) for _ in range(200)) == 25
    assert room.take(C)


def test_room_that_is_given_back_can_be_taken_again() -> None:
    room = Room(Share.MINTS, 4)
    assert [room.take(A) for _ in range(3)] == [True, True, False]
    room.give_back(A)
    assert room.take(A)


def test_whoever_has_most_places_gives_up_its_newest_until_all_have_as_many() -> None:
    ended: list[int] = []
    places: Places[int] = Places(Share.CALLS, 6, each=5)
    assert [places.take(A, n, lambda n=n: ended.append(n)) for n in range(6)] == [True] * 5 + [False]  # type: ignore[misc]  # mypy does not infer a lambda with a default
    assert [places.take(B, n, lambda n=n: ended.append(n)) for n in range(10, 14)] == [True] * 3 + [False]  # type: ignore[misc]  # likewise
    assert ended == [4, 3]
    assert places.take(C, 20, lambda: ended.append(20))
    assert len(places) == 6
    places.give_back(A, 4)  # it went to another account
    assert len(places) == 6
    places.give_back(A, 0)
    assert places.take(B, 14, lambda: None)


def test_accounts_with_one_place_each_take_none_from_each_other() -> None:
    places: Places[int] = Places(Share.CALLS, 2, each=2)
    assert [places.take(who, who, lambda: None) for who in (A, B, C)] == [True, True, False]


def test_accounts_take_turns_in_a_queue() -> None:
    queue: Queue[str] = Queue(Share.MINTS)
    for item in ("a1", "a2", "a3"):
        queue.put(A, item)
    queue.put(B, "b1")
    assert queue.take(3) == ["a1", "b1", "a2"]
    assert queue
    assert queue.take(3) == ["a3"]
    assert not queue


def test_only_so_many_of_each_account_are_taken_from_a_queue() -> None:
    queue: Queue[str] = Queue(Share.MINTS)
    for whose, item in ((A, "a1"), (A, "a2"), (A, "a3"), (B, "b1"), (C, "c1")):
        queue.put(whose, item)
    assert queue.take(9, each=1) == ["a1", "b1", "c1"]
    assert queue.take(9, each=1) == ["a2"]
    assert queue.take(0) == []
    assert queue.take(9) == ["a3"]


def test_a_shelf_keeps_what_was_used_last() -> None:
    shelf: Shelf[str, int] = Shelf(Share.TOKENS, 2)
    shelf.put(A, "x", 1)
    shelf.put(A, "y", 2)
    shelf.use("x")
    shelf.put(A, "z", 3)
    assert (shelf.get("x"), shelf.get("y"), shelf.get("z"), len(shelf)) == (1, None, 3, 2)


def test_who_keeps_most_makes_room() -> None:
    shelf: Shelf[tuple[int, int], int] = Shelf(Share.TOKENS, 10)
    shelf.put(B, (B, 0), 0)
    for number in range(100):
        shelf.put(A, (A, number), number)
    assert shelf.get((B, 0)) == 0
    assert len(shelf) == 10
    for number in range(1, 5):
        shelf.put(B, (B, number), number)
    assert [shelf.get((B, number)) for number in range(5)] == list(range(5))
    assert len(shelf) == 10
    assert shelf.get((C, 1)) is None


def test_an_account_whose_last_thing_made_room_is_forgotten() -> None:
    shelf: Shelf[str, int] = Shelf(Share.TOKENS, 1)
    shelf.put(A, "a", 1)
    shelf.put(B, "b", 1)
    assert (shelf.get("a"), shelf.get("b"), len(shelf)) == (None, 1, 1)


def test_what_is_put_again_takes_no_second_place_and_is_whose_it_was_put_by() -> None:
    shelf: Shelf[int, int] = Shelf(Share.TOKENS, 2)
    for value in range(5):
        shelf.put(A, 1, value)
    assert (shelf.get(1), len(shelf)) == (4, 1)
    shelf.put(B, 1, 5)
    for key in (2, 3, 4):
        shelf.put(A, key, 0)
    assert [shelf.get(key) for key in (1, 2, 3, 4)] == [5, None, None, 0]
