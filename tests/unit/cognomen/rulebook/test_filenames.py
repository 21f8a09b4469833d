"""cognomen/rulebook/filenames: what the issuer keeps of the files of a rulebook beside their texts is limited, and can be shown."""

import pytest

from cognomen.rulebook.filenames import MOST_FILES, MOST_NAME_BYTES, check_file_name, check_files
from cognomen.rulebook.reading import MOST_BYTES

_UNPRINTABLE = "expected a file name of printable characters"


@pytest.mark.parametrize("name", ["a.toml", "a", ".a", "...", "Zoë 1.toml", "a\\b", "n" * MOST_NAME_BYTES])
def test_a_name_that_can_be_shown_is_kept(name: str) -> None:
    check_file_name(name)
    check_files({name: ""})


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", _UNPRINTABLE),
        (" ", _UNPRINTABLE),
        ("\u3164", _UNPRINTABLE),
        ("x\x1b]0;pwn\x07.toml", _UNPRINTABLE),
        ("x\x9b.toml", _UNPRINTABLE),
        ("x\u202e.toml", _UNPRINTABLE),
        ("x\n.toml", _UNPRINTABLE),
        ("\ud800", _UNPRINTABLE),
        ("é" * 128, "expected a file name of at most 255 bytes, found 256"),
        ("n" * 3_000_000, "expected a file name of at most 255 bytes, found 3000000"),
        ("a/b.toml", "expected the name of a file without its folder"),
        ("..", "expected the name of a file without its folder"),
    ],
)
def test_any_other_name_is_refused_and_a_message_stays_short(name: str, problem: str) -> None:
    with pytest.raises(ValueError, match=f"^{problem}$"):
        check_file_name(name)
    with pytest.raises(ValueError, match=f": {problem}$") as raised:
        check_files({"a.toml": "", name: ""})
    assert len(str(raised.value)) < 250
    assert str(raised.value).isprintable()


def test_files_are_counted() -> None:
    files = {f"f{number}": "" for number in range(MOST_FILES)}
    check_files(files)
    with pytest.raises(ValueError, match=r"^expected at most 10000 files, found 10001$"):
        check_files({**files, "more": ""})


def test_names_and_texts_have_a_limit_together_in_bytes() -> None:
    check_files({"abc": "é" + "x" * (MOST_BYTES - 5)})
    with pytest.raises(ValueError, match=f"all files and their names, found {MOST_BYTES + 1}$"):
        check_files({"abcd": "é" + "x" * (MOST_BYTES - 5)})
