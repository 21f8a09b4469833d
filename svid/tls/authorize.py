"""Who may be on the other side of a connection: functions that take a proven SPIFFE ID and say whether it is wanted.

That the ID is proven is svid/tls/context's; here it is only compared, whole and case-sensitive. Whatever a function of somebody else's
answers, only what is unmistakable admits: `strictly` sees to that, for everything in this folder.
"""

import inspect
import logging
from collections.abc import Callable
from typing import TypeAlias, cast

from svid.errors import AuthorizationError
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = ["Authorizer", "any_in", "exactly", "matching", "strictly"]

_log = logging.getLogger(__name__)

Authorizer: TypeAlias = Callable[[SpiffeID], bool | None]
"""Admits a peer by returning None or True; refuses it by raising AuthorizationError, which gives the reason, or by returning False.

Any other answer and any other error refuses and is logged. What answers None for "no", as dict.get and re.fullmatch do, would admit: wrap
it in `matching`, which takes None for a refusal.
"""


def any_in(trust_domain: TrustDomain | str) -> Authorizer:
    """Accept everybody of that trust domain.

    Raises:
        SpiffeIDError: a text that names no trust domain.
        TypeError: neither a TrustDomain nor a text.
    """
    wanted = TrustDomain.parse(trust_domain) if isinstance(trust_domain, str) else trust_domain
    _demand(wanted, TrustDomain, "trust domain")

    def authorize(peer: SpiffeID) -> None:
        if not peer.is_member_of(wanted):
            raise AuthorizationError(f"peer: expected a member of {wanted}, found {peer}")

    return authorize


def exactly(spiffe_id: SpiffeID | str, *others: SpiffeID | str) -> Authorizer:
    """Accept that SPIFFE ID, or one of those.

    Raises:
        SpiffeIDError: a text that is no SPIFFE ID.
        TypeError: neither a SpiffeID nor a text.
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
    """Accept whom `predicate` returns True for; any other answer, None included, refuses.

    Raises:
        TypeError: `predicate` is no function, or its answer would come later.
    """
    _demand_answers_now(predicate)

    def authorize(peer: SpiffeID) -> bool:
        answer: object = predicate(peer)
        return False if answer is None else cast("bool", answer)  # what is no bool, `strictly` refuses

    return strictly(authorize)


def strictly(authorize: object) -> Callable[[SpiffeID], None]:
    """Make an authorizer unmistakable: what is made of it returns where the peer is admitted, and raises AuthorizationError elsewhere.

    Raises:
        TypeError: it is no function, or its answer would come later (async, or a generator).
    """
    asked = _demand_answers_now(authorize)

    def ask(peer: SpiffeID) -> None:
        try:
            answer = asked(peer)
        except AuthorizationError:
            raise
        except Exception as e:  # whatever goes wrong in a stranger's function admits nobody
            _log.exception("authorizer failed: refused %s", peer)
            raise AuthorizationError(f"authorizer: expected an answer, found {type(e).__name__}") from e
        if answer is None or answer is True:
            return
        if answer is False:
            raise AuthorizationError(f"peer: expected one that is allowed here, found {peer}")
        if inspect.iscoroutine(answer):
            answer.close()  # nobody will await it
        fault = f"authorizer: expected True, False or None, found {_article(type(answer).__name__)}"
        _log.error("%s: refused %s", fault, peer)
        raise AuthorizationError(fault)

    return ask


def _demand(value: object, wanted: type, name: str) -> None:
    if not isinstance(value, wanted):
        raise TypeError(f"{name}: expected a {wanted.__name__} or its text, found {_article(type(value).__name__)}")


def _demand_answers_now(authorize: object) -> Callable[[SpiffeID], object]:
    if not callable(authorize) or isinstance(authorize, type):
        found = f"the class {authorize.__name__}" if isinstance(authorize, type) else _article(type(authorize).__name__)
        raise TypeError(f"authorize: expected a function that takes a SpiffeID, found {found}")
    kinds = (inspect.iscoroutinefunction, inspect.isasyncgenfunction, inspect.isgeneratorfunction)
    if any(is_kind(one) for one in (authorize, type(authorize).__call__) for is_kind in kinds):
        raise TypeError("authorize: expected a function that answers at once, found one that is async or a generator")
    return authorize


def _article(noun: str) -> str:
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"
