"""What every workload attestor promises, looked at on real processes."""

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attestor.workloadattestor.port import WorkloadAttestor
from attestor.workloadattestor.unix import UnixAttestor
from cognomen.gate.caller import Caller, Process
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.selector import Selector
from tests.doubles.cgroup import CgroupAttestor, CgroupSettings
from tests.doubles.clock import FakeClock


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A workload attestor, and the facts that it can be asked for, as `type:key`."""

    attestor: WorkloadAttestor
    facts: frozenset[str]


def unix() -> Case:
    keys = ("uid", "gid", "supplementary_gid", "user", "group", "supplementary_group", "path", "sha256")
    return Case(attestor=UnixAttestor(FakeClock()), facts=frozenset(f"unix:{key}" for key in keys))


def cgroup() -> Case:
    return Case(attestor=CgroupAttestor(CgroupSettings()), facts=frozenset({"cgroup:path"}))


CASES: tuple[Callable[[], Case], ...] = (unix, cgroup)


@pytest.fixture(params=CASES, ids=lambda make: make.__name__)
def case(request: pytest.FixtureRequest) -> Case:
    made: Case = request.param()
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A program that runs until it is ended, as a caller."""

    caller: Caller
    child: "subprocess.Popen[bytes]"

    def end(self) -> None:
        self.child.kill()
        self.child.wait()


@pytest.fixture
def program() -> Iterator[Running]:
    with ExitStack() as leaving:
        child = subprocess.Popen([shutil.which("sleep") or "/bin/sleep", "60"])
        running = Running(
            caller=Caller(
                pid=child.pid,
                uid=os.getuid(),
                gid=os.getgid(),
                groups=frozenset(os.getgroups()),
                process=Process(os.pidfd_open(child.pid)),
            ),
            child=child,
        )
        leaving.callback(running.end)
        leaving.callback(running.caller.process.close)
        yield running


def test_its_name_is_a_selectors_type(case: Case) -> None:
    assert re.fullmatch(r"[a-z0-9_]+", case.attestor.name)
    assert {fact.partition(":")[0] for fact in case.facts} == {case.attestor.name}


async def test_its_selectors_bear_its_name_and_the_keys_of_its_facts(case: Case, program: Running) -> None:
    found = await case.attestor.attest(program.caller, needed=case.facts)
    assert {f"{one.type}:{one.value.partition(':')[0]}" for one in found} <= case.facts


async def test_the_same_caller_has_the_same_facts(case: Case, program: Running) -> None:
    first = await case.attestor.attest(program.caller, needed=case.facts)
    assert await case.attestor.attest(program.caller, needed=case.facts) == first


@given(data=st.data())
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_who_needs_more_is_given_no_less(case: Case, program: Running, data: st.DataObject) -> None:
    needed = data.draw(st.sets(st.sampled_from(sorted(case.facts))))
    less = await case.attestor.attest(program.caller, needed=needed)
    assert less <= await case.attestor.attest(program.caller, needed=case.facts)


@pytest.mark.parametrize("needed", [{"other:key"}, {"other"}, {""}, {"unix:no_such_key", "cgroup:no_such_key"}])
async def test_facts_of_others_and_unknown_ones_add_nothing(
    case: Case, program: Running, needed: Collection[str]
) -> None:
    nothing = await case.attestor.attest(program.caller, needed=())
    assert await case.attestor.attest(program.caller, needed=needed) == nothing
    assert await case.attestor.unseen(program.caller, needed=needed) == []


async def test_many_may_be_looked_at_at_once(case: Case, program: Running) -> None:
    found = await asyncio.gather(*(case.attestor.attest(program.caller, needed=case.facts) for _ in range(20)))
    assert len(set(found)) == 1


async def test_a_caller_that_has_ended_is_refused_whatever_is_needed(case: Case, program: Running) -> None:
    program.end()
    for needed in (frozenset[str](), case.facts):
        with pytest.raises(Refused) as refused:
            await case.attestor.attest(program.caller, needed=needed)
        assert refused.value.kind is Kind.UNAUTHENTICATED


async def test_a_process_that_took_the_pid_of_the_caller_shows_nothing(case: Case, program: Running) -> None:
    gone = replace(program.caller, process=Process(-1))
    with pytest.raises(Refused) as refused:
        await case.attestor.attest(gone, needed=case.facts)
    assert refused.value.kind is Kind.UNAUTHENTICATED


async def test_what_it_cannot_see_is_told_in_words_and_is_no_selector_then(case: Case, program: Running) -> None:
    seen = {selector_fact(one) for one in await case.attestor.attest(program.caller, needed=case.facts)}
    for told in await case.attestor.unseen(program.caller, needed=case.facts):
        assert told
        assert not any(told.startswith(f"{fact}:") for fact in seen)


def selector_fact(selector: Selector) -> str:
    return f"{selector.type}:{selector.value.partition(':')[0]}"
