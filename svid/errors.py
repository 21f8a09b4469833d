"""What the SDK raises: one base class, one child for each noun, each error with the clause it broke.

The daemons' own refusals are another family: cognomen.daemon.errors.
"""

__all__ = [
    "AddressError",
    "AuthorizationError",
    "BundleError",
    "CRLError",
    "EntryError",
    "JWTSVIDError",
    "RevokedError",
    "SVIDError",
    "SelectorError",
    "SpiffeIDError",
    "UnusableKeyError",
    "WorkloadAPIError",
    "X509SVIDError",
]


class SVIDError(Exception):
    """Anything the SDK refuses; `clause` names the rule that was broken, empty where there is none."""

    def __init__(self, message: str, *, clause: str = "") -> None:
        super().__init__(message)
        self.clause = clause


class SpiffeIDError(SVIDError):
    """A text that is no SPIFFE ID or no trust domain name."""


class SelectorError(SVIDError):
    """A text that is no selector."""


class UnusableKeyError(SVIDError):
    """A key of a kind that we do not use, or bytes that are no key."""


class BundleError(SVIDError):
    """A document that is no trust bundle, or a trust domain that has none."""


class CRLError(SVIDError):
    """A list that is no CRL as we use them, or that no authority of the bundle vouches for."""


class EntryError(SVIDError):
    """A registration entry that breaks a rule; the message begins with the field's name."""


class X509SVIDError(SVIDError):
    """A certificate chain that is no X509-SVID, or that the bundle does not vouch for."""


class JWTSVIDError(SVIDError):
    """A token that is no JWT-SVID, or that the bundle does not vouch for."""


class AddressError(SVIDError):
    """A text that is no address of a Workload API."""


class AuthorizationError(SVIDError):
    """A peer that is who it says, and is not wanted here."""


class RevokedError(SVIDError):
    """A credential that ended before its time."""


class WorkloadAPIError(SVIDError):
    """The Workload API answered with a status, or with something that is no answer; `code` is the gRPC status name."""

    def __init__(self, message: str, *, code: str, clause: str = "") -> None:
        super().__init__(message, clause=clause)
        self.code = code


class DenialError(SVIDError):
    """Denials that cannot be read."""
