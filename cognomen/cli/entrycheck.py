"""Compare the entries with the record of decisions: each change follows from the one before it, and the last is what is in force."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from cognomen.protocol.auditlog import AuditRow
from cognomen.protocol.entry import LEFT_OUT
from cognomen.protocol.printable import printable
from svid.encoding import JSON, json_value

__all__ = ["EntryCheck", "is_digest", "same_entry"]

_CREATED, _UPDATED, _DELETED = "entry created", "entry updated", "entry deleted"
_SHA256 = "sha256"


def is_digest(entry: Mapping[str, JSON]) -> bool:
    """Whether a row has the digest of a large entry instead of its text.

    Shape: {"sha256": HEX}, of the entry as JSON with sorted keys and no spaces, UTF-8
    """
    return entry.keys() == {_SHA256}


def same_entry(one: Mapping[str, JSON], other: Mapping[str, JSON]) -> bool:
    """Whether both are the same entry; each may be a digest."""
    return _digest(one) == _digest(other)


def _digest(entry: Mapping[str, JSON]) -> str:
    if is_digest(entry):
        return str(entry[_SHA256])
    entry = {key: value for key, value in entry.items() if key not in LEFT_OUT or value != LEFT_OUT[key]}
    text = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """An entry as a row leaves it.

    Args:
        number: the row's.
        digest: of the entry; empty: no row has its text, because a release that did not record it changed the entry last.
        is_gone: it was deleted.
    """

    number: int
    revision: int
    digest: str
    is_gone: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """What a row says about an entry.

    Args:
        before: the digest of the entry before it; empty: the row does not say.
    """

    entry_id: str
    action: str
    before: str
    then: _State


class EntryCheck:
    """Takes the rows of the record in their order, and compares the entries with them at the end."""

    def __init__(self) -> None:
        self._states: dict[str, _State] = {}
        self.compared = 0
        self.without_text = 0

    def follow(self, rows: Iterable[AuditRow]) -> Iterator[AuditRow]:
        """Pass rows through, and check what they say about entries.

        Raises:
            ValueError: a change does not follow from the one before it.
        """
        for row in rows:
            self._take(row)
            yield row

    def finish(self, entries: Iterable[Mapping[str, JSON]], later: Iterable[AuditRow]) -> None:
        """Compare the entries with what the rows say.

        Args:
            entries: all entries, each as the record writes it; they may change while they are read.
            later: the rows that were recorded since `follow`; read last.

        Raises:
            ValueError: an entry is not as it is on record, also not as it was at any moment since then.
        """
        found = {str(entry.get("id")): (entry.get("revision"), _digest(entry)) for entry in entries}
        possible: dict[str, list[_State | None]] = {}
        for row in later:
            taken = self._take(row)
            if taken is not None:
                before, change = taken
                possible.setdefault(change.entry_id, [before]).append(change.then)
        for entry_id in found.keys() | self._states.keys():
            wrong = [
                _difference(entry_id, state, found.get(entry_id))
                for state in possible.get(entry_id, [self._states.get(entry_id)])
            ]
            if all(wrong):
                raise ValueError(wrong[-1])
        self.without_text = sum(1 for entry_id in found if not self._has_text(entry_id))
        self.compared = len(found) - self.without_text

    def _has_text(self, entry_id: str) -> bool:
        state = self._states.get(entry_id)
        return state is not None and (state.is_gone or bool(state.digest))

    def _take(self, row: AuditRow) -> tuple[_State | None, _Change] | None:
        """The entry's state before the row, and the change; None: the row is not about a change of an entry."""
        change = _changed(row)
        if change is None:
            return None
        last = self._states.get(change.entry_id)
        _check_follows(change, last)
        self._states[change.entry_id] = change.then
        return last, change


def _check_follows(change: _Change, last: _State | None) -> None:
    about, then = f"row {change.then.number}: {change.action}: {printable(change.entry_id)}", change.then
    if change.action == _CREATED:
        if last is not None:
            raise ValueError(f"{about}: expected a new entry, found that of row {last.number}: the row was added")
        expected = 1
    elif last is None or last.is_gone:
        raise ValueError(f"{about}: expected an entry, found none on record then: a row is missing before it")
    else:
        expected = last.revision + (change.action == _UPDATED)
    if then.revision != expected:
        raise ValueError(f"{about}: expected revision {expected}, found {then.revision}: a row is missing before it")
    if last is not None and last.digest and change.before and change.before != last.digest:
        raise ValueError(f"{about}: expected the entry before as row {last.number} left it, found another")


def _difference(entry_id: str, state: _State | None, found: tuple[JSON, str] | None) -> str:
    """What is wrong with an entry that is in force, or is not (None), after that state; empty: nothing."""
    name = printable(entry_id)
    if state is None or state.is_gone:
        said = "is not on record" if state is None else f"was deleted by row {state.number}"
        return "" if found is None else f"the entry {name} {said}, but it is among the entries: it was added there"
    if found is None:
        return f"the entry {name} is as row {state.number} left it, but not among the entries: it was deleted there"
    revision, digest = found
    if revision != state.revision:
        return f"the entry {name}: expected revision {state.revision}, as row {state.number} left it, found {revision}: it was edited"
    if state.digest and digest != state.digest:
        return f"the entry {name}: expected it as row {state.number} left it, found another: it was edited"
    return ""


def _changed(row: AuditRow) -> _Change | None:
    if b"entry " not in row.body:
        return None
    try:
        event = json_value(row.body)
        if not isinstance(event, dict):
            return None
        before, after = (_digest(one) if isinstance(one, dict) else "" for one in map(event.get, ("before", "after")))
    except ValueError:
        return None
    match event:
        case {
            "action": "entry created" | "entry updated" | "entry deleted" as action,
            "decision": "allowed",
            "entry_revision": int(revision),
            "facts": {"entry": str(entry_id)},
        }:
            then = _State(
                number=row.number,
                revision=revision,
                digest=after,
                is_gone=action == _DELETED,
            )
            return _Change(entry_id=entry_id, action=action, before=before, then=then)
    return None
