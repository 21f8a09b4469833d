"""Uses on the wire: what a node may report of its processes, and nothing else."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognomen.protocol.entry import EntryID
from cognomen.protocol.uses import MOST_EXECUTABLE, EntryUse, ReportedUses, short_path
from cognomen.wire.pb import node_pb2 as pb
from cognomen.wire.uses import observed_from_pb, reported_from_pb, reported_to_pb, use_from_pb, use_to_pb
from svid.errors import SVIDError
from tests.doubles.uses import a_use

numbers = st.integers(0, 2**32 - 2)
moments = st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the strategy adds the zone
paths = st.text(st.characters().filter(str.isprintable), max_size=600).map(short_path)
uses = st.builds(
    EntryUse,
    entry_id=st.text(min_size=1, max_size=64).map(EntryID),
    uid=numbers,
    account=numbers,
    gid=numbers,
    pid=st.integers(0, 2**31 - 1),
    started=st.integers(0, 2**63 - 1),
    executable=paths,
    processes=st.just(1) | st.integers(1, 1_000_000_000),
    first_at=moments,
    last_at=moments,
    x509=st.booleans(),
    jwt=st.booleans(),
).filter(lambda use: use.first_at <= use.last_at and (use.x509 or use.jwt) and (use.pid == 0 or use.processes == 1))


@given(uses)
def test_what_is_written_is_read_again(use: EntryUse) -> None:
    assert use_from_pb(pb.Use.FromString(use_to_pb(use).SerializeToString())) == use


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"entry_id": EntryID("")}, "entry_id: expected 1 to 64 characters, found 0"),
        ({"entry_id": EntryID("x" * 65)}, "entry_id: expected 1 to 64 characters, found 65"),
        ({"executable": "x" * 513}, "executable: expected at most 512 printable characters"),
        ({"executable": "a\x1b[2J"}, "executable: expected at most 512 printable characters"),
        ({"started": 2**63}, "started: expected at most"),
        ({"processes": 0}, "processes: expected 1 to 1 with the pid 4711, found 0"),
        ({"processes": 2}, "processes: expected 1 to 1 with the pid 4711, found 2"),
        ({"pid": 0, "processes": 0}, "processes: expected 1 to 1000000000, found 0"),
        ({"pid": 0, "processes": 1_000_000_001}, "processes: expected 1 to 1000000000"),
        ({"x509": False}, "x509, jwt: expected at least one kind that was given, found neither"),
        ({"uid": 2**32 - 1}, "uid: expected at most 4294967294, found 4294967295"),
        ({"gid": 2**32 - 1}, "gid: expected at most 4294967294, found 4294967295"),
        ({"account": 2**32 - 1}, "account: expected at most 4294967294, found 4294967295"),
        ({"pid": 2**31}, "pid: expected at most 2147483647, found 2147483648"),
        ({"first_at": a_use().last_at + timedelta(seconds=1)}, "last_at: expected a time that is not before first_at"),
    ],
)
def test_what_is_out_of_its_limits_is_refused(fields: dict[str, object], found: str) -> None:
    with pytest.raises(SVIDError, match=found.replace("[", r"\[")):
        use_from_pb(use_to_pb(a_use(**fields)))


@given(st.integers(1, 1_000_000_000), paths)
def test_what_was_observed_is_read_again(times: int, audience: str) -> None:
    observed = replace(a_use(), is_observed=True, times=times, refused_audience=audience)
    assert observed_from_pb(pb.Use.FromString(use_to_pb(observed).SerializeToString())) == observed


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"times": 0}, "times: expected 1 to 1000000000, found 0"),
        ({"times": 1_000_000_001}, "times: expected 1 to 1000000000, found 1000000001"),
        ({"refused_audience": "x" * 513}, "refused_audience: expected at most 512 printable characters"),
        ({"refused_audience": "a\x1b[2J"}, "refused_audience: expected at most 512 printable characters"),
        ({"uid": 2**32 - 1}, "uid: expected at most 4294967294, found 4294967295"),
    ],
)
def test_what_was_observed_out_of_its_limits_is_refused(fields: dict[str, object], found: str) -> None:
    with pytest.raises(SVIDError, match=found):
        observed_from_pb(use_to_pb(a_use(is_observed=True, **fields)))


@given(st.tuples(*[st.timedeltas(timedelta(), timedelta(days=36_500))] * 2).map(sorted))
def test_the_time_of_which_every_use_was_reported_is_read_again(ends: list[timedelta]) -> None:
    reported = ReportedUses(since=ends[1], until=ends[0])
    assert reported_from_pb(pb.ReportedUses.FromString(reported_to_pb(reported).SerializeToString())) == reported


@pytest.mark.parametrize(
    ("since", "until"),
    [(1, 2), (1, -1), (-1, -1), (36_500 * 86_400 + 1, 0), (2**63 - 1, 0), (2**63 - 1, 2**63 - 1), (0, -(2**63))],
)
def test_a_time_that_cannot_be_is_refused(since: int, until: int) -> None:
    message = pb.ReportedUses()
    message.since.seconds, message.until.seconds = since, until
    with pytest.raises(SVIDError, match="expected"):
        reported_from_pb(message)


@given(st.text(st.characters(), max_size=2000))
def test_a_path_is_made_to_fit_and_then_stays_as_it_is(path: str) -> None:
    shown = short_path(path)
    assert shown.isprintable()
    assert len(shown.encode()) <= MOST_EXECUTABLE
    assert short_path(shown) == shown
    assert shown == path or "\\" in shown or f"({len(path)} characters)" in shown


def test_a_path_with_more_bytes_than_characters_is_cut_and_not_refused() -> None:
    use = a_use(executable="/" + "\U00020000" * 500)
    found = use_from_pb(use_to_pb(use)).executable
    assert found.startswith("/\U00020000\U00020000")
    assert found.endswith("… (501 characters)")
    assert len(found.encode()) <= MOST_EXECUTABLE


@pytest.mark.parametrize("nanos", [-1, 1_000_000_000])
def test_more_than_a_second_beside_the_seconds_is_refused(nanos: int) -> None:
    message = use_to_pb(a_use())
    message.first_at.nanos = nanos
    with pytest.raises(SVIDError, match=f"first_at: expected 0 to 999999999 ns after a full second, found {nanos}"):
        use_from_pb(message)


@pytest.mark.parametrize("field", ["first_at", "last_at"])
def test_a_time_outside_the_calendar_is_refused(field: str) -> None:
    message = use_to_pb(a_use())
    getattr(message, field).seconds = 2**60
    with pytest.raises(SVIDError, match=f"{field}: expected a time in the years 1 to 9999"):
        use_from_pb(message)
