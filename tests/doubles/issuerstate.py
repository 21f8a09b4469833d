"""The state directory of an issuer that was stopped."""

from pathlib import Path

from issuer.backup import DATABASE, KEYS
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.audit import AuditEvent
from issuer.keymanager.disk import DiskKeyManager
from svid.keys import KeyID, KeyKind
from tests.doubles.issuer_values import NOW, x509_authority

__all__ = ["make_state"]


async def make_state(directory: Path) -> Path:
    """An authority that signs, its key, and a hundred rows of the audit."""
    authority = (await x509_authority()).authority
    store = await SQLiteDatastore.open(directory / DATABASE)
    await store.write(lambda tx: tx.authorities.put(authority))
    events = [AuditEvent(at=NOW, actor="uid:0", action="entry created", subject="x" * 2000)] * 100
    await store.write(lambda tx: tx.audit.append(events))
    await store.close()
    await DiskKeyManager(directory / KEYS).generate(KeyID("x509-1"), KeyKind.EC_P256)
    return directory
