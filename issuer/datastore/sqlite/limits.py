"""Limits on issuance in SQLite, and what the ledger has of an entry on a node."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from sqlite_utils import Database

from cognomen.protocol.entry import EntryID
from cognomen.protocol.names import NodeID
from cognomen.rulebook.limits import LimitedScope
from cognomen.rulebook.tables import LimitsMode, OnBurst
from issuer.datastore.sqlite import codec
from issuer.datastore.sqlite.marks import LIVE, LIVE_FROM
from issuer.datastore.sqlite.named import Rows, condition_of
from issuer.decisions.ledger import CredentialKind
from issuer.decisions.limits import Held, HeldToken, LiveSVIDs
from issuer.decisions.revocation import Live
from svid.keys import KeyID
from svid.spiffeid import SpiffeID

__all__ = ["SQLiteIssuanceLimits"]

_OF = "FROM credential INDEXED BY credential_by_holder WHERE entry_id = ? AND node_id = ? AND not_after > ?"
_X509 = f"SELECT not_after {_OF} AND kind = 'x509' AND state <> 'failed' ORDER BY not_after DESC LIMIT 1"
_TOKENS = (
    f"SELECT audiences, max(not_after), authority_id, serial {_OF} AND kind = 'jwt' AND state <> 'failed'"  # of the row with the maximum
    " GROUP BY audiences LIMIT ?"
)

_LIVE = Rows(f"revocation = 0 AND state <> 'failed' AND {LIVE}", LIVE_FROM)
_LIVE_X509 = (
    "SELECT spiffe_id, node_id, max(not_after) FROM credential WHERE {} AND kind = 'x509' GROUP BY spiffe_id, node_id"
)
_LIVE_TOKENS = "SELECT (not_after + 999999) / 1000000, count(*) FROM credential WHERE {} AND kind = 'jwt' GROUP BY 1"


class _Rule(msgspec.Struct, frozen=True):
    """A rule without its path, as JSON."""

    most: dict[str, int]
    mode: LimitsMode
    on_burst: OnBurst


class SQLiteIssuanceLimits:
    """The limits on issuance."""

    def __init__(self, database: Database) -> None:
        self._connection = database.conn

    def list(self, revision: int) -> Sequence[LimitedScope]:
        """Those of the rulebook with that revision, by path; none if it is not the last one that was written here."""
        rows = self._connection.execute(
            "SELECT path, rule FROM issuance_limit WHERE revision = ? ORDER BY path", (revision,)
        )
        return [_scope(path, msgspec.json.decode(rule, type=_Rule)) for path, rule in rows]

    def replace(self, revision: int, limits: Sequence[LimitedScope]) -> None:
        """Write those of a rulebook in place of all others."""
        self._connection.execute("DELETE FROM issuance_limit")
        self._connection.executemany(
            "INSERT INTO issuance_limit (path, revision, rule) VALUES (?, ?, ?)",
            [(one.path, revision, _rule(one)) for one in limits],
        )

    def held(self, entry_id: EntryID, node_id: NodeID, *, since: datetime, now: datetime, most: int) -> Held:
        """What the node holds of the entry: the last X509-SVID that ended after `since`, and valid JWT-SVIDs, `most` of them."""
        x509 = self._connection.execute(_X509, (entry_id, node_id, codec.to_micros(since))).fetchone()
        tokens = self._connection.execute(_TOKENS, (entry_id, node_id, codec.to_micros(now), most))
        return Held(
            None if x509 is None else codec.from_micros(x509[0]),
            [
                HeldToken(codec.texts_from_json(audiences), codec.from_micros(end), KeyID(authority_id), serial)
                for audiences, end, authority_id, serial in tokens
            ],
        )

    def live(self, spiffe_id: SpiffeID, *, now: datetime) -> LiveSVIDs:
        """What is valid and not revoked for this SPIFFE ID and those below it."""
        where = Live(kinds=frozenset({CredentialKind.X509, CredentialKind.JWT}), spiffe_id=spiffe_id, below=True)
        condition, arguments = condition_of(_LIVE, where, {"now": codec.to_micros(now)})
        x509 = self._connection.execute(_LIVE_X509.format(condition), arguments)
        ends = {(codec.spiffe_id(of).path, NodeID(node_id or "")): codec.from_micros(end) for of, node_id, end in x509}
        tokens = self._connection.execute(_LIVE_TOKENS.format(condition), arguments)
        return LiveSVIDs(ends, dict(tokens.fetchall()))

    def last_revocation(self) -> int:
        """The number of the last revocation; 0: nothing was revoked."""
        ((number,),) = self._connection.execute("SELECT coalesce(max(number), 0) FROM revocation").fetchall()
        return int(number)

    def is_revoked(self, serial: str) -> bool:
        """Whether this credential was revoked."""
        row = self._connection.execute("SELECT revocation FROM credential WHERE serial = ?", (serial,)).fetchone()
        return row is not None and row[0] != 0


def _rule(one: LimitedScope) -> str:
    return msgspec.json.encode(_Rule(most=dict(one.most), mode=one.mode, on_burst=one.on_burst)).decode()


def _scope(path: str, rule: _Rule) -> LimitedScope:
    return LimitedScope(path=path, most=rule.most, mode=rule.mode, on_burst=rule.on_burst)
