"""Authorizers: functions that take a peer's proven SPIFFE ID and decide whether to admit the peer.

svid/tls/context proves the ID. Here it is only compared, as a whole and case-sensitively. An application's own authorizer may return
anything, but only a clear yes admits a peer: `strictly` ensures that for everything in this folder.
"""

import inspect
import logging
from collections.abc import Callable
from typing import Protocol, TypeAlias, cast, runtime_checkable

from svid.errors import AuthorizationError
from svid.spiffeid import SpiffeID, TrustDomain
from svid.tls.refusals import OutdatedError

__all__ = ["Authorizer", "Changing", "any_in", "demand_answers_now", "exactly", "matching", "strictly"]

_log = logging.getLogger(__name__)

Authorizer: TypeAlias = Callable[[SpiffeID], bool | None]
"""Admits a peer by returning None or True; refuses it by raising AuthorizationError, which gives the reason, or by returning False.

Any other return value or error is a refusal, and is logged. A function that returns None for "no", as dict.get and re.fullmatch do, would
admit the peer: wrap it in `matching`, which treats None as a refusal.
"""


@runtime_checkable
class Changing(Protocol):
    """An authorizer whose answers change while it is used: what is open with a peer that it no longer wants is ended."""

    def is_unwanted(self, peer: SpiffeID) -> bool:
        """Whether it is certain that this peer may not stay."""

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` when answers may have changed; returns a function that stops this."""


def any_in(trust_domain: TrustDomain | str) -> Authorizer:
    """Accept every member of that trust domain.

    Raises:
        SpiffeIDError: the text is not a trust domain name.
        TypeError: the argument is neither a TrustDomain nor a str.
    """
    wanted = TrustDomain.parse(trust_domain) if isinstance(trust_domain, str) else trust_domain
    _demand(wanted, TrustDomain, "trust domain")

    def authorize(peer: SpiffeID) -> None:
        if not peer.is_member_of(wanted):
            raise AuthorizationError(f"peer: expected a member of {wanted}, found {peer}")

    return authorize


def exactly(spiffe_id: SpiffeID | str, *others: SpiffeID | str) -> Authorizer:
    """Accept these SPIFFE IDs and no others.

    Raises:
        SpiffeIDError: a text is not a SPIFFE ID.
        TypeError: an argument is neither a SpiffeID nor a str.
    """
    listed = [SpiffeID.parse(one) if isinstance(one, str) else one for one in (spiffe_id, *others)]
    for one in listed:
        _demand(one, SpiffeID, "SPIFFE ID")
    wanted = frozenset(listed)

    def authorize(peer: SpiffeID) -> None:
        if peer not in wanted:
            raise AuthorizationError(f"peer: expected {' or '.join(sorted(map(str, wanted)))}, found {peer}")

    return authorize


def matching(predicate: Callable[[SpiffeID], bool]) -> Authorizer:
    """Accept a peer if `predicate` returns True for its ID; any other answer, None included, is a refusal.

    Raises:
        TypeError: `predicate` is not a function, or is async or a generator.
    """
    demand_answers_now(predicate)

    def authorize(peer: SpiffeID) -> bool:
        answer: object = predicate(peer)
        return False if answer is None else cast("bool", answer)  # `strictly` refuses anything but a bool

    return strictly(authorize)


def strictly(authorize: object) -> Callable[[SpiffeID], None]:
    """Wrap an authorizer so that it returns if the peer is admitted, and raises AuthorizationError in every other case.

    An OutdatedError passes as well: it says that nobody can be admitted now.

    Raises:
        TypeError: it is not a function, or is async or a generator.
    """
    asked = demand_answers_now(authorize)

    def ask(peer: SpiffeID) -> None:
        try:
            answer = asked(peer)
        except (AuthorizationError, OutdatedError):
            raise
        except Exception as e:  # a failure in the application's function admits nobody
            _log.exception("authorizer failed: refused %s", peer)
            raise AuthorizationError(f"authorizer: failed with {type(e).__name__}") from e
        if answer is None or answer is True:
            return
        if answer is False:
            raise AuthorizationError(f"peer: {peer} is not allowed here")
        if inspect.iscoroutine(answer):
            answer.close()  # nobody will await it
        fault = f"authorizer: expected True, False or None, found {_article(type(answer).__name__)}"
        _log.error("%s: refused %s", fault, peer)
        raise AuthorizationError(fault)

    return ask


def _demand(value: object, wanted: type, name: str) -> None:
    if not isinstance(value, wanted):
        raise TypeError(f"{name}: expected a {wanted.__name__} or its text, found {_article(type(value).__name__)}")


def demand_answers_now(
    function: object, name: str = "authorize", takes: str = "a SpiffeID"
) -> Callable[[SpiffeID], object]:
    """Refuse anything but a plain function, which returns its answer at once.

    Raises:
        TypeError: it is not a function, or is async or a generator; the message names what was found.
    """
    if not callable(function) or isinstance(function, type):
        found = f"the class {function.__name__}" if isinstance(function, type) else _article(type(function).__name__)
        raise TypeError(f"{name}: expected a function that takes {takes}, found {found}")
    kinds = (inspect.iscoroutinefunction, inspect.isasyncgenfunction, inspect.isgeneratorfunction)
    if any(is_kind(one) for one in (function, type(function).__call__) for is_kind in kinds):
        raise TypeError(f"{name}: expected a function that returns its answer, found one that is async or a generator")
    return function


def _article(noun: str) -> str:
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"
