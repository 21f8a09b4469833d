"""cognomen/cli/planlines, planfacts and plainly: what people and programs read of a plan."""

from datetime import timedelta

import pytest

from cognomen.cli.plainly import plainly
from cognomen.cli.planfacts import PlanFacts, document_of
from cognomen.cli.planlines import print_lines
from cognomen.protocol.entry import EntryID
from cognomen.rulebook.compiling import compiled
from cognomen.rulebook.rules import Rulebook
from cognomen.wire.admin import moment_to_text
from cognomen.wire.node import entry_to_pb, time_to_pb
from cognomen.wire.pb import admin_pb2 as pb
from svid.encoding import JSON
from svid.spiffeid import TrustDomain
from tests.doubles.issuer_values import NOW
from tests.unit.cognomen.rulebook.books import CONCIERGE, book

OVERLAPPING = '[agent.a]\nowner = "o"\npurpose = "p"\nnodes = "any"\n' + "".join(
    f'[agent.a.component.c{at}]\nkind = "other"\nselectors = ["unix:uid:1"]\nallow = ["overlap"]\n' for at in range(200)
)


def facts(document: str = CONCIERGE, before: str = "", **plan: object) -> PlanFacts:
    in_force = {"a.toml": before} if before else {}
    return PlanFacts(
        rulebook=book(document),
        files={"a.toml": document},
        before=book(before) if before else Rulebook(),
        files_before=in_force,
        plan=pb.RulebookPlan(in_force=len(in_force), digest="d", new_revision=True, **plan),  # type: ignore[arg-type]  # its fields
    )


def created(document: str) -> list[pb.PlannedChange]:
    entries = compiled(book(document), TrustDomain("example.org"))
    return [pb.PlannedChange(after=entry_to_pb(one)) for one in entries]


def lines(found: PlanFacts, capsys: pytest.CaptureFixture[str]) -> list[str]:
    print_lines(found)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("https://crm.example.org", "https://crm.example.org"),
        ("books trips for employees", "books trips for employees"),
        ("x; nodes: any", '"x; nodes: any"'),
        ("x, y", '"x, y"'),
        ('say "x"', '"say \\"x\\""'),
        ("a → b", '"a → b"'),
        ("\x1b[2J", '"\\\\x1b[2J"'),
        (["a", "b, c"], ["a", '"b, c"']),
        ({"k; x": "v"}, {'"k; x"': "v"}),
        (7, 7),
        (None, None),
        ("", ""),
    ],
)
def test_a_text_that_could_be_taken_for_another_part_is_quoted(value: JSON, shown: JSON) -> None:
    assert plainly(value) == shown


def test_no_text_imitates_another_part_of_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    document = CONCIERGE.replace("https://crm.example.org", "https://crm; nodes: any").partition("[[case]]")[0]
    document = document.replace("unix:path:/opt/crm", "unix:path:/opt; audiences: -").replace(
        "team:travel", "team:x; y"
    )
    document = document.replace("books trips", "x; state: draft")
    told = lines(facts(document, changes=created(document)), capsys)
    assert (
        '+ /agent/concierge/crm  selectors: "unix:path:/opt; audiences: -", unix:uid:1004;'
        ' audiences: "https://crm; nodes: any"; callers: /agent/concierge/orchestrator; nodes: "join_token:label:team:x; y"'
    ) in told
    assert '+ nodes "join_token:label:team:x; y"' in told
    assert any('purpose: "x; state: draft for employees"; state: active' in line for line in told)


def test_what_is_retired_held_and_ends_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    ends = [
        pb.PlannedEnd(
            spiffe_id=f"spiffe://example.org/agent/concierge/c{at:02}",
            x509=1,
            jwt=2,
            later=1,
            audiences=["https://a, b"],
            more_audiences=3,
            ends_at=time_to_pb(NOW),
        )
        for at in range(22)
    ]
    told = lines(
        facts(
            retired=["ended"],
            held=[
                pb.HeldAgent(
                    name="concierge",
                    actor="uid:0",
                    at=time_to_pb(NOW + timedelta(microseconds=7)),
                    comment="it; misbehaves",
                )
            ],
            ended=3,
            superseded=1,
            ends=ends,
            more_ends=5,
            exchanged=[pb.Exchanged(audience="https://model", until=time_to_pb(NOW + timedelta(hours=1)))],
            warnings=["x"],
            more_warnings=2,
        ),
        capsys,
    )
    assert "- agent ended is retired for good: no agent ever gets this name again" in told
    (held,) = (line for line in told if line.startswith("! agent concierge is suspended by an operator (uid:0, "))
    assert f'{moment_to_text(NOW)}: "it; misbehaves"): nothing is issued for it until it is resumed' in held
    at = told.index("3 credentials revoked at once, 1 credential once they are replaced")
    assert told[at + 1].startswith(
        '  /agent/concierge/c00: 1 X509-SVID, 2 JWT-SVIDs (1 once replaced), for "https://a, b" and 3 more, valid until '
    )
    assert told[at + 21] == "  and 7 identities more"
    assert told[at + 22].startswith("tokens that were exchanged at https://model live until at most ")


def test_guard_rails_are_bounded_and_the_new_ones_come_first(capsys: pytest.CaptureFixture[str]) -> None:
    told = [line for line in lines(facts(OVERLAPPING, OVERLAPPING), capsys) if line.startswith("!")]
    assert told[2].startswith(
        "! a/c0 allows overlap: a process can be a/c0 and a/c3 at once (a.toml:7); and 196 more like this"
    )
    assert (len(told), told[-1]) == (101, "! and 494 guard rails more")
    more = f'{OVERLAPPING}[agent.a.component.z]\nkind = "other"\nselectors = ["unix:path:/z"]\nallow = ["any-user"]\n'
    more = more.replace("unix:path:/z", "unix:gid:7").replace('["any-user"]', '["any-user", "overlap"]')
    told = [line for line in lines(facts(more, OVERLAPPING), capsys) if line.startswith("!")]
    assert told[0] == "! new: a/z allows any-user: every user of the node can show these selectors (a.toml:807)"
    assert told[1] == "! new: a/c0 allows overlap: a process can be a/c0 and a/z at once (a.toml:7)"
    found = document_of(facts(more, OVERLAPPING))["allowed"]
    assert isinstance(found, list)
    assert sum(one["is_new"] for one in found if isinstance(one, dict)) == 201


def test_a_test_that_fails_is_told_because_nothing_is_refused_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    failing = CONCIERGE.replace('expect = ["concierge/reasoning"]', "expect = []")
    said = "! test the model's layer fails: expected nothing, found concierge/reasoning; see: cognomen test RULES"
    assert said in lines(facts(failing, CONCIERGE), capsys)
    assert document_of(facts(failing))["failed_tests"] == ["the model's layer"]
    other = CONCIERGE.replace('audiences = ["https://api.anthropic.com"]', "audiences = []")
    assert "! test the model's layer fails: it has other audiences; see: cognomen test RULES" in lines(
        facts(other), capsys
    )
    assert document_of(facts())["failed_tests"] == []


def test_files_that_mean_the_same_are_told_if_nothing_else_is(capsys: pytest.CaptureFixture[str]) -> None:
    told = lines(facts(f"# a comment\n{CONCIERGE}", CONCIERGE), capsys)
    assert told[0] == "~ file a.toml  means the same as before"
    assert document_of(facts(f"# a comment\n{CONCIERGE}", CONCIERGE))["files"] == {
        "added": [],
        "changed": ["a.toml"],
        "removed": [],
    }
    many = PlanFacts(
        rulebook=Rulebook(),
        files={f"{at:02}.toml": "" for at in range(25)},
        before=Rulebook(),
        files_before={"x.toml": ""},
        plan=pb.RulebookPlan(new_revision=True),
    )
    told = lines(many, capsys)
    assert (told[19], told[20]) == ("+ file 19.toml  means the same as before", "~ and 6 files more")


def test_tests_are_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    case = f"[[case]]{CONCIERGE.partition('[[case]]')[2]}"
    cases = "".join(case.replace("the model's layer", f"t{at:02}") for at in range(25))
    told = lines(facts(CONCIERGE + cases, CONCIERGE), capsys)
    assert (told[0], told[19], told[20]) == ("+ test t00", "+ test t19", "~ and 5 tests more")


def test_programs_get_everything(capsys: pytest.CaptureFixture[str]) -> None:
    changed = CONCIERGE.replace("travel-platform@", "trips@")
    entry = next(compiled(book(CONCIERGE), TrustDomain("example.org")))
    update = pb.PlannedChange(before=entry_to_pb(entry), after=entry_to_pb(entry))
    gone = pb.PlannedChange(before=entry_to_pb(entry))
    found = facts(changed, CONCIERGE, changes=[*created(changed), update, gone], unchanged=2)
    document = document_of(found)
    assert (document["created"], document["updated"], document["deleted"], document["unchanged"]) == (5, 1, 1, 2)
    assert document["rules"] == [
        {
            "what": "agent",
            "name": "concierge",
            "before": {"owner": "travel-platform@example.org"},
            "after": {"owner": "trips@example.org"},
        }
    ]
    assert (document["new_revision"], document["retired"], document["held"], document["ends"]) == (True, [], [], [])
    told = lines(found, capsys)
    assert "- nodes join_token:label:team:travel" in told
    assert "~ agent concierge  owner: travel-platform@example.org → trips@example.org" in told


def test_an_agent_whose_review_was_due_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    print_lines(facts(CONCIERGE.replace("2027-03-31", "2020-01-31"), warnings=["x\x1b"], more_warnings=2))
    assert capsys.readouterr().err.splitlines() == [
        "warning: x\\x1b",
        "warning: and 2 more like these",
        "warning: agent concierge: its review was due on 2020-01-31; ask travel-platform@example.org",
    ]


def test_ids_of_new_entries_are_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    changes = created(CONCIERGE)
    changes[0].after.id = EntryID("0123")
    assert not [line for line in lines(facts(changes=changes), capsys) if "0123" in line]


def test_a_suspension_whose_name_the_rulebook_lacks_is_named_with_what_has_its_selectors(
    capsys: pytest.CaptureFixture[str],
) -> None:
    held = [
        pb.HeldAgent(name=name, at=time_to_pb(NOW), actor="uid:0", comment="taken over")
        for name in ("h/c", "h/d", "gone")
    ]
    heirs = [["h/c9"], [f"h/d{at}" for at in range(5)], []]
    lost = [pb.LostHold(held=one, heirs=each, more_heirs=len(each) // 5) for one, each in zip(held, heirs, strict=True)]
    found = facts(lost=lost)
    shown = [line for line in lines(found, capsys) if line.startswith("!")]
    by = "is suspended by an operator (uid:0, 2026-01-01T12:00:00Z: taken over), and the rulebook has no"
    assert shown == [
        f"! h/c {by} component of that name; h/c9 has its selectors and is not suspended",
        f"! h/d {by} component of that name; h/d0, h/d1, h/d2 and 3 more have its selectors and are not suspended",
        f"! gone {by} agent of that name",
    ]
    document = document_of(found)["lost"]
    assert isinstance(document, list)
    assert [one["heirs"] for one in document if isinstance(one, dict)] == heirs
