"""The transcript: describes the events of a scene to a reader, in 80 columns."""

import textwrap

from cognomen.demo.scene import DAEMONS, Event

__all__ = ["paragraph", "sentence", "told"]

_COLUMNS = 80
_WHO = 12


def told(seconds: float, who: str, text: str) -> str:
    """Format an event: when it happened, who reported it, and what."""
    head = f"{seconds:5.1f} s  {who:<{_WHO}}  "
    return _wrapped(text, first=head, rest=" " * len(head))


def paragraph(text: str) -> str:
    """Wrap a text."""
    return _wrapped(text, first="", rest="")


def _wrapped(text: str, *, first: str, rest: str) -> str:
    lines = textwrap.wrap(
        text, _COLUMNS, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines)


def sentence(event: Event) -> str:
    """Describe an event; empty if a reader need not know it."""
    if event.who == DAEMONS:
        return ""
    return _of_identity(event) or _of_call(event) or _of_model(event)


def _of_identity(event: Event) -> str:
    facts = event.facts
    match event.name:
        case "identity":
            return f"is {facts['spiffe_id']}, {_svid(event)}"
        case "gained":
            return f"is also {facts['spiffe_id']}, {_svid(event)}"
        case "rotated" if facts["own"]:
            return f"rotated: {_svid(event)}; {int(facts['made']) + int(facts['answered'])} calls"
        case "lost":
            return "has lost its identities, but keeps using the old SVIDs"
        case "rotated":
            return f"as {str(facts['spiffe_id']).rpartition('/')[2]} rotated: {_svid(event)}"
        case _:
            return ""


def _of_call(event: Event) -> str:
    facts = event.facts
    match event.name:
        case "answered":
            token = f", token of {facts['token_of']}" if facts["token_of"] else ""
            text = f"answered {facts['caller']}: {facts['what']}{token}"
        case "refused":
            text = f"REFUSED {facts['caller']}: {facts['why']}"
        case "called":
            with_token = " with a JWT-SVID" if facts["token"] else ""
            text = f"called {facts['peer']} over mTLS{with_token}: {facts['what']}"
        case "turned away":
            text = f"was refused by {facts['peer']}: {facts['what']}"
        case "handshake refused":
            text = f"REFUSED the handshake of {facts['peer']}, which was revoked"
        case "connection closed":
            text = f"CLOSED its open connection to {facts['peer']}, which was revoked"
        case "token refused":
            text = f"REFUSED a JWT-SVID of {facts['peer']}, which was revoked"
        case "failed":
            text = f"CALL FAILED with {facts['peer']}: {facts['why']}"
        case _:
            text = ""
    return text


def _of_model(event: Event) -> str:
    facts = event.facts
    match event.name:
        case "traded" if facts["number"] == 1:
            return f"traded a JWT-SVID of {facts['caller']} for an access token of {facts['seconds']} s"
        case "traded":
            return f"traded another JWT-SVID for an access token: {facts['number']} so far, each taken once"
        case "thought":
            return f"called the model through the unchanged {facts['sdk']}, no key stored: {facts['what']}; answer: {facts['said']}"
        case _:
            return ""


def _svid(event: Event) -> str:
    time_of_day = str(event.facts["not_after"]).partition("T")[2].partition("+")[0]
    return f"serial …{str(event.facts['serial'])[-8:]}, until {time_of_day}Z"
