"""What a node may answer to a question: nothing that is too much, unprintable, or about an identity that it was not asked about."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognomen.protocol.questions import MOST_IDS, MOST_PROGRAMS, Answer, ProgramChange
from cognomen.wire.pb import node_pb2 as pb
from cognomen.wire.questions import answer_from_pb, answer_to_pb
from svid.errors import SVIDError
from svid.spiffeid import SpiffeID

IDS = {text: SpiffeID.parse(text) for text in (f"spiffe://example.org/{name}" for name in "abc")}
some_ids = st.lists(st.sampled_from(list(IDS.values())), unique=True).map(tuple)
counts = st.integers(0, 1_000_000)
programs = st.builds(
    ProgramChange,
    pid=st.integers(1, 2**31 - 1),
    uid=st.integers(0, 2**32 - 2),
    executable=st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=100),
    gains=some_ids,
    loses=some_ids,
    gains_more=counts,
    loses_more=counts,
)


@given(st.builds(Answer, programs=st.lists(programs, max_size=3).map(tuple), programs_more=counts, unknown=counts))
def test_an_answer_is_read_as_it_was_written(answer: Answer) -> None:
    message = pb.AnswerRequest.FromString(answer_to_pb("q", answer).SerializeToString())
    assert message.question_id == "q"
    assert answer_from_pb(message, IDS) == answer


def fault(change: Callable[[pb.AnswerRequest], object]) -> str:
    """Why an answer is refused that is right but for this change."""
    program = ProgramChange(pid=1, uid=0, executable="/bin/a", gains=(IDS["spiffe://example.org/a"],))
    message = answer_to_pb("q", Answer(programs=(program,)))
    change(message)
    with pytest.raises(SVIDError) as refused:
        answer_from_pb(message, IDS)
    return str(refused.value)


def with_field(name: str, value: object) -> Callable[[pb.AnswerRequest], object]:
    return lambda one: setattr(one.programs[0], name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pid", 0),
        ("pid", 2**31),
        ("uid", 2**32 - 1),
        ("gains_more", 2**31),
        ("loses_more", 2**31),
        ("executable", "/bin/\x1b[31m"),
        ("executable", "a" * 513),
    ],
)
def test_a_program_that_cannot_be_is_refused(name: str, value: object) -> None:
    assert fault(with_field(name, value)).startswith(f"{name}: ")


def test_more_than_a_node_may_answer_is_refused() -> None:
    some = ["spiffe://example.org/a"] * (MOST_IDS + 1)
    assert fault(lambda one: one.programs.extend([one.programs[0]] * MOST_PROGRAMS)).startswith("programs: ")
    assert fault(lambda one: setattr(one, "programs_more", 2**32 - 1)).startswith("programs_more: ")
    assert fault(lambda one: setattr(one, "unknown", 2**32 - 1)).startswith("unknown: ")
    assert fault(lambda one: one.programs[0].gains.extend(some)).startswith("gains: ")
    assert fault(lambda one: one.programs[0].loses.extend(some)).startswith("loses: ")


def test_an_identity_that_it_was_not_asked_about_is_refused_and_not_repeated_as_it_came() -> None:
    assert fault(lambda one: one.programs[0].loses.append("spiffe://example.org/d\x1b")) == (
        "loses: expected an identity that the question is about, found spiffe://example.org/d\\x1b"
    )
