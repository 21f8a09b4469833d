"""Rows of a large rulebook: proved, planned, applied and explained; one changed component on its way; matching on a node."""

import asyncio
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import uvloop

from bench.house import House
from bench.results import Measured, percentile, spread
from bench.rig.daemons import COGNOMEN
from bench.rig.http2 import Call, Connection, framed, wait_for_identity
from bench.settings import Settings
from cognomen.cli.admin import connect
from cognomen.cli.planned import apply_planned, plan_of
from cognomen.process.collector import collect_rarely
from cognomen.protocol.entry import EntryID
from cognomen.protocol.selector import Selector
from cognomen.rulebook.engine import Engine, Shown
from cognomen.rulebook.matching import Index
from cognomen.rulebook.proving import prove
from cognomen.rulebook.rules import Rulebook
from cognomen.rulebook.whole import read_whole

__all__ = ["component_pushed", "matching", "rulebook_large"]

T = TypeVar("T")

_COMPONENTS = 10_000
_AGENTS = 50
_ENTRIES = 1000
_ROUNDS = 10  # each plans and applies all components
_QUESTIONS = 200
_NEAR = 5  # misses, as `explain` shows
_CHANGES = 2  # the exit code of a plan that changes something
_ELSEWHERE = 999_999  # a uid that nobody has
_OWN = b"/agent/a0/own"


def rulebook_large(settings: Settings) -> Measured:
    """What an operator does with 10,000 components: each step once; the commands from their start to their end."""
    collect_rarely()  # as the command does
    with House.running(settings.directory) as house:
        rules = house.directory / "rules.toml"
        rules.write_text(_rules(settings.count(_COMPONENTS), own_uid=_ELSEWHERE))
        content = {rules.name: rules.read_bytes()}
        read_seconds, (rulebook, _) = _timed(partial(read_whole, content))
        prove_seconds, findings = _timed(lambda: list(prove(rulebook)))
        engine_seconds, engine = _timed(partial(Engine, rulebook))
        figures = {
            "read s": read_seconds,
            "prove s": prove_seconds,
            "findings": float(len(findings)),
            "plan, the first s": _command_seconds(house, "plan", str(rules), code=_CHANGES),
            "apply s": _command_seconds(house, "apply", str(rules)),
            "plan, unchanged s": _command_seconds(house, "plan", str(rules)),
            "explain, engine s": engine_seconds,
            **spread(_explained(engine, rulebook), "explain, one more, "),
        }
    return Measured(figures=figures, samples=1)


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def _command_seconds(house: House, *arguments: str, code: int = 0) -> float:
    began = time.perf_counter()
    done = subprocess.run(
        [*COGNOMEN, *arguments, "--socket", str(house.admin_socket)], capture_output=True, text=True, check=False
    )
    took = time.perf_counter() - began
    if done.returncode != code:
        raise RuntimeError(f"{arguments[0]}: expected exit code {code}, found {done.returncode}: {done.stderr[-400:]}")
    return took


def _explained(engine: Engine, rulebook: Rulebook) -> Sequence[float]:
    """How long each of many processes took to be explained; each shows what one component demands but for its node."""
    took = []
    components = list(rulebook.components())
    for one in components[:: max(1, len(components) // _QUESTIONS)]:
        shown = Shown(selectors=one.proofs[0], node=frozenset({Selector("join_token", "label:n:none")}))
        seconds, misses = _timed(partial(engine.misses, shown, limit=_NEAR))
        if one.name not in {miss.component.name for miss in misses}:
            raise RuntimeError(f"explain: expected {one.name} among the misses")
        took.append(seconds)
    return took


def component_pushed(settings: Settings) -> Measured:
    """One component of 10,000 becomes that of another uid: its workload's open stream has the SVID."""
    with House.running(settings.directory) as house:
        house.invite(n="n0")
        house.joining.start()
        house.create(house.entry("self"))
        return uvloop.run(_component_pushed(settings, house))


async def _component_pushed(settings: Settings, house: House) -> Measured:
    rules, count = house.directory / "rules.toml", settings.count(_COMPONENTS)
    await wait_for_identity(house.socket)
    connection = await Connection.open(house.socket)
    stream = connection.call("FetchX509SVID", framed(b""))
    whole, pushed = [], []
    for _ in range(min(_ROUNDS, settings.rounds)):
        await asyncio.to_thread(_apply, house, rules, count, _ELSEWHERE)
        await _until(stream, _OWN, holds=False)
        applying = asyncio.ensure_future(asyncio.to_thread(_apply, house, rules, count, os.getuid()))
        received = await _until(stream, _OWN, holds=True)
        began, answered = await applying
        whole.append(received - began)
        pushed.append(max(0.0, received - answered))
    connection.close()
    return Measured(figures=spread(pushed, "after the answer, ") | spread(whole, "whole apply, "), samples=len(pushed))


def _apply(house: House, rules: Path, components: int, own_uid: int) -> tuple[float, float]:
    """When the call that applies the rulebook began, and when it was answered."""
    rules.write_text(_rules(components, own_uid=own_uid))
    with connect(house.admin_socket) as admin:
        planned = plan_of(admin, rules, let_expire=False)
        began = time.perf_counter()
        apply_planned(admin, planned, "bench")
    return began, time.perf_counter()


async def _until(stream: Call, text: bytes, *, holds: bool) -> float:
    while True:
        moment, message = await stream.next()
        if (text in message) == holds:
            return moment


def matching(settings: Settings) -> Measured:
    """What a caller is, among 1,000 entries of its node."""
    count = settings.count(_ENTRIES)
    house = House(settings.directory)
    index = Index()
    for number in range(count):
        entry = house.entry(f"n{number}", f"uid:{number % 100}", f"path:/srv/{number}")
        index.add(replace(entry, id=EntryID(str(number))))
    facts = ["gid:100", "user:somebody", "group:users", "supplementary_gid:100", f"sha256:{'0' * 64}"]
    took: list[float] = []
    for number in range(count):
        own = [f"uid:{number % 100}", f"path:/srv/{number}", *facts]
        selectors = frozenset(Selector("unix", value) for value in own)
        seconds, found = _timed(partial(index.match, selectors))
        if len(found) != 1:
            raise RuntimeError(f"matching: expected 1 entry, found {len(found)}")
        took.append(seconds)
    figures = {f"p{part} µs": percentile(took, part) * 1e6 for part in (50, 99)}
    return Measured(figures=figures, samples=len(took))


def _rules(components: int, *, own_uid: int) -> str:
    """A rulebook of agents on a node each; the first one also has the component `own`."""
    each = max(1, components // _AGENTS)
    own = f'[agent.a0.component.own]\nkind = "connector"\nselectors = ["unix:uid:{own_uid}"]\n'
    return own + "".join(_agent(number, each) for number in range(_AGENTS))


def _agent(number: int, components: int) -> str:
    uids = range(1_000_000 + number * components, 1_000_000 + (number + 1) * components)
    head = f'[agent.a{number}]\nowner = "bench@example.org"\npurpose = "is measured"\nnodes = ["join_token:label:n:n{number}"]\n'
    return head + "".join(
        f'[agent.a{number}.component.c{uid}]\nkind = "connector"\n'
        f'selectors = ["unix:uid:{uid}", "unix:path:/srv/a{number}/bin/python"]\n'
        for uid in uids
    )
