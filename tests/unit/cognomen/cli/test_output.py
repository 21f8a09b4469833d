import pytest

from cognomen.cli.output import warn

Printed = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("/web\x1b[2J: 1 of 2", "/web\\x1b[2J: 1 of 2"),
        ("/web\nerror: forged", "/web\\nerror: forged"),
        ("/web\u202eten", "/web\\u202eten"),
        ("für alle", "für alle"),
    ],
)
def test_a_warning_is_one_line_that_does_not_control_the_terminal(text: str, line: str, capsys: Printed) -> None:
    warn(text)
    assert capsys.readouterr().err == f"warning: {line}\n"


def test_a_long_warning_is_whole(capsys: Printed) -> None:
    text = " ".join(["0123456789abcdef"] * 1000)
    warn(text)
    assert capsys.readouterr().err == f"warning: {text}\n"
