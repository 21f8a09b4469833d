"""What a list of wanted entries and the entries of the issuer differ in: which describes which, and what must be done."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.selector import Selector
from svid.spiffeid import SpiffeID

__all__ = ["Difference", "compare"]


class _Name(NamedTuple):
    """What an entry is about; several may have the same."""

    spiffe_id: SpiffeID
    parent_id: SpiffeID


class _Identity(NamedTuple):
    """What no two entries have both."""

    name: _Name
    selectors: frozenset[Selector]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What must be done so that the issuer has what the file says.

    Args:
        create: without ids.
        update: each as it is, and as it must become; the revision of both is that of the entry as it is.
        unchanged: how many entries of the file need nothing.
    """

    create: tuple[RegistrationEntry, ...]
    update: tuple[tuple[RegistrationEntry, RegistrationEntry], ...]
    delete: tuple[RegistrationEntry, ...]
    unchanged: int

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.create or self.update or self.delete)


def compare(
    wanted: Sequence[RegistrationEntry],
    found: Iterable[RegistrationEntry],
    *,
    prune: Callable[[RegistrationEntry], bool] | None = None,
) -> Difference:
    """Find for each entry of a file the one that it describes: by its id, else by SPIFFE ID, parent and selectors.

    If one entry of the file and one of the issuer are left that have the same SPIFFE ID and parent, they are the same with other selectors.
    The rest of the file is new. Revisions in the file mean nothing.

    Args:
        found: the entries of the issuer.
        prune: the scope: which of them may change, and are deleted if the file does not have them; None: all may, and none is deleted.

    Raises:
        Refused: INVALID when the file has an entry twice, would change one outside the scope, or gives one what makes another the same.
    """
    _check_no_twins(wanted)
    left = {entry.id: entry for entry in found}
    holders = {_identity(entry): entry.id for entry in left.values()}
    pairs: dict[int, RegistrationEntry] = {}
    for number, entry in enumerate(wanted):
        if entry.id in left:
            pairs[number] = left.pop(entry.id)
    by_identity = {_identity(entry): entry for entry in left.values()}
    for number, entry in enumerate(wanted):
        if number not in pairs and (same := by_identity.get(_identity(entry))) is not None:
            pairs[number] = left.pop(same.id)
    if prune is not None:
        left = {entry.id: entry for entry in left.values() if prune(entry)}
    pairs |= _with_other_selectors({n: entry for n, entry in enumerate(wanted) if n not in pairs}, left)
    both = [(n, pairs[n], _as_stored(entry, pairs[n])) for n, entry in enumerate(wanted) if n in pairs]
    update = [(n, before, after) for n, before, after in both if before != after]
    if prune is not None:
        for number, before, _ in update:
            _check_in_scope(number, before, prune)
    delete = () if prune is None else tuple(left.values())
    for entry in delete:
        del holders[_identity(entry)]
    _check_free(wanted, update, holders)
    return Difference(
        create=tuple(replace(entry, id=EntryID(""), revision=0) for n, entry in enumerate(wanted) if n not in pairs),
        update=tuple((before, after) for _, before, after in update),
        delete=delete,
        unchanged=len(both) - len(update),
    )


def _check_no_twins(wanted: Sequence[RegistrationEntry]) -> None:
    ids: dict[EntryID, int] = {}
    identities: dict[_Identity, int] = {}
    for number, entry in enumerate(wanted):
        if (first := identities.setdefault(_identity(entry), number)) != number:
            raise Refused(
                Kind.INVALID,
                f"entries[{number}]: expected another spiffe_id, parent_id or selectors, found those of entries[{first}]",
            )
        if entry.id and (first := ids.setdefault(entry.id, number)) != number:
            raise Refused(Kind.INVALID, f"entries[{number}]: id: expected another, found that of entries[{first}]")


def _check_in_scope(number: int, entry: RegistrationEntry, scope: Callable[[RegistrationEntry], bool]) -> None:
    """Refuse to change an entry of others, which the file describes by its id, or by its SPIFFE ID, parent and selectors."""
    if not scope(entry):
        owner = f" of owner {entry.owner!r}" if entry.owner else ""
        raise Refused(
            Kind.INVALID,
            f"entries[{number}]: expected to change only entries of what --below, --owner and --label name, "
            f"found that it would change {entry.spiffe_id}{owner} (id {entry.id})",
            hint="use a wider scope, or change that entry with: cognomen entry update",
        )


def _check_free(
    wanted: Sequence[RegistrationEntry],
    update: Iterable[tuple[int, RegistrationEntry, RegistrationEntry]],
    holders: Mapping[_Identity, EntryID],
) -> None:
    """Refuse an update that makes an entry the same as another: so would the issuer, even if that one is changed as well.

    Args:
        holders: which entries there are and stay.
    """
    for number, before, after in update:
        holder = holders.get(_identity(after), before.id)
        if holder == before.id:
            continue
        if wanted[number].id:
            detail = f"id: expected {holder}, which has this spiffe_id, parent_id and selectors, found that of {before.spiffe_id}"
            hint = "leave out the ids in the file: entries are also found by SPIFFE ID, parent and selectors"
        else:
            detail = (
                f"expected another spiffe_id, parent_id or selectors, found those of {holder}, which the file changes"
            )
            hint = "apply the file without this entry first"
        raise Refused(Kind.INVALID, f"entries[{number}]: {detail}", hint=hint)


def _with_other_selectors(
    wanted: Mapping[int, RegistrationEntry], left: dict[EntryID, RegistrationEntry]
) -> dict[int, RegistrationEntry]:
    """Pair what only one on each side has a name of; takes the pairs out of `left`."""
    wants = Counter(map(_name, wanted.values()))
    candidates: defaultdict[_Name, list[RegistrationEntry]] = defaultdict(list)
    for entry in left.values():
        candidates[_name(entry)].append(entry)
    return {
        number: left.pop(candidates[_name(entry)][0].id)
        for number, entry in wanted.items()
        if wants[_name(entry)] == 1 and len(candidates[_name(entry)]) == 1
    }


def _as_stored(entry: RegistrationEntry, stored: RegistrationEntry) -> RegistrationEntry:
    """The entry with what the issuer chooses."""
    return replace(entry, id=stored.id, revision=stored.revision, created_at=stored.created_at)


def _name(entry: RegistrationEntry) -> _Name:
    return _Name(entry.spiffe_id, entry.parent_id)


def _identity(entry: RegistrationEntry) -> _Identity:
    return _Identity(_name(entry), entry.selectors)
