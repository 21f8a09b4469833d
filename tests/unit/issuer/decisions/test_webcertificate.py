"""issuer/decisions/webcertificate: what relying parties would not accept, compared with a TLS client that really connects."""

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from issuer.decisions.webcertificate import certificate_faults

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
KEY = ec.derive_private_key(2026, ec.SECP256R1())
HOST = "oidc.example.org"


def certificate(
    *names: str, begins: datetime = NOW - 30 * DAY, ends: datetime = NOW + 60 * DAY, common_name: str = ""
) -> x509.Certificate:
    """Sign one with its own key; what reads as an address is one, unless it begins with `dns:`."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name or "web")])
    draft = x509.CertificateBuilder(subject, subject, KEY.public_key(), 1, begins, ends)
    if names:
        draft = draft.add_extension(x509.SubjectAlternativeName([*map(_general, names)]), critical=False)
    return draft.sign(KEY, hashes.SHA256())


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name.removeprefix("dns:"))


def faults(of: x509.Certificate, host: str = HOST) -> list[str]:
    return [*certificate_faults(of.public_bytes(Encoding.DER), host, now=NOW)]


def connects(served: x509.Certificate, host: str, folder: Path) -> bool:
    """Whether Python's TLS accepts this certificate for that host, in memory."""
    pem, identity = served.public_bytes(Encoding.PEM), folder / "identity.pem"
    identity.write_bytes(pem + KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    accepting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    accepting.load_cert_chain(identity)
    connecting = ssl.create_default_context(cadata=pem.decode())
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = accepting.wrap_bio(to_server, to_client, server_side=True)
    client = connecting.wrap_bio(to_client, to_server, server_hostname=host)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLCertVerificationError:
                return False
    return client.version() is not None


@pytest.mark.parametrize(
    ("names", "host", "is_for"),
    [
        ((HOST,), HOST, True),
        (("OIDC.Example.org",), HOST, True),
        (("other.example.org", HOST), HOST, True),
        (("other.example.org",), HOST, False),
        (("example.org",), HOST, False),
        (("*.example.org",), HOST, True),
        (("*.Example.ORG",), HOST, True),
        (("*.example.org",), "example.org", False),
        (("*.example.org",), "a.b.example.org", False),
        (("*.org",), "example.org", False),
        (("o*.example.org",), HOST, False),
        (("*idc.example.org",), HOST, False),
        (("oidc.*.org",), HOST, False),
        (("*.*.org",), HOST, False),
        (("*",), "localhost", False),
        (("*.example.org",), "xn--bcher-kva.example.org", True),
        (("localhost",), "localhost", True),
        (("192.0.2.7",), "192.0.2.7", True),
        (("192.0.2.8",), "192.0.2.7", False),
        (("dns:192.0.2.7",), "192.0.2.7", False),
        (("192.0.2.7",), HOST, False),
        (("2001:db8::7",), "2001:db8::7", True),
        (("2001:db8::7",), "2001:db8:0::7", True),
        (("2001:db8::8",), "2001:db8::7", False),
    ],
)
def test_a_certificate_is_for_a_host_as_a_tls_client_finds(
    tmp_path: Path, *, names: tuple[str, ...], host: str, is_for: bool
) -> None:
    now = datetime.now(UTC)  # noqa: TID251 - a TLS client reads the clock
    served = certificate(*names, begins=now - DAY, ends=now + DAY)
    assert connects(served, host, tmp_path) is is_for
    found = faults(certificate(*names), host)
    assert [one.partition(", the host")[0] for one in found] == ([] if is_for else [f"names: expected {host}"])


def test_a_common_name_is_no_name() -> None:
    assert faults(certificate(common_name=HOST)) == [f"names: expected {HOST}, the host of jwt_issuer, found no name"]


def test_of_many_names_some_are_shown() -> None:
    (fault,) = faults(certificate(*(f"{n}.example.org" for n in range(5)), "192.0.2.7", "192.0.2.8"))
    assert fault.endswith("found 0.example.org, 1.example.org, 2.example.org, 3.example.org, 4.example.org and 2 more")


@pytest.mark.parametrize(
    ("begins", "ends", "expected"),
    [
        (-30 * DAY, 60 * DAY, []),
        (-83 * DAY, 7 * DAY + timedelta(seconds=1), []),
        (-83 * DAY, 7 * DAY, ["it expires soon, at 2026-06-08T12:00:00+00:00"]),
        (-83 * DAY, timedelta(0), ["it expires soon, at 2026-06-01T12:00:00+00:00"]),
        (-83 * DAY, timedelta(seconds=-1), ["it expired at 2026-06-01T11:59:59+00:00"]),
        (timedelta(seconds=1), 60 * DAY, ["it is not valid before 2026-06-01T12:00:01+00:00"]),
        (timedelta(0), 60 * DAY, []),
        (-0.8 * DAY, 0.2 * DAY, []),  # a certificate of one day is replaced several times a day
        (-0.91 * DAY, 0.09 * DAY, ["it expires soon, at 2026-06-01T14:09:36+00:00"]),
        (-3000 * DAY, 8 * DAY, []),
    ],
)
def test_the_end_of_a_certificate_is_told_before_it_comes(
    begins: timedelta, ends: timedelta, expected: list[str]
) -> None:
    assert faults(certificate(HOST, begins=NOW + begins, ends=NOW + ends)) == expected


def test_several_faults_are_told_together() -> None:
    assert len(faults(certificate("other.example.org", ends=NOW - DAY))) == 2


def test_what_is_no_certificate_is_a_fault_as_well() -> None:
    (fault,) = certificate_faults(b"\x30\x03abc", HOST, now=NOW)
    assert fault.startswith("it cannot be read: ")


def test_names_that_nobody_can_read_are_a_fault_as_well() -> None:
    unread = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"\x04\x01x")
    subject = x509.Name([])
    draft = x509.CertificateBuilder(subject, subject, KEY.public_key(), 1, NOW - DAY, NOW + DAY)
    (fault,) = faults(draft.add_extension(unread, critical=False).sign(KEY, hashes.SHA256()))
    assert fault.startswith("it cannot be read: ")
