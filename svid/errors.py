"""The errors of the SDK: one base class, and one subclass for each noun; each error names the clause that was broken.

The daemons have their own errors: cognomen.protocol.errors.
"""

__all__ = [
    "AddressError",
    "AuthorizationError",
    "BundleError",
    "CRLError",
    "DenialError",
    "JWTSVIDError",
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
