"""Note what a caller would have been given by entries that only observe, and what it would have been refused (ADR-0031)."""

from collections.abc import Collection, Sequence

from attestor.uses import Uses
from cognomen.gate.caller import Caller
from cognomen.protocol.entry import RegistrationEntry
from svid.spiffeid import SpiffeID

__all__ = ["ObservedStream", "note_jwts"]


class ObservedStream:
    """What was noted of one stream of X509-SVIDs: an identity when it would first be sent, and as often as others are sent."""

    def __init__(self, uses: Uses, caller: Caller) -> None:
        self._uses = uses
        self._caller = caller
        self._noted: Sequence[RegistrationEntry] = ()

    def look(self, observed: Sequence[RegistrationEntry], *, is_sent: bool) -> None:
        """Note what would be sent now.

        Args:
            is_sent: whether a message with other identities is.
        """
        if is_sent or observed != self._noted:
            self._uses.note_observed(self._caller, observed, x509=True)
            self._noted = observed


def note_jwts(
    uses: Uses,
    caller: Caller,
    observed: Collection[RegistrationEntry],
    audiences: Collection[str],
    spiffe_id: SpiffeID | None,
) -> None:
    """Note for which of these entries a caller would have been given a JWT-SVID, and for which audiences it would have been refused one.

    Args:
        spiffe_id: the only identity that it asks for; None: all.
    """
    for entry in observed:
        if spiffe_id is not None and entry.spiffe_id != spiffe_id:
            continue
        if entry.allows(audiences):
            uses.note_observed(caller, [entry], jwt=True)
        else:
            for audience in dict.fromkeys(one for one in audiences if not entry.allows([one])):
                uses.note_refused(caller, entry, audience)
