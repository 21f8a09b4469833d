"""The demo's live view: what it shows, in terminals of several sizes."""

import io
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from cognomen.demo.scene import Event
from cognomen.demo.view import View, render

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
SERIAL = "81a21c3605" + "0" * 14 + "deadbeef"


def event(who: str, name: str, **facts: str | int) -> Event:
    return Event(who=who, at=1.0, name=name, facts=facts)


def svid(who: str, name: str = "identity", path: str = "", serial: str = SERIAL, **facts: int) -> Event:
    until = (NOW + 20 * SECOND).isoformat()
    spiffe_id = f"spiffe://example.org/agent/concierge/{path or who}"
    return event(who, name, spiffe_id=spiffe_id, serial=serial, not_after=until, **facts)


@pytest.fixture
def view() -> View:
    view = View()
    for role in ("connector", "reasoning", "orchestrator"):
        view.note(svid(role), NOW)
    view.note(svid("connector", "gained", "archivist"), NOW)
    view.note(event("orchestrator", "counted", made=120, answered=0, failed=0, tokens=1), NOW)
    view.note(event("connector", "counted", made=0, answered=60, failed=0, tokens=0), NOW)
    for number in range(40):
        view.tell(float(number), "reasoning", f"did number {number}, which is " + "long " * 20)
    return view


def shown(view: View, width: int = 80, height: int = 24, *, now: datetime = NOW, **options: bool) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, record=True, color_system=None)
    console.print(render(view, width=width, height=height, now=now, **options))
    return console.export_text().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (60, 15), (80, 10), (200, 60)])
def test_it_fits_whatever_terminal_it_is_shown_in(view: View, width: int, height: int) -> None:
    lines = shown(view, width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width


def test_each_identity_is_there_once_with_its_newest_serial(view: View) -> None:
    view.note(svid("reasoning", "rotated", serial="0" * 24 + "cafecafe", own=1, made=0, answered=7, failed=0), NOW)
    text = "\n".join(shown(view))
    for path in ("orchestrator", "reasoning", "connector", "archivist"):
        assert text.count(f"/agent/concierge/{path}") == 1
    assert "…cafecafe" in text
    assert "1 rotations" in text


def test_what_was_revoked_is_shown_no_more_and_its_replacement_is(view: View) -> None:
    view.note(event("connector", "lost", why="no identity"), NOW)
    view.note(svid("connector-2", path="connector", serial="0" * 24 + "cafecafe"), NOW)
    text = "\n".join(shown(view, width=120))
    assert "archivist" not in text
    assert text.count("/agent/concierge/connector") == 1
    assert "connector-2" in text
    assert "…cafecafe" in text


def test_calls_are_summed_in_the_title_and_each_component_has_its_own(view: View) -> None:
    lines = shown(view)
    assert "120 calls, 0 failed" in lines[0]
    (orchestrator,) = [line for line in lines if line.startswith("/agent/concierge/orchestrator")]
    assert orchestrator.split()[-3:] == ["120", "0", "0"]


def test_calls_of_the_model_are_in_the_line_of_who_made_them(view: View) -> None:
    view.note(event("reasoning", "counted", made=7, answered=5, failed=0), NOW)
    view.note(event("model", "counted", made=0, answered=7, failed=0, traded=2), NOW)
    lines = shown(view)
    (reasoning,) = [line for line in lines if line.startswith("/agent/concierge/reasoning")]
    assert reasoning.split()[-3:] == ["7", "5", "0"]
    assert "127 calls, 0 failed" in lines[0]


def test_the_time_left_runs_out(view: View) -> None:
    full, half, over = (shown(view, now=NOW + seconds * SECOND) for seconds in (0, 10, 30))
    assert "██████████ 20 s" in "\n".join(full)
    assert "█████░░░░░ 10 s" in "\n".join(half)
    assert "░░░░░░░░░░  0 s" in "\n".join(over)


@pytest.mark.parametrize("width", [60, 77, 78, 80, 100, 111, 112, 120])
def test_no_word_is_cut(view: View, width: int) -> None:
    view.tell(41.0, "orchestrator", "called spiffe://example.org/agent/concierge/connector over mTLS with a JWT-SVID")
    whole = {word for line in shown(view, 300) for word in line.split()} | {"…", "…deadbeef"}
    whole |= {word.removeprefix("spiffe://example.org") for word in whole}
    assert {word for line in shown(view, width) for word in line.split()} <= whole


def test_the_newest_events_are_at_the_bottom(view: View) -> None:
    lines = shown(view)
    assert "did number 39" in lines[-1]
    assert "did number 38" in lines[-2]


def test_a_terminal_that_knows_ascii_alone_gets_no_other_sign(view: View) -> None:
    assert "\n".join(shown(view, is_ascii=True)).isascii()


def test_it_is_shown_before_anything_has_happened() -> None:
    assert "0 calls, 0 failed" in shown(View())[0]
