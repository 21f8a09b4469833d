"""The admin door's words for the record of decisions and its checkpoints."""

from cognomen.wire.pb import admin_pb2 as pb
from issuer.datastore.port import Datastore

__all__ = ["list_audit", "list_checkpoints"]


async def list_audit(datastore: Datastore, *, after: int, limit: int, newest: bool) -> pb.ListAuditResponse:
    """A page of rows: those after a number, or the last ones."""
    rows = await datastore.read(
        lambda tx: tx.audit.rows(after=max(0, tx.audit.head()[0] - limit) if newest else after, limit=limit)
    )
    return pb.ListAuditResponse(rows=[pb.AuditRow(number=row.number, body=row.body, hash=row.hash) for row in rows])


async def list_checkpoints(datastore: Datastore, *, limit: int) -> pb.ListCheckpointsResponse:
    """The newest checkpoints, oldest first."""
    found = await datastore.read(lambda tx: tx.checkpoints.newest(limit))
    return pb.ListCheckpointsResponse(checkpoints=[checkpoint.to_json() for checkpoint in found])
