"""Certificate revocation lists in SQLite. Their content comes from the denials (sqlite/revocations)."""

from sqlite_utils import Database

from issuer.datastore.sqlite import codec
from issuer.decisions.crl import SignedCRL
from svid.keys import KeyID

__all__ = ["SQLiteCRLs"]


class SQLiteCRLs:
    """The newest certificate revocation list of each authority."""

    def __init__(self, database: Database) -> None:
        self._connection = database.conn

    def get(self, authority_id: KeyID) -> SignedCRL | None:
        """The list of one authority."""
        row = self._connection.execute(
            "SELECT number, this_update, der FROM crl WHERE authority_id = ?", (authority_id,)
        ).fetchone()
        if row is None:
            return None
        number, this_update, der = row
        return SignedCRL(
            authority_id=authority_id, number=number, this_update=codec.optional_moment(this_update), der=der
        )

    def put(self, crl: SignedCRL) -> None:
        """Add one, or overwrite the one of that authority."""
        self._connection.execute(
            "INSERT INTO crl (authority_id, number, this_update, der) VALUES (?, ?, ?, ?) ON CONFLICT (authority_id)"
            " DO UPDATE SET number = excluded.number, this_update = excluded.this_update, der = excluded.der",
            (crl.authority_id, crl.number, codec.optional_micros(crl.this_update), crl.der),
        )

    def delete(self, authority_id: KeyID) -> None:
        """Remove the list of an authority, if it has one."""
        self._connection.execute("DELETE FROM crl WHERE authority_id = ?", (authority_id,))
