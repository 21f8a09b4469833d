"""What a change of entries means to a program, and how much of it an answer names."""

from hypothesis import given
from hypothesis import strategies as st

from attestor.decisions.effects import answer_of, effect, facts_of, program_change
from cognomen.protocol.entry import RegistrationEntry
from cognomen.protocol.questions import MOST_IDS, MOST_PROGRAMS, ProgramChange
from cognomen.rulebook.matching import Index
from cognomen.wire.questions import answer_to_pb
from svid.spiffeid import SpiffeID
from tests.doubles.workloadside import TRUST_DOMAIN, entry

names = st.sampled_from("abcd")
entries = st.builds(lambda name, path, uid: entry(name, f"unix:uid:{uid}", path=path), names, names, st.integers(1, 2))
worlds = st.dictionaries(names, entries).map(lambda some: {one.id: one for one in some.values()})
MINE = next(iter(entry("x", "unix:uid:1").selectors))


def ids_of(some: list[RegistrationEntry]) -> frozenset[SpiffeID]:
    return frozenset(one.spiffe_id for one in some if MINE in one.selectors)


@given(worlds, worlds)
def test_a_program_gains_and_loses_what_it_would_match_and_does_not_and_the_other_way_round(
    now: dict[str, RegistrationEntry], then: dict[str, RegistrationEntry]
) -> None:
    put = [one for key, one in then.items() if now.get(key) != one]
    touched = {one.id for one in put} | {one.id for key, one in now.items() if key not in then}
    mine = frozenset({MINE})
    gains, loses = effect(Index(now.values()).match(mine), Index(put).match(mine), touched)
    before, after = ids_of(list(now.values())), ids_of(list(then.values()))
    assert (gains, loses) == (after - before, before - after)


def test_an_identity_that_another_entry_also_gives_is_neither_gained_nor_lost() -> None:
    old, other = entry("old", "unix:uid:1", path="web"), entry("other", "unix:uid:1", path="web")
    assert effect([old], [other], {old.id, other.id}) == (frozenset(), frozenset())
    assert effect([old, other], [], {old.id}) == (frozenset(), frozenset())


def test_the_facts_of_entries_are_the_keys_of_their_selectors() -> None:
    some = [entry("a", "unix:uid:1", "unix:path:/bin/a:b"), entry("b", "cloud:whole")]
    assert facts_of(some) == {"unix:uid", "unix:path", "cloud:whole"}


def test_identities_beyond_the_limit_are_counted() -> None:
    some = {SpiffeID(trust_domain=TRUST_DOMAIN, path=f"/{number:03}") for number in range(MOST_IDS + 3)}
    change = program_change(1, 2, "/bin/a", gains=some, loses=set())
    assert [one.path for one in change.gains] == [f"/{number:03}" for number in range(MOST_IDS)]
    assert (change.gains_more, change.loses, change.loses_more) == (3, (), 0)


def test_a_uid_with_many_programs_does_not_crowd_out_the_others() -> None:
    many = [ProgramChange(pid=pid, uid=1, executable="") for pid in range(2000)]
    found = answer_of([*many, ProgramChange(pid=7, uid=2, executable="")], unknown=3)
    assert (len(found.programs), found.programs_more, found.unknown) == (MOST_PROGRAMS, 1001, 3)
    assert [one.uid for one in found.programs[:2]] == [1, 2]


def test_an_answer_fits_in_a_message_of_the_door() -> None:
    ids = {SpiffeID(trust_domain=TRUST_DOMAIN, path=f"/{number:02}{'a' * 2000}") for number in range(MOST_IDS)}
    some = [program_change(pid + 1, pid, "/" * 512, gains=ids, loses=ids) for pid in range(100)]
    found = answer_of(some, unknown=0)
    assert 0 < len(found.programs) < len(some)
    assert found.programs_more == len(some) - len(found.programs)
    assert answer_to_pb("q" * 32, found).ByteSize() < 512 * 1024
