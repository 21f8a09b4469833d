"""SPIFFE IDs and trust domain names, parsed strictly from the raw text.

No URL library normalises anything here: text that is not allowed is refused, never repaired (including upper case, see Deviation).
issuer/decisions/registration decides which IDs exist, and who may hold them.
"""

import re
from dataclasses import dataclass
from typing import Self

from svid.errors import SpiffeIDError

__all__ = ["MAX_ID_BYTES", "MAX_TRUST_DOMAIN_BYTES", "SpiffeID", "TrustDomain"]

MAX_ID_BYTES = 2048
MAX_TRUST_DOMAIN_BYTES = 255

_SCHEME = "spiffe://"
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]+")
_SEGMENT = re.compile(r"[a-zA-Z0-9._-]+")


@dataclass(frozen=True, slots=True)
class TrustDomain:
    """A trust domain name, as in `spiffe://<name>/…`.

    Raises:
        SpiffeIDError: the name is empty, longer than 255 bytes, or has a character other than a-z 0-9 . - _

    Source: SPIFFE-ID 2.1, 2.3. Deviation: 2.4 says that parsing ignores the name's case. We refuse upper case, because 2.1 allows only
    lower case, and a name whose case is folded after a comparison is a security hole.
    """

    name: str

    def __post_init__(self) -> None:
        if len(self.name) > MAX_TRUST_DOMAIN_BYTES:
            message = f"trust domain: expected at most {MAX_TRUST_DOMAIN_BYTES} bytes, found {len(self.name)}"
            raise SpiffeIDError(message, clause="SPIFFE-ID 2.3")
        if not _TRUST_DOMAIN.fullmatch(self.name):
            raise SpiffeIDError(
                f"trust domain: expected characters a-z 0-9 . - _, found {self.name!r}", clause="SPIFFE-ID 2.1"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take a bare name, or `spiffe://<name>` without a path."""
        return cls(text.removeprefix(_SCHEME))

    @property
    def id(self) -> "SpiffeID":
        """The trust domain's own SPIFFE ID: `spiffe://<name>`, no path."""
        return SpiffeID(trust_domain=self)

    def __str__(self) -> str:
        return self.name

    def __eq__(self, other: object) -> bool:
        """Compare with another trust domain; comparing with text is a TypeError, because `!=` would be True for every text."""
        if isinstance(other, TrustDomain):
            return self.name == other.name
        _refuse_text(self, other)
        return False

    def __hash__(self) -> int:
        return hash(self.name)  # the text's own hash, so that a lookup in a set of texts also compares, and raises


@dataclass(frozen=True, slots=True, kw_only=True)
class SpiffeID:
    """A SPIFFE ID: a trust domain and a path, which is empty or begins with `/`.

    Raises:
        SpiffeIDError: a segment is empty, `.`, `..` or has a character other than a-z A-Z 0-9 . - _, or the whole exceeds 2048 bytes

    Source: SPIFFE-ID 2.2, 2.3
    """

    trust_domain: TrustDomain
    path: str = ""

    def __post_init__(self) -> None:
        if self.path:
            _check_path(self.path)
        if len(str(self)) > MAX_ID_BYTES:
            raise SpiffeIDError(
                f"SPIFFE ID: expected at most {MAX_ID_BYTES} bytes, found {len(str(self))}", clause="SPIFFE-ID 2.3"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `spiffe://<trust domain>[/<path>]`."""
        if len(text) > MAX_ID_BYTES:
            raise SpiffeIDError(
                f"SPIFFE ID: expected at most {MAX_ID_BYTES} bytes, found {len(text)}", clause="SPIFFE-ID 2.3"
            )
        if not text.startswith(_SCHEME):
            raise SpiffeIDError(f"SPIFFE ID: expected the scheme {_SCHEME}, found {text!r}", clause="SPIFFE-ID 2")
        name, slash, rest = text.removeprefix(_SCHEME).partition("/")
        return cls(trust_domain=TrustDomain(name), path=slash + rest)

    @classmethod
    def from_segments(cls, trust_domain: TrustDomain, *segments: str) -> Self:
        """Build an ID from one or more path segments, each checked separately, so that no segment can smuggle in a `/`."""
        for segment in segments:
            _check_segment(segment)
        return cls(trust_domain=trust_domain, path="".join(f"/{segment}" for segment in segments))

    def is_member_of(self, trust_domain: TrustDomain) -> bool:
        """Whether this ID is in that trust domain.

        Raises:
            TypeError: not a TrustDomain; text would never match, and `not peer.is_member_of("…")` would admit everybody.
        """
        if not isinstance(trust_domain, TrustDomain):
            raise TypeError(f"trust domain: expected a TrustDomain, found {type(trust_domain).__name__}")
        return self.trust_domain == trust_domain

    def is_below(self, prefix: str) -> bool:
        """Whether the path is below `prefix` (such as `/a`, no trailing slash): `/a/b` is below `/a`, but `/a` and `/ab` are not."""
        return self.path.startswith(f"{prefix}/")

    def __str__(self) -> str:
        return f"{_SCHEME}{self.trust_domain.name}{self.path}"

    def __eq__(self, other: object) -> bool:
        """Compare with another SPIFFE ID; comparing with text is a TypeError, as for a TrustDomain."""
        if isinstance(other, SpiffeID):
            return self.path == other.path and self.trust_domain.name == other.trust_domain.name
        _refuse_text(self, other)
        return False

    def __hash__(self) -> int:
        return hash(str(self))  # as in TrustDomain


def _refuse_text(value: object, other: object) -> None:
    if isinstance(other, str | bytes):
        name = type(value).__name__
        raise TypeError(f"{name}: cannot be compared with text; compare str(…), or {name}.parse(…)")


def _check_path(path: str) -> None:
    if not path.startswith("/"):
        raise SpiffeIDError(f"path: expected a leading /, found {path!r}", clause="SPIFFE-ID 2.2")
    for segment in path[1:].split("/"):
        _check_segment(segment)


def _check_segment(segment: str) -> None:
    if segment in {"", ".", ".."}:
        raise SpiffeIDError(f"path: expected no empty, . or .. segment, found {segment!r}", clause="SPIFFE-ID 2.2")
    if not _SEGMENT.fullmatch(segment):
        raise SpiffeIDError(f"path: expected segments of a-z A-Z 0-9 . - _, found {segment!r}", clause="SPIFFE-ID 2.2")
