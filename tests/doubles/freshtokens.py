"""A source of fresh JWT-SVIDs, each with a jti of its own."""

import secrets
from collections.abc import Collection

from svid.jwtsvid import JWTSVID
from svid.spiffeid import SpiffeID
from tests.doubles.provider import ISSUER
from tests.doubles.trustdomain import TrustDomainDouble

__all__ = ["FreshTokensDouble"]


class FreshTokensDouble:
    """A svid.source.FreshTokens of `/web`.

    Attributes:
        is_foreign: whether it gives the same one again, as an attestor that knows nothing of fresh ones.
    """

    def __init__(self, domain: TrustDomainDouble) -> None:
        self._domain = domain
        self.issuer: str | None = ISSUER
        self.others: tuple[str, ...] = ()
        self.is_foreign = False
        self.error: BaseException | None = None
        self.given: list[JWTSVID] = []
        self.asked: list[tuple[object, bool]] = []

    def fetch(
        self, audience: str | Collection[str], *, spiffe_id: SpiffeID | str | None = None, fresh: bool = False
    ) -> JWTSVID:
        self.asked.append((spiffe_id, fresh))
        assert isinstance(audience, str)
        if self.error is not None:
            raise self.error
        if not (self.is_foreign and self.given):
            token = self._domain.token("/web", audience, *self.others, jti=secrets.token_hex(16), issuer=self.issuer)
            self.given.append(JWTSVID.parse_insecure(token))
        return self.given[-1]
