"""cognomen/rulebook/suggesting: the known word that may have been meant, among few and among many."""

import pytest

from cognomen.rulebook.suggesting import Known, suggestion

FEW = ["orchestrator", "reasoning", "connector", "other"]


def test_among_few_words_the_nearest_is_suggested_and_else_all_of_them() -> None:
    assert suggestion("conector", FEW) == "did you mean connector?"
    assert suggestion("zzz", FEW) == "known: connector, orchestrator, other, reasoning"
    assert suggestion("zzz", []) == ""
    assert suggestion("connector" * 100, FEW).startswith("known: "), "long words are not compared"


@pytest.mark.parametrize("word", ["part-number7", "part-nmuber-7", "part--number-7", "pert-number-7", "part-number-7"])
def test_among_many_a_word_is_found_that_differs_in_one_character(word: str) -> None:
    known = Known([f"segment-{letter}{at}" for letter in "abc" for at in range(50)] + ["part-number-7"])
    assert known.suggestion(word) == "did you mean part-number-7?"
    assert known.suggestion("something-else") == ""


def test_a_word_that_was_not_meant_is_not_suggested() -> None:
    assert suggestion("conector", []) == ""
    assert Known(FEW).suggestion("conector", but="connector") == "known: orchestrator, other, reasoning"
    many = Known([f"segment-{at}" for at in range(100)] + ["crm-a", "crm-b"])
    assert many.suggestion("crm-", but="crm-a") == "did you mean crm-b?"
    assert Known(["x"]).suggestion("y", but="x") == ""


def test_there_is_no_index_of_too_many_characters() -> None:
    assert Known([f"{at:>10000}" for at in range(101)]).suggestion("1") == ""
