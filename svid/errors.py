"""The errors of the SDK: one base class, and one subclass for each noun; each error names the clause that was broken.

The daemons have their own errors: cognomen.protocol.errors.
"""

from datetime import datetime

__all__ = [
    "AddressError",
    "AuthorizationError",
    "BundleError",
    "CRLError",
    "DenialError",
    "ExchangeError",
    "JWTSVIDError",
    "NotSentError",
    "RevokedError",
    "SVIDError",
    "SpiffeIDError",
    "UnusableKeyError",
    "WorkloadAPIError",
    "X509SVIDError",
]


class SVIDError(Exception):
    """Anything that the SDK refuses; `clause` names the rule that was broken, and is empty if there is none."""

    def __init__(self, message: str, *, clause: str = "") -> None:
        super().__init__(message)
        self.clause = clause


class SpiffeIDError(SVIDError):
    """A text is not a valid SPIFFE ID or trust domain name."""


class UnusableKeyError(SVIDError):
    """A key is of a kind that we do not use, or the bytes are not a key."""


class BundleError(SVIDError):
    """A document is not a trust bundle, or a trust domain has no bundle."""


class CRLError(SVIDError):
    """A CRL is not of the form that we accept, or no authority of the bundle signed it."""


class X509SVIDError(SVIDError):
    """A certificate chain is not an X509-SVID, or the bundle does not vouch for it."""


class JWTSVIDError(SVIDError):
    """A token is not a JWT-SVID, or the bundle does not vouch for it."""


class AddressError(SVIDError):
    """A text is not the address of a Workload API."""


class AuthorizationError(SVIDError):
    """A peer proved its identity, but is not allowed here."""


class RevokedError(SVIDError):
    """A credential was revoked before it expired."""


class WorkloadAPIError(SVIDError):
    """The Workload API answered with an error status, or with something that is not a valid answer.

    Attributes:
        code: the name of the gRPC status.
        hint: what to do next, or empty; `str()` of the error ends with it.
    """

    def __init__(self, message: str, *, code: str, clause: str = "", hint: str = "") -> None:
        super().__init__(message, clause=clause)
        self.code = code
        self.hint = hint

    @property
    def detail(self) -> str:
        """What happened, without the hint."""
        return str(self.args[0])

    def __str__(self) -> str:
        return f"{self.detail}; {self.hint}" if self.hint else self.detail


class DenialError(SVIDError):
    """Denials cannot be read."""


class ExchangeError(SVIDError):
    """A JWT-SVID was not exchanged for a provider's token. No text of it contains a part of either.

    Attributes:
        status: the HTTP status of the provider's answer; None if there was no answer.
        code: the provider's own name of the error, such as `invalid_grant`; empty if it gave none.
        is_temporary: whether the same exchange may succeed later, without a change by anybody.
        retry_at: before that moment no new attempt is made, because the provider said so; None if it did not.
        hint: what to look at, or empty; `str()` of the error ends with it.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str = "",
        is_temporary: bool = False,
        retry_at: datetime | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.is_temporary = is_temporary
        self.retry_at = retry_at
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.args[0]}; {self.hint}" if self.hint else str(self.args[0])


class NotSentError(ExchangeError):
    """No connection to a provider was made: nothing left this process, and the same JWT-SVID may be sent later."""
