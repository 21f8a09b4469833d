"""The meter: buckets, frame borders, what is refused before h2 sees it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.rig.attacks import frame, greeting, request
from cognomen.gate.meter import Bucket, Frames, Limits, Misbehaved, Patience, goaway

DATA, HEADERS, RST, SETTINGS, PING, CONTINUATION = 0, 1, 3, 4, 6, 9
END_STREAM, END_HEADERS = 1, 4


def greeted(*, header_bytes: int = 1024) -> Frames:
    frames = Frames(header_bytes=header_bytes)
    frames.cut(bytearray(greeting), 16)
    return frames


def test_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = Bucket(rate=10, burst=20, now=0)
    bucket.take(20, 0)
    assert bucket.wait(0) == 0
    bucket.take(5, 0)
    assert bucket.wait(0) == pytest.approx(0.5)
    assert bucket.wait(0.5) == 0


def test_bucket_never_holds_more_than_its_burst() -> None:
    bucket = Bucket(rate=10, burst=20, now=0)
    bucket.take(25, 1000)
    assert bucket.wait(1000) == pytest.approx(0.5)


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 50)), max_size=30))
def test_bucket_never_gives_more_than_burst_and_rate_allow(steps: list[tuple[float, float]]) -> None:
    bucket, now, taken, last = Bucket(rate=10, burst=20, now=0), 0.0, 0.0, 0.0
    for pause, amount in steps:
        now += pause
        if bucket.wait(now) == 0:
            bucket.take(amount, now)
            taken, last = taken + amount, amount
    assert taken - last <= 20 + 10 * now + 1e-6


def test_nothing_is_cut_before_the_preface_is_whole() -> None:
    frames = Frames(header_bytes=1024)
    assert frames.cut(bytearray(greeting[:23]), 16).size == 0
    assert not frames.between_blocks


@pytest.mark.parametrize(
    ("first", "http1"),
    [
        (b"GET", True),
        (b"PRI * HTTP/1", True),
        (b"G", True),
        (b"OPTIONS * HTTP/1.0", True),
        (b"INVALID", False),
        (b"get", False),
        (b"\x16\x03", False),
    ],
)
def test_an_older_http_is_known_by_its_method(first: bytes, *, http1: bool) -> None:
    with pytest.raises(Misbehaved) as refused:
        Frames(header_bytes=1024).cut(bytearray(first), 16)
    assert refused.value.http1 is http1


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x02", b"PRI * HTTP/1", b"\0"])
def test_another_preface_is_refused_at_its_first_wrong_byte(first: bytes) -> None:
    with pytest.raises(Misbehaved, match="expected the HTTP/2 preface"):
        Frames(header_bytes=1024).cut(bytearray(first), 16)


@given(
    st.lists(st.tuples(st.sampled_from([DATA, SETTINGS, PING, RST, 77]), st.binary(max_size=40)), max_size=20),
    st.data(),
)
def test_frames_are_cut_alike_however_the_bytes_arrive(made: list[tuple[int, bytes]], data: st.DataObject) -> None:
    stream = greeting + b"".join(frame(kind, 0, 1, payload) for kind, payload in made)
    pieces, at = [], 0
    while at < len(stream):
        size = data.draw(st.integers(1, len(stream) - at))
        pieces.append(stream[at : at + size])
        at += size
    frames, waiting, cost, passed = Frames(header_bytes=1024), bytearray(), 0, b""
    for piece in pieces:
        waiting += piece
        while (cut := frames.cut(waiting, 3)).size:
            passed += waiting[: cut.size]
            cost += cut.cost
            del waiting[: cut.size]
    whole = Frames(header_bytes=1024).cut(bytearray(stream), 1000)
    assert (passed, cost) == (stream, whole.cost)


def test_no_more_frames_are_cut_than_asked_for() -> None:
    ping = frame(PING, 0, 0, bytes(8))
    cut = greeted().cut(bytearray(ping * 10), 4)
    assert (cut.size, cut.frames) == (4 * len(ping), 4)


def test_the_frames_of_a_call_are_no_control_frames() -> None:
    cut = greeted().cut(bytearray(request(1) + frame(DATA, 0, 1, b"x") + frame(DATA, END_STREAM, 1)), 16)
    assert (cut.cost, cut.control) == (3, 0)


@pytest.mark.parametrize(
    ("sent", "least"),
    [
        (frame(PING, 0, 0, bytes(8)), 10),
        (frame(DATA, 0, 1), 10),
        (frame(RST, 0, 1, bytes(4)), 50),
        (frame(99, 0, 0), 10),
    ],
)
def test_frames_that_no_call_needs_cost_more_and_are_control(sent: bytes, least: int) -> None:
    cut = greeted().cut(bytearray(sent), 16)
    assert (cut.cost, cut.control) == (least, least)


def test_bytes_cost_by_the_kilobyte() -> None:
    assert greeted().cut(bytearray(frame(DATA, 0, 1, bytes(16_384))), 16).cost == 17


def test_headers_cost_by_64_bytes() -> None:
    assert greeted().cut(bytearray(frame(HEADERS, END_HEADERS, 1, bytes(640))), 16).cost == 11
    assert greeted().cut(bytearray(frame(CONTINUATION, END_HEADERS, 1, bytes(640))), 16).cost == 20


def test_a_cut_ends_behind_the_block_that_makes_its_headers_long() -> None:
    usual, long = (frame(HEADERS, END_HEADERS, 1, bytes(size)) for size in (30, 300))
    assert greeted().cut(bytearray(usual * 4), 16).frames == 4
    assert greeted().cut(bytearray(long * 4), 16).frames == 1
    assert greeted().cut(bytearray(usual + long + usual), 16).frames == 2


def test_frame_over_16_kib_is_refused_by_its_header() -> None:
    with pytest.raises(Misbehaved, match="frame: expected at most 16384 bytes, found 16385"):
        greeted().cut(bytearray((16_385).to_bytes(3, "big") + bytes(6)), 16)


def test_header_block_over_the_limit_is_refused() -> None:
    frames = greeted(header_bytes=100)
    frames.cut(bytearray(frame(HEADERS, 0, 1, bytes(60))), 16)
    assert not frames.between_blocks
    with pytest.raises(Misbehaved, match="headers: expected at most 100 bytes"):
        frames.cut(bytearray(frame(CONTINUATION, 0, 1, bytes(60))), 16)


def test_header_block_of_empty_frames_ends_too() -> None:
    frames = greeted(header_bytes=100)
    with pytest.raises(Misbehaved, match="headers"):
        frames.cut(bytearray(frame(HEADERS, 0, 1) + frame(CONTINUATION, 0, 1) * 200), 1000)


def test_header_block_that_ends_is_forgotten() -> None:
    frames = greeted(header_bytes=100)
    for _ in range(5):
        frames.cut(bytearray(frame(HEADERS, 0, 1, bytes(60)) + frame(CONTINUATION, END_HEADERS, 1, bytes(30))), 16)
    assert frames.between_blocks


def test_patience_bears_a_burst_and_ends_under_a_flood() -> None:
    patience = Patience(rate=1000, now=0)
    patience.bear(2000, 0)

    def flood() -> None:
        for second in range(60):
            patience.bear(1000, second)

    with pytest.raises(Misbehaved, match="flood of control frames"):
        flood()


def test_patience_bears_half_the_rate_for_ever() -> None:
    patience = Patience(rate=1000, now=0)
    for second in range(1000):
        patience.bear(500, second)


def test_the_example_at_the_head_of_the_meter_is_what_happens() -> None:
    limits = Limits()
    call = frame(HEADERS, END_HEADERS, 1, bytes(100)) + frame(DATA, END_STREAM, 1, bytes(10))
    assert greeted().cut(bytearray(call), 16).cost == 3
    bucket = Bucket(rate=limits.rate, burst=limits.rate, now=0)
    patience = Patience(rate=limits.rate, now=0)
    seen, now = list[float](), 0.0

    def flood() -> None:
        nonlocal now
        while True:
            cut = greeted().cut(bytearray(frame(RST, 0, 1, bytes(4)) * 8), 8)
            bucket.take(cut.cost, now)
            patience.bear(cut.control, now)
            seen.extend([now] * cut.frames)
            now += bucket.wait(now)

    with pytest.raises(Misbehaved, match="flood of control frames"):
        flood()
    assert seen.count(0) == pytest.approx(200, abs=8)
    assert len(seen) == pytest.approx(800, abs=16)
    assert now == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize(("nothing_was_done", "last"), [(True, 0), (False, 2**31 - 1)])
def test_goaway_names_the_last_stream_that_may_have_been_served(*, nothing_was_done: bool, last: int) -> None:
    said = goaway(0xB, "why", nothing_was_done=nothing_was_done)
    assert said == frame(SETTINGS, 0, 0) + frame(7, 0, 0, last.to_bytes(4, "big") + b"\0\0\0\x0bwhy")


def test_patience_forgets_the_control_frames_of_answered_calls() -> None:
    patience = Patience(rate=1000, now=0)
    for _ in range(100):
        patience.bear(2000, now=0)
        patience.excuse(2000)
