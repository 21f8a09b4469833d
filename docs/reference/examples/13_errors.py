"""Errors.

Each error of the SDK is a `SVIDError`. Its `clause` names the rule that was broken, if there is one. A credential that was revoked
raises an error that is also a `RevokedError`, whatever else it is.

Names: SVIDError, BundleError, X509SVIDError, RevokedError
"""

import os
import socket

from svid import (
    X509SVID,
    Bundle,
    BundleError,
    RevokedError,
    SVIDError,
    TrustDomain,
    X509Source,
    X509SVIDError,
    any_in,
    client_context,
)


def connect(source: X509Source, address: tuple[str, int]) -> socket.socket | None:
    try:
        return client_context(source, any_in("example.org")).wrap_socket(socket.create_connection(address))
    except RevokedError as e:
        print("its credential was revoked:", e)
    except SVIDError as e:
        print("it proved nothing that we accept:", e, e.clause)
    except OSError as e:
        print("it is not there, or it refused us:", e)
    return None


with X509Source() as source:
    assert connect(source, ("127.0.0.1", 1)) is None

try:
    Bundle.from_pem(TrustDomain("example.org"), b"no certificate")
except BundleError as e:
    print(e)

try:
    X509SVID.parse(b"no certificates", os.urandom(32))
except X509SVIDError as e:
    print(e)
