"""The shape of a signed review: whoever signed it may have written anything, and its signature says nothing about that.

Later releases may add keys, so those that are not known here are no fault.
"""

import msgspec

from cognomen.protocol.agentreview import MARK, SignedReview

__all__ = ["check_shape"]


class _Broad(msgspec.Struct, frozen=True, kw_only=True):
    """Why a rule is broad."""

    finding: str
    problem: str


class _Component(msgspec.Struct, frozen=True, kw_only=True):
    """A component and what is known of its identity; an older release wrote no state of its own."""

    component: str
    kind: str
    path: str
    use: str
    last_minted: str | None
    last_fetched: str | None
    broad: list[_Broad]
    state: str = ""
    suspended_by: str = ""
    suspended_because: str = ""


class _Agent(msgspec.Struct, frozen=True, kw_only=True):
    """An agent."""

    agent: str
    purpose: str
    state: str
    suspended_by: str
    suspended_because: str
    review_by: str | None
    on_overdue: str
    is_overdue: bool
    components: list[_Component]


class _Owner(msgspec.Struct, frozen=True, kw_only=True):
    """Who answers for agents."""

    owner: str
    agents: list[_Agent]


class _Retired(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that is retired."""

    agent: str
    owner: str
    at: str
    revision: int
    by: str
    comment: str


class _Review(msgspec.Struct, frozen=True, kw_only=True):
    """The whole document."""

    trust_domain: str
    issuer: str
    incarnation: str
    at: str
    revision: int
    rulebook_sha256: str
    applied_at: str
    applied_by: str
    unused_for: str
    uses_since: str
    not_reporting: list[str]
    audit_rows: int
    audit_head: str
    owners: list[_Owner]
    retired: list[_Retired]


def check_shape(signed: SignedReview) -> None:
    """Check that a review has all that an issuer writes, each of its type.

    Raises:
        ValueError: the message names the field.
    """
    try:
        msgspec.convert(signed.document, _Review)
    except UnicodeEncodeError as e:
        raise ValueError("found half a surrogate pair, which stands for no character") from e
    except msgspec.ValidationError as e:
        raise ValueError(f"expected a document of {MARK}: {str(e)[:1].lower()}{str(e)[1:]}") from e
