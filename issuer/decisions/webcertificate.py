"""What relying parties would not accept about the certificate that is served at web_address.

Decided here: which of its faults deserve a warning. Whether a relying party trusts its authority, only the relying party knows. Who warns:
issuer/web/openid, and `cognomen issuer check`.
"""

import ipaddress
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from cryptography import x509

__all__ = ["certificate_faults"]

_SOON = timedelta(days=7)
_SOON_PART = 10  # of its lifetime, so that a certificate of a few days is not called old from the start
_LEAST_DOTS = 2  # in a name with a wildcard: many clients refuse *.com
_MOST_NAMES = 5


def certificate_faults(der: bytes, host: str, *, now: datetime) -> Sequence[str]:
    """What is wrong with a served certificate, or will be soon; empty: nothing that we can see.

    Args:
        der: the certificate of the listener itself.
        host: the host of jwt_issuer: a name in lower case, or an IP address without brackets.

    Source: RFC 9525 6.3, 6.5
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        names = _names(certificate)
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except ValueError as e:
        return [f"it cannot be read: {e}"]
    return [*_faults_of_time(begins, ends, now), *_faults_of_names(names, host)]


def _faults_of_time(begins: datetime, ends: datetime, now: datetime) -> Iterator[str]:
    if now < begins:
        yield f"it is not valid before {begins.isoformat()}"
    if now > ends:
        yield f"it expired at {ends.isoformat()}"
    elif ends - now <= min(_SOON, (ends - begins) / _SOON_PART):
        yield f"it expires soon, at {ends.isoformat()}"


def _faults_of_names(names: x509.SubjectAlternativeName | None, host: str) -> Iterator[str]:
    dns_names = [] if names is None else names.get_values_for_type(x509.DNSName)
    addresses = [] if names is None else names.get_values_for_type(x509.IPAddress)
    address = _address(host)
    is_for = any(_is_for(name.lower(), host) for name in dns_names) if address is None else address in addresses
    if not is_for:
        every = [*dns_names, *map(str, addresses)]
        found = ", ".join(every[:_MOST_NAMES]) or "no name"
        more = f" and {len(every) - _MOST_NAMES} more" if len(every) > _MOST_NAMES else ""
        yield f"names: expected {host}, the host of jwt_issuer, found {found}{more}"


def _names(certificate: x509.Certificate) -> x509.SubjectAlternativeName | None:
    """Its names; clients no longer look at the common name."""
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def _is_for(name: str, host: str) -> bool:
    """Whether a client that connects to this host accepts this name; `*` is a whole first label, or no wildcard."""
    if name == host:
        return True
    first, _, rest = name.partition(".")
    return first == "*" and name.count(".") >= _LEAST_DOTS and host.partition(".")[2] == rest


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
