"""Read manifests of spire-controller-manager: ClusterStaticEntry, and ClusterSPIFFEID as far as rules can say it.

A ClusterSPIFFEID gives an identity to every pod that its label selectors select. Those with equal labels are selectors of the workload
attestor k8s; what depends on each single pod, and what excludes pods, is not: see `podrules`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from fractions import Fraction

import msgspec

from cognomen.protocol.selector import Selector
from cognomen.rulebook.faults import Fault, Tell, key_of, shown
from cognomen.rulebook.given import EVERY_AGENT, Extra, GivenEntry, LeftOut
from cognomen.rulebook.notedfaults import NotedFaults
from cognomen.rulebook.places import Path
from cognomen.rulebook.podrules import Unruled, filled, pods_of
from cognomen.rulebook.spire import MOST_ENTRIES
from cognomen.rulebook.structs import read_struct
from svid.errors import SVIDError
from svid.spiffeid import SpiffeID

__all__ = ["is_manifest", "read_manifests"]

_GROUP = "spire.spiffe.io/"
_STATIC, _CLUSTER = "ClusterStaticEntry", "ClusterSPIFFEID"
_DURATION = re.compile(r"(?:[0-9]{1,10}(?:\.[0-9]{1,9})?(?:ns|us|µs|ms|s|m|h))+")
_PART = re.compile(r"([0-9.]+)(ns|us|µs|ms|s|m|h)")
_MICROSECONDS: Mapping[str, Fraction] = {
    "ns": Fraction(1, 1000),
    "us": Fraction(1),
    "µs": Fraction(1),
    "ms": Fraction(1000),
    "s": Fraction(10**6),
    "m": Fraction(60 * 10**6),
    "h": Fraction(3600 * 10**6),
}


class _Static(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The spec of a ClusterStaticEntry."""

    spiffe_id: str = msgspec.field(name="spiffeID")
    parent_id: str = msgspec.field(name="parentID")
    selectors: list[str]
    federates_with: list[str] = msgspec.field(name="federatesWith", default=[])
    x509_ttl: str = msgspec.field(name="x509SVIDTTL", default="")
    jwt_ttl: str = msgspec.field(name="jwtSVIDTTL", default="")
    dns_names: list[str] = msgspec.field(name="dnsNames", default=[])
    hint: str = ""
    admin: bool = False
    downstream: bool = False
    store_svid: bool = msgspec.field(name="storeSVID", default=False)
    class_name: str = msgspec.field(name="className", default="")


class _Cluster(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The spec of a ClusterSPIFFEID."""

    template: str = msgspec.field(name="spiffeIDTemplate")
    pods: Mapping[str, object] = msgspec.field(name="podSelector", default={})
    namespaces: Mapping[str, object] = msgspec.field(name="namespaceSelector", default={})
    dns_names: list[str] = msgspec.field(name="dnsNameTemplates", default=[])
    selectors: list[str] = msgspec.field(name="workloadSelectorTemplates", default=[])
    x509_ttl: str = msgspec.field(name="ttl", default="")
    jwt_ttl: str = msgspec.field(name="jwtTtl", default="")
    federates_with: list[str] = msgspec.field(name="federatesWith", default=[])
    hint: str = ""
    admin: bool = False
    downstream: bool = False
    populates_names: bool = msgspec.field(name="autoPopulateDNSNames", default=False)
    fallback: bool = False
    class_name: str = msgspec.field(name="className", default="")


def is_manifest(document: object) -> bool:
    """Whether a document is one of Kubernetes: it says its kind."""
    return isinstance(document, Mapping) and "kind" in document and "apiVersion" in document


def read_manifests(
    documents: Sequence[object], file: str, trust_domain: str
) -> tuple[Sequence[GivenEntry], Sequence[LeftOut], Sequence[Fault]]:
    """Read the documents of a file; lists of manifests may be among them, and those of other kinds are left alone.

    Args:
        trust_domain: what templates mean by `.TrustDomain`; empty: not known.
    """
    reader = _Reader(file, trust_domain)
    for number, document in enumerate(documents):
        reader.read(document, (f"document {number + 1}",) if len(documents) > 1 else ())
    return reader.entries, reader.left_out, reader.faults()


class _Reader:
    """One file while it is read."""

    def __init__(self, file: str, trust_domain: str) -> None:
        self._file = file
        self._trust_domain = trust_domain
        self.entries: list[GivenEntry] = []
        self.left_out: list[LeftOut] = []
        self._noted = NotedFaults(file)
        self._tell = self._noted.tell

    def faults(self) -> Sequence[Fault]:
        """What is wrong in it."""
        return self._noted.faults()

    def read(self, document: object, path: Path) -> None:
        """One manifest, or a list of them."""
        if not isinstance(document, dict) or not is_manifest(document):
            self._tell(path, f"expected a manifest with apiVersion and kind, found {shown(document)}")
        elif not _is_list(document):
            self._read_one(document, path)
        elif not isinstance(items := document.get("items"), list):
            self._tell((*path, "items"), f"expected a list, found {shown(items)}")
        elif len(items) > MOST_ENTRIES:
            self._tell((*path, "items"), f"expected at most {MOST_ENTRIES} manifests, found {len(items)}")
        else:
            for number, item in enumerate(items):
                self._read_one(item, (*path, "items", number))

    def _read_one(self, document: object, path: Path) -> None:
        if not isinstance(document, dict) or not is_manifest(document):
            self._tell(path, f"expected a manifest with apiVersion and kind, found {shown(document)}")
            return
        kind, version = document["kind"], document["apiVersion"]
        if kind not in (_STATIC, _CLUSTER) or not isinstance(version, str) or not version.startswith(_GROUP):
            return
        at: Path = (*path, "spec")
        spec = document.get("spec")
        known = {key: value for key, value in spec.items() if value is not None} if isinstance(spec, dict) else spec
        name = _name_of(document)
        where = f"{self._file}: {kind} {name}" if name else f"{self._file}: {key_of(path) or kind}"
        if kind == _STATIC:
            if (static := read_struct(known, _Static, at, self._tell)) is not None:
                self._static(static, at, where)
        elif (cluster := read_struct(known, _Cluster, at, self._tell)) is not None:
            self._cluster(cluster, at, where)

    def _static(self, spec: _Static, path: Path, where: str) -> None:
        before = self._noted.count
        spiffe_id, parent_id = (
            _id(text, (*path, key), self._tell)
            for key, text in (("spiffeID", spec.spiffe_id), ("parentID", spec.parent_id))
        )
        selectors = frozenset(_selectors(spec.selectors, (*path, "selectors"), self._tell))
        x509_ttl = _ttl(spec.x509_ttl, (*path, "x509SVIDTTL"), self._tell)
        jwt_ttl = _ttl(spec.jwt_ttl, (*path, "jwtSVIDTTL"), self._tell)
        if self._noted.count > before or spiffe_id is None or parent_id is None:
            return
        self.entries.append(
            GivenEntry(
                where=where,
                spiffe_id=spiffe_id,
                parent_id=parent_id,
                selectors=selectors,
                x509_ttl=x509_ttl,
                jwt_ttl=jwt_ttl,
                dns_names=tuple(spec.dns_names),
                extras=_extras(spec) | (frozenset({Extra.STORE_SVID}) if spec.store_svid else frozenset()),
            )
        )

    def _cluster(self, spec: _Cluster, path: Path, where: str) -> None:
        before = self._noted.count
        x509_ttl = _ttl(spec.x509_ttl, (*path, "ttl"), self._tell)
        jwt_ttl = _ttl(spec.jwt_ttl, (*path, "jwtTtl"), self._tell)
        if self._noted.count > before:
            return
        try:
            self.entries += list(_of_pods(spec, where, self._trust_domain, (x509_ttl, jwt_ttl)))
        except Unruled as answer:
            self.left_out.append(LeftOut(where=where, what=spec.template, reason=answer.reason, mend=answer.mend))
        except SVIDError as e:
            self.left_out.append(LeftOut(where=where, what=spec.template, reason=str(e)))


def _of_pods(
    spec: _Cluster, where: str, trust_domain: str, ttls: tuple[timedelta | None, timedelta | None]
) -> Iterator[GivenEntry]:
    """One entry for each set of pods.

    Raises:
        Unruled: rules cannot say it.
        SVIDError: a template gives no SPIFFE ID or no selector.
    """
    if spec.fallback:
        raise Unruled("it is a fallback, for pods that no other one selects, and rules have no negation")
    if spec.populates_names:
        reason = "it takes DNS names from services, which only the cluster knows"
        raise Unruled(reason, "set autoPopulateDNSNames: false, and give the names as dnsNameTemplates")
    for pods in pods_of(spec.pods, spec.namespaces, trust_domain):
        spiffe_id = SpiffeID.parse(filled(spec.template, pods.values))
        selectors = pods.selectors | {Selector.parse(filled(one, pods.values)) for one in spec.selectors}
        if not selectors:
            raise Unruled("it is for every pod of the cluster, and a component needs a selector", "add a podSelector")
        yield GivenEntry(
            where=where,
            spiffe_id=spiffe_id,
            parent_id=SpiffeID(trust_domain=spiffe_id.trust_domain, path=EVERY_AGENT),
            selectors=selectors,
            x509_ttl=ttls[0],
            jwt_ttl=ttls[1],
            dns_names=tuple(filled(one, pods.values) for one in spec.dns_names),
            extras=_extras(spec),
        )


def _is_list(item: Mapping[str, object]) -> bool:
    """Whether a manifest is a list of others."""
    return isinstance(item["kind"], str) and item["kind"].endswith("List")


def _name_of(document: Mapping[str, object]) -> str:
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    return shown(name)[1:-1] if isinstance(name, str) else ""


def _extras(spec: _Static | _Cluster) -> frozenset[Extra]:
    has = {
        Extra.HINT: bool(spec.hint),
        Extra.FEDERATES_WITH: bool(spec.federates_with),
        Extra.ADMIN: spec.admin,
        Extra.DOWNSTREAM: spec.downstream,
    }
    return frozenset(key for key, value in has.items() if value)


def _id(text: str, path: Path, tell: Tell) -> SpiffeID | None:
    try:
        return SpiffeID.parse(text)
    except SVIDError as e:
        tell(path, str(e), "put the values in place of the variables first" if "${" in text else "")
        return None


def _selectors(texts: Sequence[str], path: Path, tell: Tell) -> Iterator[Selector]:
    if not texts:
        tell(path, "expected at least one selector, found none", "")
    for number, text in enumerate(texts):
        try:
            yield Selector.parse(text)
        except SVIDError as e:
            tell((*path, number), str(e).removeprefix("selector: "), "")


def _ttl(text: str, path: Path, tell: Tell) -> timedelta | None:
    """A duration as Go writes it: 1h30m, 1.5h, 90s; empty and 0s: none."""
    if not text or text == "0":
        return None
    if not _DURATION.fullmatch(text):
        tell(path, f"expected a duration such as 90s, 30m or 1h30m, found {shown(text)}", "")
        return None
    length = sum((Fraction(number) * _MICROSECONDS[unit] for number, unit in _PART.findall(text)), Fraction())
    try:
        return timedelta(microseconds=int(length)) or None
    except OverflowError:
        tell(path, f"expected a shorter duration, found {shown(text)}", "")
        return None
