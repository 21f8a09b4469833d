"""The file in which an operator says what becomes of names, parents and agents in an import (`cognomen rulebook import --map`)."""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import msgspec

from cognomen.protocol.names import node_id_of
from cognomen.protocol.selector import Selector
from cognomen.protocol.selectorcheck import EVERY_NODE, never_match_together, never_matches
from cognomen.rulebook.faults import Fault, Tell, shown
from cognomen.rulebook.importing import component_name
from cognomen.rulebook.notedfaults import NotedFaults
from cognomen.rulebook.places import Path, line_of, lines
from cognomen.rulebook.rules import ANY_NODE, ComponentName, Nodes
from cognomen.rulebook.structs import read_struct
from svid.errors import SVIDError
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = ["ImportMap", "parse_nodes", "read_map"]

_SOME_DOMAIN = TrustDomain("example.org")
_OWN_TYPE = "join_token"


class _Person(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who answers for an agent, and what it is for."""

    owner: str = ""
    purpose: str = ""


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    names: Mapping[str, str] = {}
    nodes: Mapping[str, object] = {}
    agent: Mapping[str, object] = {}


class ImportMap(NamedTuple):
    """What a map says: components and nodes by the path of a SPIFFE ID, owner and purpose by the name of an agent."""

    names: Mapping[str, ComponentName]
    nodes: Mapping[str, Nodes]
    people: Mapping[str, tuple[str, str]]


def read_map(content: str, file: str) -> tuple[ImportMap, Sequence[Fault]]:
    """Read it, with every fault in one run.

    Shape: TOML with the tables [names], such as "/ns/a/sa/b" = "concierge/crm"; [nodes], such as "/spire/agent/x509pop/7f" =
        ["join_token:label:team:travel"]; and [agent.NAME] with owner and purpose.
    """
    noted = NotedFaults(file)
    nothing = ImportMap({}, {}, {})
    try:
        document = tomllib.loads(content)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError, OverflowError) as e:
        reason = str(e).lower() if isinstance(e, tomllib.TOMLDecodeError) else type(e).__name__
        return nothing, [Fault(file=file, line=0, key="", problem=f"expected TOML: {reason}")]
    tell = noted.tell
    table = read_struct(document, _Table, (), tell) or _Table()
    read = ImportMap(dict(_names(table, tell)), dict(_nodes(table, tell)), dict(_people(table, tell)))
    known = lines(content) if noted.count else {}
    placed = zip(noted.paths(), noted.faults(), strict=True)
    return read, [replace(fault, line=line_of(path, known)) for path, fault in placed]


def _names(table: _Table, tell: Tell) -> Iterable[tuple[str, ComponentName]]:
    for path, text in table.names.items():
        agent, _, component = text.removeprefix("/agent/").partition("/")
        _check_path(path, ("names", path), tell)
        if (name := component_name(agent, component)) is None:
            tell(("names", path), f"expected AGENT/COMPONENT, found {shown(text)}", "")
        else:
            yield path, name


def _nodes(table: _Table, tell: Tell) -> Iterable[tuple[str, Nodes]]:
    for path, found in table.nodes.items():
        at: Path = ("nodes", path)
        _check_path(path, at, tell)
        texts = [found] if isinstance(found, str) else found
        if not isinstance(texts, list) or not all(isinstance(one, str) for one in texts):
            tell(at, f"expected node selectors, the path of a node, or any, found {shown(found)}", "")
            continue
        try:
            yield path, parse_nodes(texts)
        except ValueError as e:
            tell(at, str(e), "")


def _people(table: _Table, tell: Tell) -> Iterable[tuple[str, tuple[str, str]]]:
    for name, found in table.agent.items():
        read = read_struct(found, _Person, ("agent", name), tell)
        if read is not None:
            yield name, (read.owner, read.purpose)


def _check_path(path: str, at: Path, tell: Tell) -> None:
    try:
        is_path = bool(SpiffeID(trust_domain=_SOME_DOMAIN, path=path).path)
    except SVIDError:
        is_path = False
    if not is_path:
        tell(at, f"expected the path of a SPIFFE ID, such as /ns/a/sa/b, found {shown(path)}", "")


def parse_nodes(texts: Sequence[str]) -> Nodes:
    """What `nodes` says in a rulebook: node selectors, the path of one node, or the word any.

    Raises:
        ValueError: it is none of these.
    """
    if list(texts) == ["any"]:
        return ANY_NODE
    if len(texts) == 1 and texts[0].startswith("/"):
        try:
            if node_id_of(SpiffeID(trust_domain=_SOME_DOMAIN, path=texts[0])) is not None:
                return Nodes(path=texts[0])
        except SVIDError:
            pass
        raise ValueError(f"expected the path of a node (/cognomen/node/…), found {shown(texts[0])}")
    try:
        selectors = frozenset(Selector.parse(one) for one in texts)
    except SVIDError as e:
        raise ValueError(str(e).removeprefix("selector: ")) from e
    for one in sorted(selectors):
        expected = never_matches(one) if one.type in {_OWN_TYPE, "unix"} else ""
        if expected or one.type in {"unix", EVERY_NODE.type}:
            raise ValueError(f"expected {expected or 'a selector of a node'}, found {shown(str(one))}")
    if not selectors:
        raise ValueError("expected at least one selector, found none")
    if expected := never_match_together(selectors):
        raise ValueError(f"expected {expected}")
    return Nodes(selectors=selectors)
