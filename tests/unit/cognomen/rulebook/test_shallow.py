"""cognomen/rulebook/shallow: what tomllib would take too long to read is refused before it is read; nothing else is."""

import json
import sys
import tomllib
from collections.abc import Callable
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognomen.rulebook.shallow import MOST_DEEP, MOST_DOTS, too_deep
from cognomen.rulebook.whole import read_whole
from tests.unit.cognomen.rulebook.books import CONCIERGE


def dotted(names: int) -> str:
    return ".".join(["a"] * names)


TOO_MANY = dotted(MOST_DOTS + 2)


@pytest.mark.parametrize(
    "line",
    [
        f"{TOO_MANY} = 1",
        f"[{TOO_MANY}]",
        f"[[{TOO_MANY}]]",
        f"x = {{ {TOO_MANY} = 1 }}",
        f"x = [ 1, {{ b = 1, {TOO_MANY} = 1 }} ]",
        "a" + ' . ""' * (MOST_DOTS + 1) + " = 1",
        "a" + " . 'b.c'" * (MOST_DOTS + 1) + " = 1",
        f'x = "a\\"" # "\n{TOO_MANY} = 1',
        f"x = '''\n'' ''''' # '\n{TOO_MANY} = 1",
        f'x = """\n"" \\""" """"" # "\n{TOO_MANY} = 1',
    ],
)
def test_a_key_of_many_names_is_refused_with_its_line(line: str) -> None:
    document = f"# a.b\n\n{line}\n"
    tomllib.loads(document)  # it is TOML
    _, (fault,) = read_whole({"a.toml": document.encode()})
    place = 3 + line.count("\n")
    assert str(fault) == (
        f"a.toml:{place}: expected a key with at most {MOST_DOTS} dots, found more; "
        "write tables within each other, or quote the name"
    )


@pytest.mark.parametrize(
    "text",
    [
        f"{dotted(MOST_DOTS + 1)} = 1",
        f"[{dotted(MOST_DOTS + 1)}]\n{dotted(MOST_DOTS + 1)} = 1",
        f'x = "{TOO_MANY}"',
        f"x = '{TOO_MANY}'",
        f"x = '''\n'{TOO_MANY}\n'''",
        f'x = """\n"{TOO_MANY}\\"""\n{TOO_MANY}"""',
        f'"{TOO_MANY}" = 1 # {TOO_MANY}',
        "x = [" + "1.5, 2026-12-01T00:00:00.5Z," * 20 + "]",
        "x = [\n" + "1.5\n," * 20 + "]",
        "x = " + "[" * MOST_DEEP + "]" * MOST_DEEP,
        "[[x]]\n" * 200,
        "x = []\n[y]\n" + "".join(f"k{n} = [{{ a = 1 }}]\n" for n in range(200)),
    ],
)
def test_what_is_not_deep_is_read(text: str) -> None:
    tomllib.loads(text)
    assert too_deep(text) is None


@pytest.mark.parametrize("text", ["[", "{a=", "[\n{a="])
def test_what_is_too_deep_within_arrays_and_tables_is_refused_with_its_line(text: str) -> None:
    _, (fault,) = read_whole({"a.toml": f"x = {text * (MOST_DEEP + 1)}".encode()})
    assert fault.problem == f"expected at most {MOST_DEEP} arrays and tables within each other, found more"
    assert fault.line == 1 + text.count("\n") * (MOST_DEEP // 2)


_TEXTS = st.text(st.sampled_from("a.=[]{}\"'#\\\n ,1"), max_size=40)


@given(st.lists(st.tuples(st.booleans(), _TEXTS), max_size=6))
def test_no_text_of_a_document_counts_as_its_keys(parts: list[tuple[bool, str]]) -> None:
    document = "".join(
        f"k{number} = {json.dumps(text)}\n" if is_text else f"# {text.replace(chr(10), '')}\n"
        for number, (is_text, text) in enumerate(parts)
    )
    assert too_deep(document) is None
    assert too_deep(f"{document}{TOO_MANY} = 1") is not None


@given(
    st.lists(
        st.sampled_from(['"', "'", '"""', "'''", "\\", "\n", "#", TOO_MANY, "=", "x = ", "[", "]", " "]), max_size=12
    )
)
def test_nothing_that_tomllib_reads_hides_a_long_key(parts: list[str]) -> None:
    document = "".join(parts)
    try:
        found = tomllib.loads(document)
    except tomllib.TOMLDecodeError:
        return
    depth = 0
    todo: list[tuple[object, int]] = [(found, 0)]
    while todo:
        value, level = todo.pop()
        depth = max(depth, level)
        if isinstance(value, dict):
            todo += [(one, level + 1) for one in value.values()]
    assert (too_deep(document) is not None) is (depth > MOST_DOTS + 1)


def calls_of(work: Callable[[], object]) -> int:
    """How many functions it calls."""
    count = 0

    def called(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


_MANY: dict[str, Callable[[int], str]] = {
    "headers": lambda n: "".join(f"[{dotted(MOST_DOTS)}.b{number}]\n" for number in range(n)),
    "tables of an array": lambda n: "[[case]]\n" * n,
    "keys of a table": lambda n: "[agent.a]\n" + "".join(f"k{number} = 1\n" for number in range(n)),
    "keys of an inline table": lambda n: "x = {" + ",".join(f"k.b{number} = []" for number in range(n)) + "}\n",
    "escapes": lambda n: 'x = "' + "\\n" * n + '"\n',
    "quotes in a text": lambda n: 'x = """' + 'a""' * n + 'b"""\n',
    "a text without an end": lambda n: 'x = """' + 'x\\"""' * n,
    "agents": lambda n: "".join(f'[agent.a{number}]\nowner="a"\npurpose="b"\nnodes="any"\n' for number in range(n)),
    "a rulebook": lambda n: CONCIERGE + "#\n" * n,
}


@pytest.mark.parametrize("name", _MANY)
def test_what_a_document_costs_grows_no_faster_than_it(name: str) -> None:
    small, large = (
        calls_of(lambda n=n: read_whole({"a.toml": _MANY[name](n).encode()}))  # type: ignore[misc]  # n is bound at once
        for n in (250, 1000)
    )
    assert large < 5 * small + 1000
