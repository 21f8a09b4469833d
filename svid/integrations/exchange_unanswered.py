"""Why no answer came from a provider's endpoint: in words, with what to look at, and whether the same may succeed later.

What is sent, and how long we wait for the answer: svid/integrations/exchange_post.
"""

import re
import socket
import ssl
from http.client import HTTPException, IncompleteRead, RemoteDisconnected
from typing import NamedTuple
from urllib.error import URLError

from svid.errors import SVIDError

__all__ = ["Unanswered", "no_answer_within", "unanswered"]

_TUNNEL = re.compile(r"Tunnel connection failed: ([0-9]{3})")
_FIRST_SERVER_ERROR = 500
_URL = "is the URL right?"
_WAY = "can this machine reach it, and may it (firewall, https_proxy in the environment)?"


class Unanswered(NamedTuple):
    """What to say, and whether the same exchange may succeed later without a change by anybody."""

    reason: str
    hint: str
    is_temporary: bool = False


def no_answer_within(seconds: float) -> Unanswered:
    """The time was over."""
    return Unanswered(
        f"no answer within {seconds:g} s", f"{_WAY} if it needs longer, give TokenExchange a timeout", True
    )


def unanswered(error: OSError | HTTPException) -> Unanswered:
    """What an error of the network or of HTTP means; the text of an HTTPException may be a part of what came, and is left out."""
    inner = error.reason if isinstance(error, URLError) else error
    if isinstance(inner, HTTPException):  # some are also an OSError
        return _of_http(inner)
    return _of_network(inner) if isinstance(inner, OSError) else Unanswered("the request failed", _URL)


def _of_http(error: HTTPException) -> Unanswered:
    if isinstance(error, IncompleteRead | RemoteDisconnected):
        return Unanswered("the connection ended before the whole answer came", _URL, is_temporary=True)
    return Unanswered("expected an answer of HTTP, found none", _URL)


def _of_network(error: OSError) -> Unanswered:
    if isinstance(error, ssl.SSLCertVerificationError):
        hint = "give TokenExchange a context with the authority of the provider's certificate"
        return Unanswered(f"its certificate is not trusted: {error.verify_message}", hint)
    if isinstance(error, SVIDError):  # a LiveContext refuses the provider
        return Unanswered(str(error), "the context that TokenExchange was given says who may be there")
    if found := _TUNNEL.match(str(error)):
        hint = "look at https_proxy and no_proxy in the environment"
        is_temporary = int(found[1]) >= _FIRST_SERVER_ERROR
        return Unanswered(f"the proxy refuses to connect us, with {found[1]}", hint, is_temporary)
    if isinstance(error, socket.gaierror):
        hint = f"{_URL} does this machine find the name (getent hosts)?"
        return Unanswered(_words(error), hint, is_temporary=error.errno == socket.EAI_AGAIN)
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        return Unanswered(_words(error), "does it speak TLS there, and does it accept ours?")
    return Unanswered(_words(error), _WAY, is_temporary=True)


def _words(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
