"""Compare the ledger with the record of decisions: each credential in one must be in the other, and say the same."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC

from cognomen.protocol.auditlog import AuditRow
from cognomen.protocol.printable import printable
from cognomen.wire.pb import admin_pb2 as pb
from svid.encoding import json_value

__all__ = ["LedgerCheck"]

_ISSUED = " issued"
_Facts = Mapping[str, str | int]


class LedgerCheck:
    """Takes the rows of the record in their order, and reads the ledger along with them: both are written in the same transactions.

    Args:
        read: the ledger's rows after a number, oldest first; it may end before the newest row.
    """

    def __init__(self, read: Callable[[int], Iterable[pb.Credential]]) -> None:
        self._read = read
        self._ledger = iter(read(0))
        self._last = 0
        self._said: dict[str, tuple[int, _Facts]] = {}
        self._signed: dict[str, tuple[int, _Facts]] = {}
        self.compared = 0

    def follow(self, rows: Iterable[AuditRow]) -> Iterator[AuditRow]:
        """Pass rows through, and compare what they say about credentials.

        Raises:
            ValueError: a credential of the ledger is another one in the record.
        """
        for row in rows:
            self._take(row)
            yield row

    def finish(self, later: Iterable[AuditRow]) -> None:
        """Read the rest of the ledger, after the record: what is in the rows that were read is in the ledger now, too.

        Args:
            later: the rows that were recorded since; read last, because the ledger may have grown with them.

        Raises:
            ValueError: a credential is only in one of the two, or is another one in the other.
        """
        for credential in self._ledger:
            self._sign(credential)
        for credential in self._read(self._last):
            self._sign(credential)
        for row in later:
            issued = _issued(row)
            if issued is not None and issued[0] in self._signed:
                self._match(row.number, issued)
        if self._said:
            serial, (number, _) = next(iter(self._said.items()))
            raise ValueError(
                f"row {number} says that {printable(serial)} was issued, which is not in the ledger: a row was deleted there"
            )
        if self._signed:
            serial, (number, _) = next(iter(self._signed.items()))
            raise ValueError(
                f"row {number} of the ledger, {printable(serial)}, is not on record: a row was added there"
            )

    def _take(self, row: AuditRow) -> None:
        issued = _issued(row)
        if issued is None:
            return
        self._match(row.number, issued)
        credential = next(self._ledger, None)
        if credential is not None:
            self._sign(credential)

    def _match(self, number: int, issued: tuple[str, _Facts]) -> None:
        serial, said = issued
        signed = self._signed.pop(serial, None)
        if signed is None:
            self._said[serial] = (number, said)
        else:
            self._compare(serial, said, signed[1])

    def _sign(self, credential: pb.Credential) -> None:
        self._last = credential.number
        signed = _facts_of(credential)
        said = self._said.pop(credential.serial, None)
        if said is None:
            self._signed[credential.serial] = (credential.number, signed)
        else:
            self._compare(credential.serial, said[1], signed)

    def _compare(self, serial: str, said: _Facts, signed: _Facts) -> None:
        for name, value in said.items():
            if signed[name] != value:
                expected, found = printable(str(value)), printable(str(signed[name]))
                raise ValueError(
                    f"the ledger's row {printable(serial)}: {name}: expected {expected}, as it is on record, found {found}:"
                    " the row was edited"
                )
        self.compared += 1


def _issued(row: AuditRow) -> tuple[str, _Facts] | None:
    """The credential that a row says was issued, by its serial or jti."""
    if _ISSUED.encode() not in row.body:
        return None
    try:
        event = json_value(row.body)
    except ValueError:
        return None
    match event:
        case {
            "action": str(action),
            "decision": "allowed",
            "subject": str(spiffe_id),
            "credential": str(serial),
            "entry_revision": int(revision),
            "at": str(at),
            "facts": {"authority": str(authority), "not_after": str(not_after), **facts},
        } if action.endswith(_ISSUED):
            return serial, {
                "kind": action.removesuffix(_ISSUED),
                "spiffe_id": spiffe_id,
                "entry": str(facts.get("entry", "")),
                "entry_revision": revision,
                "rulebook": str(facts.get("rulebook", "0")),
                "authority": authority,
                "issued_at": at,
                "not_after": not_after,
            }
    return None


def _facts_of(credential: pb.Credential) -> _Facts:
    return {
        "kind": credential.kind,
        "spiffe_id": credential.spiffe_id,
        "entry": credential.entry_id,
        "entry_revision": credential.entry_revision,
        "rulebook": str(credential.rulebook),
        "authority": credential.authority_id,
        "issued_at": credential.issued_at.ToDatetime(tzinfo=UTC).isoformat(),
        "not_after": credential.not_after.ToDatetime(tzinfo=UTC).isoformat(),
    }
