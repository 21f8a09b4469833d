"""What the updates of a step of the feed say, each kind by itself."""

from collections.abc import Iterable

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.feed import BundleIs, CheckpointIs, DenialsPut, EntryGone, EntryPut, Update
from cognomen.wire.feed import update_from_pb, write_update
from cognomen.wire.pb import node_pb2 as pb
from svid.bundle import Bundle
from svid.denials import Denial
from svid.spiffeid import TrustDomain

__all__ = ["bundle_told", "checkpoint_told", "denials_told", "entries_gone", "entries_put", "updates_of"]


def entries_put(updates: Iterable[Update]) -> tuple[RegistrationEntry, ...]:
    return tuple(update.entry for update in updates if isinstance(update, EntryPut))


def entries_gone(updates: Iterable[Update]) -> tuple[EntryID, ...]:
    return tuple(update.entry_id for update in updates if isinstance(update, EntryGone))


def denials_told(updates: Iterable[Update]) -> tuple[Denial, ...]:
    return tuple(denial for update in updates if isinstance(update, DenialsPut) for denial in update.denials)


def bundle_told(updates: Iterable[Update]) -> Bundle | None:
    """None: none; several are an error."""
    found = [update.bundle for update in updates if isinstance(update, BundleIs)]
    assert len(found) <= 1
    return found[0] if found else None


def checkpoint_told(updates: Iterable[Update]) -> bytes | None:
    """None: none; several are an error."""
    found = [update.document for update in updates if isinstance(update, CheckpointIs)]
    assert len(found) <= 1
    return found[0] if found else None


def message_of(*updates: Update) -> pb.Change:
    """A message that brings these."""
    message = pb.Change()
    for update in updates:
        write_update(update, message.updates.add())
    return message


def updates_of(message: pb.Change, trust_domain: TrustDomain) -> tuple[Update, ...]:
    """Those of a message, each of a kind that is known."""
    read = [update_from_pb(update, trust_domain) for update in message.updates]
    return tuple(update for update in read if update is not None)
