"""Record refusals of operators' commands.

There is one policy: a refusal undoes what the work had written, a separate write records it, and only then is it raised. That includes
what is refused while the command is read (issuer/flows/record_refusals). Reads and dry runs are not recorded, nor is UNAVAILABLE, which is
a state of ours and not a decision. Refusals at the network doors, where callers may come any number of times, are counted first:
issuer/keepers/refusal_record.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cognomen.protocol.errors import Kind, Refused
from issuer.datastore.port import Datastore
from issuer.decisions import audit
from issuer.decisions.actions import Action
from svid.clock import Clock

__all__ = ["refusals_on_record"]


@asynccontextmanager
async def refusals_on_record(
    datastore: Datastore, clock: Clock, action: Action, *, actor: str, subject: str = ""
) -> AsyncIterator[None]:
    """Record a refusal that leaves the block, unless it is on record already; by then the work must have been undone.

    Args:
        subject: what the command is about, in the operator's words.

    Raises:
        Refused: the same; UNAVAILABLE instead, with its detail, when the store does not take the row.
    """
    try:
        yield
    except Refused as refused:
        if refused.kind is not Kind.UNAVAILABLE and not refused.is_on_record:
            event = audit.refused(refused, at=clock.now(), actor=actor, action=action, subject=subject)
            # expendable: commands that are refused cost nothing, and their rows must not use up the room that revocations need
            try:
                await datastore.write(lambda tx: tx.audit.append([event]), expendable=True)
            except Refused as e:
                raise Refused(e.kind, f"{refused.detail} (not on record: {e.detail})", hint=e.hint) from e
            refused.is_on_record = True
        raise
