"""How many audiences a JWT-SVID may have and how long they may be: the same limits for the attestor, the issuer and the command.

The limits keep each token that we sign within what verifiers accept (svid.jwtsvid.MAX_TOKEN_BYTES), and the rows of the ledger small.
Control characters are refused: JSON writes each as six characters, and no audience needs one.
"""

from collections.abc import Collection

from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.printable import printable

__all__ = [
    "GETS_NOTHING_FOR",
    "MAX_AUDIENCES",
    "MAX_AUDIENCE_BYTES",
    "MAX_SUM_BYTES",
    "MUST_LIST",
    "check_audiences",
    "not_for",
]

MAX_AUDIENCES = 16
MAX_AUDIENCE_BYTES = 1024
MAX_SUM_BYTES = 2048
GETS_NOTHING_FOR = "gets no token for"
"""By these words a workload's command knows the refusal: a status has no field for it."""
MUST_LIST = (
    "the rule of this identity must list the audience: audiences, or may_call or model of a component, in the rulebook"
)
_MOST_SHOWN = 5

_DELETE = "\x7f"


def check_audiences(audiences: Collection[str], *, field: str) -> None:
    """Check the audiences of one JWT-SVID against the limits.

    Args:
        field: the name of the audiences in the caller's request.

    Raises:
        Refused: INVALID
    """
    if not 1 <= len(audiences) <= MAX_AUDIENCES:
        raise Refused(Kind.INVALID, f"{field}: expected 1 to {MAX_AUDIENCES}, found {len(audiences)}")
    total = 0
    for audience in audiences:
        found = len(audience.encode())
        if not 1 <= found <= MAX_AUDIENCE_BYTES:
            raise Refused(Kind.INVALID, f"{field}: expected 1 to {MAX_AUDIENCE_BYTES} bytes each, found {found}")
        if any(character < " " or character == _DELETE for character in audience):
            raise Refused(Kind.INVALID, f"{field}: control characters are not allowed")
        total += found
    if total > MAX_SUM_BYTES:
        raise Refused(Kind.INVALID, f"{field}: expected at most {MAX_SUM_BYTES} bytes together, found {total}")


def not_for(path: str, allowed: Collection[str], audiences: Collection[str]) -> Refused:
    """The refusal of audiences that an identity may not have a token for.

    Args:
        path: of the identity.
        allowed: what it may have tokens for.
    """
    wrong = next(one for one in audiences if one not in allowed)
    return Refused(
        Kind.DENIED,
        f"audiences: {path} {GETS_NOTHING_FOR} {printable(wrong)}, {_listed(allowed)}",
        hint=MUST_LIST,
    )


def _listed(allowed: Collection[str]) -> str:
    """Some of the audiences, and how many more there are."""
    if not allowed:
        return "and for no other"
    shown = sorted(allowed)[:_MOST_SHOWN]
    more = len(allowed) - len(shown)
    return f"only for {', '.join(map(printable, shown))}" + (f" and {more} more" if more else "")
