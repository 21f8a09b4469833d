"""Audiences that known providers ask for: whoever receives a JWT-SVID for one of them could present it there.

Decided here: which they are, however they are written. What is refused: svid/integrations/exchange_profiles.
"""

import re

__all__ = ["owners"]

_PORT_OR_DOT = re.compile(r"^((?:[a-z]+:)?(?://)?[^/?#:]*?)\.?(?::443)?(?=$|[/?#])")
_REST = r"([/?#].*)?"
_WEB = r"((https?:)?//)?"
_KNOWN = (
    ("anthropic", re.compile(rf"{_WEB}(api\.anthropic\.com|platform\.claude\.com){_REST}")),
    ("openai", re.compile(rf"{_WEB}(api|auth)\.openai\.com{_REST}")),
    ("gcp_sts", re.compile(rf"{_WEB}(iam|sts)\.googleapis\.com{_REST}")),
    ("azure", re.compile(r"api://azureadtokenexchange\w*/?")),
    (
        "aws_sts",
        re.compile(rf"{_WEB}([a-z0-9-]+\.)?sts(-fips)?(\.[a-z0-9-]+)*\.(amazonaws\.com(\.cn)?|api\.aws){_REST}"),
    ),
)


def owners(audience: str) -> frozenset[str]:
    """The names of the profiles whose providers may take a JWT-SVID for this audience, also if they compare hosts as hosts."""
    plain = _PORT_OR_DOT.sub(r"\1", audience.strip().lower())
    return frozenset(name for name, known in _KNOWN if known.fullmatch(plain))
