"""Limits on issuance, from the rulebook to a workload's call: both daemons in processes of their own, and the stock calls."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from svid.errors import WorkloadAPIError
from svid.workloadapi.client import WorkloadAPIClient
from tests.flow.twodaemons import World

pytestmark = pytest.mark.timeout(180)

CRM, LEDGER = "spiffe://example.org/agent/concierge/crm", "spiffe://example.org/agent/concierge/ledger"
AUDIENCE, OTHER = "https://crm.example.org", "https://more.example.org"
_MANY = 2000
_RULES = f"""\
[agent.concierge]
owner = "travel-platform@example.org"
purpose = "books trips for employees"
nodes = ["join_token:label:team:travel"]
AGENT

[agent.concierge.component.crm]
kind = "connector"
selectors = ["unix:uid:{os.getuid()}", "unix:gid:{os.getgid()}"]
audiences = ["{AUDIENCE}", "{OTHER}"]
allow = ["overlap", "shared-user", "shared-audience"]
x509_ttl = "6s"
jwt_ttl = "TTL"
COMPONENT

[agent.concierge.component.ledger]
kind = "connector"
selectors = ["unix:uid:{os.getuid()}"]
audiences = ["{AUDIENCE}"]
allow = ["overlap", "shared-user", "shared-audience"]
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, "--breaker-open=1s")
    with world.issuer:
        world.command("node", "invite", "--label=team=travel", f"--write={tmp_path}/invite")
        yield world


def apply(world: World, *, agent: str = "", component: str = "", jwt_ttl: str = "6s") -> None:
    file = world.directory / "rules.toml"
    file.write_text(_RULES.replace("AGENT", agent).replace("COMPONENT", component).replace("TTL", jwt_ttl))
    world.command("apply", str(file))


def once(client: WorkloadAPIClient, spiffe_id: str, audience: str, *, fresh: bool) -> tuple[str, str]:
    """The status of one call, and the token or the reason."""
    try:
        return "OK", client.fetch_jwt_svid(audience, spiffe_id=spiffe_id, fresh=fresh).token
    except WorkloadAPIError as e:
        return str(e.code), str(e)


def ask(client: WorkloadAPIClient, spiffe_id: str, audience: str = AUDIENCE, *, fresh: bool = True) -> str:
    """A token, or why not; while the entries are on their way nothing matches."""
    for _ in range(_MANY):
        code, answer = once(client, spiffe_id, audience, fresh=fresh)
        if code in {"OK", "RESOURCE_EXHAUSTED"}:
            return answer
        assert code in {"PERMISSION_DENIED", "UNAVAILABLE"}, answer
    raise AssertionError("never answered")


def is_refused(answer: str) -> bool:
    return "limit of" in answer


def loop_until_refused(client: WorkloadAPIClient, *spiffe_ids: str) -> str:
    for number in range(_MANY):
        answer = ask(client, spiffe_ids[number % len(spiffe_ids)])
        if is_refused(answer):
            return answer
    raise AssertionError("never refused")


def standings(world: World) -> dict[str, dict[str, object]]:
    """By path and limit."""
    found = world.command("agent", "show", "concierge")["limits"]
    assert isinstance(found, list)
    return {f"{one['path']} {one['limit']}": one for one in found}


def test_a_component_that_loops_is_refused_and_told_why_while_all_else_goes_on(world: World) -> None:
    apply(world, component='limits = { jwt_per_minute = 20, x509_per_minute = 5 }\nlimits_mode = "enforce"')
    with world.attestor, WorkloadAPIClient(f"unix://{world.workload}") as client:
        kept = ask(client, CRM, fresh=False)
        leaf = {one.spiffe_id.path: one.serial for one in client.fetch_x509_context().svids}["/agent/concierge/crm"]
        # 1. The loop is refused, with the reason, by the issuer.
        answer = loop_until_refused(client, CRM)
        assert "limit of component concierge/crm: expected at most 20 new JWT-SVIDs a minute, found more" in answer
        told = world.run("fetch", "jwt", f"--audience={OTHER}", f"--spiffe-id={CRM}", f"--socket={world.workload}")
        assert (told.returncode, "limit of component concierge/crm" in told.stderr) == (1, True), told.stderr
        assert "hint: try again later; if a limit of the rulebook is too low" in told.stderr
        # 2. Another component of the same agent goes on.
        assert not any(is_refused(ask(client, LEDGER)) for _ in range(30))
        # 3. Renewals go on while the loop does: of the token that is kept, and of the certificate.
        renewed, refused = kept, 0
        while renewed == kept or not refused:
            refused += is_refused(ask(client, CRM, OTHER))
            renewed = ask(client, CRM, fresh=False)
            assert not is_refused(renewed)
        while leaf in {one.serial for one in client.fetch_x509_context().svids}:
            assert not is_refused(ask(client, CRM, fresh=False))
            ask(client, CRM, OTHER)
        # 4. Operators see it.
        status = world.run("status", "--output=json")
        (row,) = json.loads(status.stdout)["over_limits"]
        assert (row["path"], row["limit"], row["mode"]) == ("/agent/concierge/crm", "jwt_per_minute", "enforce")
        assert "over_limits:" in world.run("status").stdout
        assert "limits:" in world.run("agent", "show", "concierge").stdout
        # 5. Once the loop ends, the breaker closes.
        while standings(world)["/agent/concierge/crm jwt_per_minute"]["breaker"] != "closed":
            pass
        assert not is_refused(ask(client, CRM))
        rows = [
            json.loads(line)
            for line in world.run("audit", "tail", "--page-size=1000", "-o", "json").stdout.splitlines()
        ]
        actions = [one["action"] for one in rows if one["action"].startswith("breaker ")]
        assert actions[0] == "breaker tripped"
        assert {"breaker tripped", "breaker half-opened", "breaker closed"} == set(actions)
        assert len(actions) < 30


def test_a_limit_of_the_agent_is_that_of_all_its_components_and_counting_refuses_nothing(world: World) -> None:
    limits = "limits = { jwt_per_minute = 20 }\n"
    apply(world, agent=limits)
    with world.attestor, WorkloadAPIClient(f"unix://{world.workload}") as client:
        assert not any(is_refused(ask(client, one)) for one in (CRM, LEDGER) for _ in range(30))
        assert int(str(standings(world)["/agent/concierge jwt_per_minute"]["over"])) >= 30
        apply(world, agent=f'{limits}limits_mode = "enforce"')
        answer = loop_until_refused(client, CRM, LEDGER)
        assert "limit of agent concierge: expected at most 20 new JWT-SVIDs a minute" in answer
        assert {is_refused(ask(client, one)) for one in (CRM, LEDGER)} == {True}


def test_a_burst_suspends_the_agent_where_the_rulebook_asks_for_it(world: World) -> None:
    component = 'limits = { jwt_per_minute = 20 }\nlimits_mode = "enforce"\non_burst = "suspend"'
    apply(world, component=component)
    with world.attestor, WorkloadAPIClient(f"unix://{world.workload}") as client:
        assert is_refused(loop_until_refused(client, CRM))
        codes = iter(lambda: once(client, LEDGER, AUDIENCE, fresh=True)[0], "PERMISSION_DENIED")
        assert {code for code, _ in zip(codes, range(_MANY), strict=False)} <= {"OK", "UNAVAILABLE"}, (
            "no limit of its own"
        )
        agents = world.command("agent", "list")["agents"]
        assert isinstance(agents, list)
        (agent,) = agents
        assert (agent["state"], agent["held_by"]) == (
            "suspended",
            "issuer component concierge/crm exceeded jwt_per_minute = 20",
        )
        world.run("agent", "resume", "concierge", "--comment=mended")
        assert not is_refused(ask(client, LEDGER))


def test_after_a_restart_of_both_daemons_what_they_had_comes_back_and_the_limits_are_in_force(world: World) -> None:
    component = 'limits = { jwt_per_minute = 20, x509_per_minute = 1, nodes = 1 }\nlimits_mode = "enforce"'
    apply(world, component=component, jwt_ttl="5m")
    with world.attestor, WorkloadAPIClient(f"unix://{world.workload}") as client:
        assert not is_refused(ask(client, CRM, OTHER))
    world.issuer.stop()
    world.issuer.start()
    with world.attestor, WorkloadAPIClient(f"unix://{world.workload}") as client:
        assert is_refused(loop_until_refused(client, CRM))
        assert not is_refused(ask(client, CRM, OTHER, fresh=False)), "its tokens are gone, and one is asked for again"
        while CRM not in {str(one.spiffe_id) for one in client.fetch_x509_context().svids}:
            pass  # and so is its certificate
        over = {path: one["over"] for path, one in standings(world).items()}
        assert over.pop("/agent/concierge/crm jwt_per_minute") != 0
        assert set(over.values()) == {0}, over


def test_after_a_resume_a_component_has_what_it_had_and_a_refusal_is_among_the_rows_of_its_agent(world: World) -> None:
    apply(world, component='limits = { live_svids = 3 }\nlimits_mode = "enforce"', jwt_ttl="5m")
    with world.attestor, WorkloadAPIClient(f"unix://{world.workload}") as client:
        had = {one: ask(client, CRM, one, fresh=False) for one in (AUDIENCE, OTHER)}
        assert not any(map(is_refused, had.values()))
        assert world.run("agent", "suspend", "concierge").returncode == 0
        while once(client, CRM, AUDIENCE, fresh=False)[0] == "OK":
            pass
        assert world.run("agent", "resume", "concierge").returncode == 0
        has = {one: ask(client, CRM, one, fresh=False) for one in (AUDIENCE, OTHER)}
        assert not any(map(is_refused, has.values()))
        assert not set(has.values()) & set(had.values())
        assert is_refused(loop_until_refused(client, CRM))
        rows = world.listed("audit", "rows", "--agent=concierge", "--decision=refused")
        assert {(one["agent"], one["component"], one["entry_revision"]) for one in rows} == {("concierge", "crm", 1)}
        assert {json.dumps(one["facts"]).count('"rulebook": "1"') for one in rows} == {1}
