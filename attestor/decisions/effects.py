"""What it would mean to a program if the node's entries changed: the identities that it would gain and lose.

Which entries a program matches: cognomen/rulebook/matching.
"""

from collections.abc import Collection, Iterable, Sequence

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.questions import MOST_IDS, MOST_PROGRAMS, Answer, ProgramChange
from cognomen.protocol.receipts import in_turns
from svid.spiffeid import SpiffeID

__all__ = ["answer_of", "effect", "facts_of", "program_change"]

_MOST_BYTES = 384 * 1024  # the issuer's door accepts 512 KiB
_FIELDS_BYTES = 64  # at most, of a program without its texts; of an ID, 4


def facts_of(entries: Iterable[RegistrationEntry]) -> frozenset[str]:
    """The keys of selectors that these entries use, as `type:key` (`unix:sha256`)."""
    return frozenset(f"{one.type}:{one.value.partition(':')[0]}" for entry in entries for one in entry.selectors)


def effect(
    matched: Iterable[RegistrationEntry], put: Iterable[RegistrationEntry], touched: Collection[EntryID]
) -> tuple[frozenset[SpiffeID], frozenset[SpiffeID]]:
    """The identities that a program would gain, and those that it would lose; entries that only observe give none.

    Args:
        matched: the entries that it matches now.
        put: those of the new or changed ones that it would match.
        touched: every entry that would be new, changed or gone.
    """
    before, after = set(), {entry.spiffe_id for entry in put if not entry.observe}
    for entry in matched:
        if entry.observe:
            continue
        before.add(entry.spiffe_id)
        if entry.id not in touched:
            after.add(entry.spiffe_id)
    return frozenset(after - before), frozenset(before - after)


def program_change(
    pid: int, uid: int, executable: str, *, gains: Collection[SpiffeID], loses: Collection[SpiffeID]
) -> ProgramChange:
    """What an answer says about a program."""
    named = [sorted(ids, key=str)[:MOST_IDS] for ids in (gains, loses)]
    return ProgramChange(
        pid=pid,
        uid=uid,
        executable=executable,
        gains=tuple(named[0]),
        loses=tuple(named[1]),
        gains_more=len(gains) - len(named[0]),
        loses_more=len(loses) - len(named[1]),
    )


def answer_of(programs: Sequence[ProgramChange], *, unknown: int) -> Answer:
    """An answer that fits in a message: a uid with many programs does not crowd the others out."""
    named: list[ProgramChange] = []
    size = 0
    for program in in_turns(sorted(programs, key=lambda one: (one.uid, one.pid)), lambda one: one.uid):
        size += _weight(program)
        if len(named) == MOST_PROGRAMS or size > _MOST_BYTES:
            break
        named.append(program)
    return Answer(programs=tuple(named), programs_more=len(programs) - len(named), unknown=unknown)


def _weight(program: ProgramChange) -> int:
    ids = sum(len(str(one)) + 4 for one in (*program.gains, *program.loses))
    return _FIELDS_BYTES + len(program.executable.encode()) + ids
