"""Where an import gets its entries: from the issuer, or from files that SPIRE or its users wrote."""

from collections.abc import Sequence
from typing import NamedTuple

from cognomen.cli.admin import Admin, pages
from cognomen.cli.options import read_source
from cognomen.cli.yamltext import yaml_documents
from cognomen.protocol.entry import RegistrationEntry
from cognomen.rulebook.faults import Fault
from cognomen.rulebook.given import Extra, GivenEntry, LeftOut
from cognomen.rulebook.manifests import is_manifest, read_manifests
from cognomen.rulebook.spire import read_spire
from cognomen.wire.node import entry_from_pb
from cognomen.wire.pb import admin_pb2 as pb
from svid.encoding import json_value

__all__ = ["Read", "entries_of_issuer", "given_of", "read_file"]

_PAGE = 1000


class Read(NamedTuple):
    """What a source has.

    Args:
        left_out: what can be no entry at all, such as a template that only a cluster can fill.
    """

    entries: Sequence[GivenEntry] = ()
    left_out: Sequence[LeftOut] = ()
    faults: Sequence[Fault] = ()


def entries_of_issuer(admin: Admin) -> Read:
    """All entries of the issuer."""
    request = pb.ListEntriesRequest(page_size=_PAGE)
    listed = (one for page in pages(admin.list_entries, request, every=True) for one in page.entries)
    return Read([given_of(entry_from_pb(message)) for message in listed])


def given_of(entry: RegistrationEntry) -> GivenEntry:
    """An entry of the issuer, with all that it has but what the issuer notes about it: its number, its time."""
    has = {
        Extra.HINT: bool(entry.hint),
        Extra.DEFAULT: entry.default,
        Extra.EXPIRES_AT: entry.expires_at is not None,
        Extra.FEDERATES_WITH: bool(entry.federates_with),
        Extra.ADMIN: entry.admin,
        Extra.DOWNSTREAM: entry.downstream,
        Extra.STORE_SVID: entry.store_svid,
    }
    return GivenEntry(
        where=f"entry {entry.id}",
        spiffe_id=entry.spiffe_id,
        parent_id=entry.parent_id,
        selectors=entry.selectors,
        x509_ttl=entry.x509_svid_ttl,
        jwt_ttl=entry.jwt_svid_ttl,
        dns_names=entry.dns_names,
        audiences=entry.audiences,
        callers=None if entry.callers is None else tuple(map(str, entry.callers)),
        observe=entry.observe,
        owner=entry.owner,
        labels=entry.labels,
        extras=frozenset(key for key, value in has.items() if value),
        is_spire=False,
    )


def read_file(source: str, trust_domain: str) -> Read:
    """A file, or standard input: the JSON of `spire-server entry show`, or manifests as YAML or JSON.

    Args:
        trust_domain: the name that templates of manifests mean; empty: not known.
    """
    text = read_source(source)
    name = "standard input" if source == "-" else source
    try:
        documents = [json_value(text.encode())] if text.lstrip()[:1] in {"{", "["} else list(yaml_documents(text))
    except ValueError as e:
        return Read(faults=[Fault(file=name, line=0, key="", problem=str(e))])
    if any(map(is_manifest, documents)):
        return Read(*read_manifests(documents, name, trust_domain))
    if len(documents) != 1:
        problem = "expected SPIRE's entries as JSON, or manifests of spire-controller-manager, found neither"
        return Read(faults=[Fault(file=name, line=0, key="", problem=problem)])
    entries, faults = read_spire(documents[0], name)
    return Read(entries=entries, faults=faults)
