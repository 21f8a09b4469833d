"""cognomen/cli/yamltext: YAML as JSON has it, and no more."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cognomen.cli.yamltext import yaml_documents

_TEXTS = st.text(max_size=20).filter(lambda text: text.isprintable())
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=12,
)


@given(_VALUES)
def test_what_was_written_is_read(value: object) -> None:
    assert list(yaml_documents(yaml.safe_dump(value, allow_unicode=True))) == ([] if value is None else [value])


def test_documents_are_read_one_by_one_and_words_are_texts() -> None:
    text = "---\n# nothing\n---\na: no\nb: on\nc: 1_000\nd: 010\ne: 1.5\nf: ~\ng: 'true'\nh: |\n  x\n  y\ni: {}\n--- [x, [], {y: }]\n"
    assert list(yaml_documents(text)) == [
        {"a": "no", "b": "on", "c": "1_000", "d": "010", "e": 1.5, "f": None, "g": "true", "h": "x\ny\n", "i": {}},
        ["x", [], {"y": None}],
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\na: 2\n", "line 2: the key 'a' is there twice"),
        ("a: &x 1\nb: *x\n", "line 1: anchors and aliases are not taken"),
        ("a: *x\n", "line 1: anchors and aliases are not taken"),
        ("a: !!python/object:os.system x\n", "line 1: tags are not taken"),
        ("a: !x {}\n", "line 1: tags are not taken"),
        ("a: {<<: {b: 1}}\n", "line 1: merge keys are not taken"),
        ("? [a]\n: b\n", "line 1: expected a text as the key, found a mapping or a list"),
        ("[" * 65 + "]" * 65, "line 1: expected at most 64 levels of nesting, found more"),
        ("[" * 100_000, "line 1: expected "),
        ("a: [\n", "expected YAML: "),
        ("a: b: c\n", "line 1: expected YAML: "),
        ("a: \x07\n", "expected YAML: "),
        ("\ta: b\n", "line 1: expected YAML: "),
        ("#" * (16 * 1024 * 1024 + 1), "expected at most 16777216 bytes of YAML, found more"),
    ],
)
def test_what_json_cannot_say_is_refused_with_its_line(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r"expected|are not taken|twice") as caught:
        list(yaml_documents(text))
    assert words in str(caught.value)
