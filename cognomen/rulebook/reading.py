"""Read the files of a rulebook: TOML to rules, with every fault in one run.

Decided here: forms of values. What rules mean together: `checks`.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from types import MappingProxyType

from msgspec import UNSET, UnsetType

from cognomen.protocol.entry import MAX_TTL
from cognomen.protocol.selector import Selector
from cognomen.protocol.selectorcheck import EVERY_NODE, never_match_together, never_matches
from cognomen.rulebook.faults import MOST_FAULTS, Fault, Mend, in_order, key_of, shown, text_of_mend
from cognomen.rulebook.limits import check_limits, limits_of
from cognomen.rulebook.places import Path, line_of, lines
from cognomen.rulebook.rules import ANY_NODE, Agent, Case, Component, ComponentName, Nodes, Provider, Rulebook, Where
from cognomen.rulebook.shallow import too_deep
from cognomen.rulebook.structs import read_struct
from cognomen.rulebook.suggesting import Known, suggestion
from cognomen.rulebook.tables import AgentTable, CaseTable, ComponentTable, Mode, ProviderTable, SelectorTypesTable
from cognomen.rulebook.texts import NAME, check_audience, check_name, check_text, check_type, read_length
from cognomen.rulebook.tomlfaults import not_toml
from svid.errors import SVIDError

__all__ = ["MOST_BYTES", "MOST_LIFE", "read"]

MOST_BYTES = 16 * 1024 * 1024
"""How long all files of a rulebook may be together."""

MOST_LIFE = timedelta(days=365)
"""How long a token of a provider may live."""

_MOST_SELECTORS = 100
_MOST_SETS = 64
_TABLES = ("agent", "provider", "case", "selector_types")


def read(files: Mapping[str, bytes]) -> tuple[Rulebook, Sequence[Fault]]:
    """Read all files; what has a fault is left out of the rules.

    Args:
        files: their contents, by the names that faults shall name.
    """
    if (total := sum(map(len, files.values()))) > MOST_BYTES:
        name = max(files, key=lambda one: len(files[one]))
        problem = f"expected at most {MOST_BYTES} bytes in all files together, found {total}"
        return Rulebook(), [Fault(file=name, line=0, key="", problem=problem, mend="split the rulebook")]
    faults: list[Fault] = []
    told = _Told()
    readers = [_File(name, content, told) for name, content in files.items()]
    kinds = [one.selector_types() for one in readers]
    node_types = frozenset({"join_token"}.union(*(one.node for one in kinds))) - {EVERY_NODE.type}
    workload_types = frozenset({"unix"}.union(*(one.workload for one in kinds)))
    types = _Types(node=node_types, workload=workload_types)
    agents: dict[str, Agent] = {}
    providers: dict[str, Provider] = {}
    cases: list[Case] = []
    for reader in readers:
        reader.types = types
        for agent in reader.agents():
            if agent.name in agents:
                reader.tell(
                    agent.where.path,
                    f"agent {agent.name}: it is in {agents[agent.name].where.file} as well",
                    "keep one of them",
                )
            else:
                agents[agent.name] = agent
        for provider in reader.providers():
            if provider.name in providers:
                other = providers[provider.name].where.file
                reader.tell(
                    provider.where.path, f"provider {provider.name}: it is in {other} as well", "keep one of them"
                )
            else:
                providers[provider.name] = provider
        cases += reader.cases()
        faults += reader.faults()
    rulebook = Rulebook(
        agents=agents, providers=providers, cases=cases, node_types=node_types, workload_types=workload_types
    )
    return rulebook, in_order(faults, told.count - len(faults))


class _Types:
    """Which types of selectors are known."""

    def __init__(self, node: frozenset[str], workload: frozenset[str]) -> None:
        self.node, self.workload = node, workload
        self.all = node | workload
        self.known = {node: Known(node), workload: Known(workload)}


class _Told:
    """How many faults all files have."""

    count = 0


class _File:
    """One file while it is read."""

    def __init__(self, name: str, content: bytes, told: _Told) -> None:
        self._name = name
        self._text = ""
        self._told = told
        self._found: list[tuple[Path, str, str]] = []
        self._whole: list[Fault] = []
        self.types = _Types(frozenset(), frozenset())
        self._document = self._parsed(content)

    def tell(self, path: Path, problem: str, mend: Mend = "") -> None:
        """Note a fault; of very many, the first ones are kept."""
        self._told.count += 1
        if self._told.count <= MOST_FAULTS:
            self._found.append((path, problem, text_of_mend(mend)))

    def faults(self) -> Iterator[Fault]:
        """Those that were told, with their lines."""
        yield from self._whole
        known = lines(self._text) if self._found else {}
        for path, problem, mend in self._found:
            yield Fault(file=self._name, line=line_of(path, known), key=key_of(path), problem=problem, mend=mend)

    def _parsed(self, content: bytes) -> dict[str, object]:
        try:
            self._text = content.decode()
            if deep := too_deep(self._text):
                self._fail(*deep)
                return {}
            document: dict[str, object] = tomllib.loads(self._text)
        except UnicodeDecodeError as e:
            line = content[: e.start].count(b"\n") + 1
            self._fail(line, f"expected UTF-8, found the byte 0x{content[e.start]:02x}", "save the file as UTF-8")
        except tomllib.TOMLDecodeError as e:
            self._fail(*not_toml(self._text, e))
        except (RecursionError, ValueError, OverflowError) as e:
            self._fail(0, f"expected TOML that can be read, found: {type(e).__name__}", "")
        else:
            for name in document:
                if name not in _TABLES:
                    self.tell((name,), "unknown key", partial(suggestion, name, _TABLES))
            return document
        return {}

    def _fail(self, line: int, problem: str, mend: str) -> None:
        self._told.count += 1
        self._whole.append(Fault(file=self._name, line=line, key="", problem=problem, mend=mend))

    def selector_types(self) -> SelectorTypesTable:
        """Which types plugins write."""
        path: Path = ("selector_types",)
        found = read_struct(self._document.get("selector_types", {}), SelectorTypesTable, path, self.tell)
        if found is None:
            return SelectorTypesTable()
        for key in ("node", "workload"):
            for number, kind in enumerate(getattr(found, key)):
                check_type(kind, (*path, key, number), self.tell)
        return found

    def agents(self) -> Iterator[Agent]:
        """Its agents, without what has a fault."""
        for name, table in self._named("agent"):
            path: Path = ("agent", name)
            before = self._told.count
            found = read_struct(table, AgentTable, path, self.tell, but="component")
            components = dict(self._components(name, table, path, found))
            if found is None:
                continue
            if found.mode is Mode.OBSERVE:
                components = {key: replace(one, mode=Mode.OBSERVE) for key, one in components.items()}
            for key in ("owner", "purpose"):
                check_text(getattr(found, key), (*path, key), self.tell)
            for key, label in found.labels.items():
                check_text(key, (*path, "labels", key), self.tell)
                check_text(label, (*path, "labels", key), self.tell)
            if not components and self._told.count == before:
                self.tell(path, "expected a component, found none", f"add a table [agent.{name}.component.…]")
            yield Agent(
                name=name,
                owner=found.owner,
                purpose=found.purpose,
                state=found.state,
                components=components,
                review_by=None if found.review_by is UNSET else found.review_by,
                on_overdue=found.on_overdue,
                labels=MappingProxyType(dict(found.labels)),
                limits=limits_of(found),
                where=Where(file=self._name, path=path),
            )

    def _named(self, key: str) -> Iterator[tuple[str, object]]:
        tables = self._document.get(key, {})
        if not isinstance(tables, dict):
            self.tell((key,), f"expected tables [{key}.NAME], found {shown(tables)}")
            return
        for name, table in tables.items():
            if check_name(name, (key, name), self.tell):
                yield name, table

    def _components(
        self, agent: str, table: object, path: Path, found: AgentTable | None
    ) -> Iterator[tuple[str, Component]]:
        tables = table.get("component", {}) if isinstance(table, dict) else {}
        if not isinstance(tables, dict):
            self.tell((*path, "component"), f"expected tables [agent.{agent}.component.NAME], found {shown(tables)}")
            return
        # A fault of the agent hides none of its components.
        shared = "any" if found is None else found.nodes
        nodes = None if shared is UNSET else self._nodes(shared, (*path, "nodes"))
        for name, each in tables.items():
            own = (*path, "component", name)
            if not check_name(name, own, self.tell):
                continue
            read_one = read_struct(each, ComponentTable, own, self.tell)
            if read_one is not None:
                component = self._component(
                    ComponentName(agent, name), read_one, own, nodes, is_shared=shared is not UNSET
                )
                if component is not None:
                    yield name, component

    def _component(
        self, name: ComponentName, found: ComponentTable, path: Path, nodes: Nodes | None, *, is_shared: bool
    ) -> Component | None:
        proofs = self._proofs(found, path)
        if found.nodes is not UNSET:
            nodes = self._nodes(found.nodes, (*path, "nodes"))
        elif not is_shared:
            mend = (
                'give node selectors, the path of a node, or "any"; for all components of the agent: in its own table'
            )
            self.tell((*path, "nodes"), "missing", mend)
        check_limits(found, path, self.tell)
        ttls = {key: self._ttl(getattr(found, key), (*path, key)) for key in ("x509_ttl", "jwt_ttl")}
        if proofs is None or nodes is None:
            return None
        return Component(
            name=name,
            kind=found.kind,
            proofs=proofs,
            nodes=nodes,
            x509_ttl=ttls["x509_ttl"],
            jwt_ttl=ttls["jwt_ttl"],
            dns_names=tuple(found.dns_names),
            may_call=tuple(self._callees(name, found, path)),
            model=found.model,
            audiences=tuple(found.audiences),
            allow=frozenset(found.allow),
            limits=limits_of(found),
            mode=found.mode,
            where=Where(file=self._name, path=path),
        )

    def _proofs(self, found: ComponentTable, path: Path) -> tuple[frozenset[Selector], ...] | None:
        if (found.selectors is UNSET) is (found.prove is UNSET):
            both = "expected selectors or prove, found " + ("neither" if found.selectors is UNSET else "both")
            self.tell(path, both, 'write what a process must show: selectors = ["unix:uid:1001"]')
            return None
        if found.prove is UNSET:
            assert found.selectors is not UNSET  # noqa: S101 - one of the two is given
            sets, at = [found.selectors], [(*path, "selectors")]
        else:
            sets, at = found.prove, [(*path, "prove", number) for number in range(len(found.prove))]
            if not 1 <= len(sets) <= _MOST_SETS:
                self.tell((*path, "prove"), f"expected 1 to {_MOST_SETS} sets of selectors, found {len(sets)}")
                return None
        proofs = [self._selectors(texts, place, self.types.workload) for texts, place in zip(sets, at, strict=True)]
        return tuple(dict.fromkeys(one for one in proofs if one)) if all(proofs) else None

    def _selectors(self, texts: Sequence[str], path: Path, known: frozenset[str]) -> frozenset[Selector]:
        """These selectors; none, if one of them has a fault."""
        before = self._told.count
        if not 1 <= len(texts) <= _MOST_SELECTORS:
            self.tell(path, f"expected 1 to {_MOST_SELECTORS} selectors, found {len(texts)}")
            return frozenset()
        found = {one for number, text in enumerate(texts) if (one := self._selector(text, (*path, number), known))}
        if self._told.count == before and (expected := never_match_together(found)):
            self.tell(path, f"expected {expected}")
        return frozenset(found) if self._told.count == before else frozenset()

    def _selector(self, text: str, path: Path, known: frozenset[str]) -> Selector | None:
        try:
            found = Selector.parse(text)
        except SVIDError as e:
            self.tell(path, str(e).removeprefix("selector: "))
            return None
        if found.type not in known:
            mend: Mend = partial(self.types.known[known].suggestion, found.type)
            if expected := never_matches(found):  # such as uid:1001
                mend = f"expected {expected}"
            elif found.type in self.types.all:
                mend = "selectors of nodes go into nodes, those of processes into selectors"
            self.tell(path, f"selector type {shown(found.type)} is unknown here", mend)
        elif expected := never_matches(found):
            self.tell(path, f"expected {expected}, found {shown(text)}, which matches nothing")
        else:
            return found
        return None

    def _nodes(self, found: str | list[str], path: Path) -> Nodes | None:
        if isinstance(found, list):
            selectors = self._selectors(found, path, self.types.node)
            return Nodes(selectors=selectors) if selectors else None
        if found == "any":
            return ANY_NODE
        if found.startswith("/cognomen/node/") and len(found.split("/")) == 5:  # noqa: PLR2004 - cognomen, node, attestor, id
            return Nodes(path=found)
        mend = "" if ":" not in found else "write selectors as a list"
        self.tell(
            path,
            f'expected node selectors, the path of a node (/cognomen/node/…), or "any", found {shown(found)}',
            mend,
        )
        return None

    def _ttl(self, found: str | UnsetType, path: Path) -> timedelta | None:
        return None if found is UNSET else read_length(found, path, self.tell, most=MAX_TTL)

    def _callees(self, name: ComponentName, found: ComponentTable, path: Path) -> Iterator[ComponentName]:
        for number, text in enumerate(found.may_call):
            agent, slash, component = text.rpartition("/")
            callee = ComponentName(agent if slash else name.agent, component)
            if not (NAME.fullmatch(callee.agent) and NAME.fullmatch(callee.component)):
                self.tell((*path, "may_call", number), f"expected COMPONENT or AGENT/COMPONENT, found {shown(text)}")
            else:
                yield callee

    def providers(self) -> Iterator[Provider]:
        """Its providers, without what has a fault."""
        for name, table in self._named("provider"):
            path: Path = ("provider", name)
            found = read_struct(table, ProviderTable, path, self.tell)
            if found is None:
                continue
            life = found.longest_life
            if found.owner:
                check_text(found.owner, (*path, "owner"), self.tell)
            yield Provider(
                name=name,
                audience=found.audience,
                longest_life=None
                if life is UNSET
                else read_length(life, (*path, "longest_life"), self.tell, most=MOST_LIFE),
                owner=found.owner,
                where=Where(file=self._name, path=path),
            )

    def cases(self) -> Iterator[Case]:
        """Its tests, without what has a fault."""
        tables = self._document.get("case", [])
        if not isinstance(tables, list):
            self.tell(("case",), f"expected tables [[case]], found {shown(tables)}")
            return
        for number, table in enumerate(tables):
            path: Path = ("case", number)
            found = read_struct(table, CaseTable, path, self.tell)
            if found is None:
                continue
            before = self._told.count
            check_text(found.name, (*path, "name"), self.tell)
            for at, audience in enumerate([] if found.audiences is UNSET else found.audiences):
                check_audience(audience, (*path, "audiences", at), self.tell)
            selectors = self._selectors(found.selectors, (*path, "selectors"), self.types.workload)
            if isinstance(found.node, str):
                self._nodes(found.node, (*path, "node"))
            node = [] if isinstance(found.node, str) else found.node
            expect = [self._expected(text, (*path, "expect", at)) for at, text in enumerate(found.expect)]
            shows = self._selectors(node, (*path, "node"), self.types.node) if node else frozenset[Selector]()
            if self._told.count == before:
                yield Case(
                    name=found.name,
                    node=shows,
                    node_path=found.node if isinstance(found.node, str) else "",
                    selectors=selectors,
                    expect=frozenset(one for one in expect if one),
                    audiences=None if found.audiences is UNSET else frozenset(found.audiences),
                    where=Where(file=self._name, path=path),
                )

    def _expected(self, text: str, path: Path) -> ComponentName | None:
        agent, _, component = text.removeprefix("/agent/").partition("/")
        if NAME.fullmatch(agent) and NAME.fullmatch(component):
            return ComponentName(agent, component)
        self.tell(path, f"expected AGENT/COMPONENT, found {shown(text)}")
        return None
