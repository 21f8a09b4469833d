"""Agents and their components in options and in documents: the SPIFFE ID of a component says which it is."""

import click

from cognomen.protocol.names import agent_and_component
from cognomen.wire.admin import document_from_message
from cognomen.wire.pb import admin_pb2 as pb
from svid.encoding import JSON
from svid.errors import SVIDError
from svid.spiffeid import SpiffeID

__all__ = ["credential_document", "named_path", "names_in"]


def named_path(
    *, spiffe_id: str | None, below: str | None, agent: str | None, component: str | None = None
) -> tuple[str, bool]:
    """The SPIFFE ID or the path that one of these options names, and whether those below it are meant, too; empty: none was given.

    Raises:
        click.UsageError: several were given, or an agent or a component that cannot be one.
    """
    given = {"--spiffe-id": spiffe_id, "--below": below, "--agent": agent, "--component": component}
    names = [option for option, value in given.items() if value]
    if len(names) > 1:
        raise click.UsageError(f"expected one of {' and '.join(names)}, found both")
    if agent and "/" in agent:
        raise click.UsageError(f"--agent: expected the name of an agent, found {agent!r}")
    if component and component.count("/") != 1:
        raise click.UsageError(f"--component: expected AGENT/COMPONENT, found {component!r}")
    rules = f"/agent/{agent or component}" if agent or component else ""
    return spiffe_id or below or rules, bool(below or agent)


def names_in(text: JSON) -> dict[str, JSON]:
    """The agent and the component of a SPIFFE ID in a document; empty: it is of neither."""
    try:
        agent, component = agent_and_component(SpiffeID.parse(str(text)))
    except SVIDError:
        agent, component = "", ""
    return {"agent": agent, "component": component}


def credential_document(one: pb.Credential) -> dict[str, JSON]:
    """A credential's document, with its agent and component."""
    return {**document_from_message(one), **names_in(one.spiffe_id)}
