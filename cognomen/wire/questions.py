"""Convert answers to questions between protobuf and values; here are also the limits of what a node may answer."""

from collections.abc import Mapping, Sequence

from cognomen.protocol.printable import printable
from cognomen.protocol.questions import MOST_IDS, MOST_PROGRAMS, Answer, ProgramChange
from cognomen.protocol.uses import short_path
from cognomen.wire.pb import node_pb2 as pb
from svid.errors import SVIDError
from svid.spiffeid import SpiffeID

__all__ = ["answer_from_pb", "answer_to_pb", "program_to_pb"]

_MOST_PATH = 512  # characters, as in cognomen/wire/uses
_HIGHEST_PID = 2**31 - 1  # a pid_t has a sign
_NOBODY = 2**32 - 1  # in place of a uid: none
_MOST_COUNTED = 1_000_000


def answer_to_pb(question_id: str, value: Answer) -> pb.AnswerRequest:
    """Write an answer to that question."""
    return pb.AnswerRequest(
        question_id=question_id,
        programs=map(program_to_pb, value.programs),
        programs_more=value.programs_more,
        unknown=value.unknown,
    )


def program_to_pb(value: ProgramChange) -> pb.ProgramChange:
    """Write what would change for a program."""
    return pb.ProgramChange(
        pid=value.pid,
        uid=value.uid,
        executable=value.executable,
        gains=map(str, value.gains),
        loses=map(str, value.loses),
        gains_more=value.gains_more,
        loses_more=value.loses_more,
    )


def answer_from_pb(message: pb.AnswerRequest, ids: Mapping[str, SpiffeID]) -> Answer:
    """Read an answer.

    Args:
        ids: the identities that the question is about, by their texts.

    Raises:
        SVIDError: there are too many programs or SPIFFE IDs; a number is too large, or no uid or pid; a path is too long or not
            printable; or it names an identity that the question is not about.
    """
    if len(message.programs) > MOST_PROGRAMS:
        raise SVIDError(f"programs: expected at most {MOST_PROGRAMS}, found {len(message.programs)}")
    _check_counts(programs_more=message.programs_more, unknown=message.unknown)
    return Answer(
        programs=tuple(_program(one, ids) for one in message.programs),
        programs_more=message.programs_more,
        unknown=message.unknown,
    )


def _program(message: pb.ProgramChange, ids: Mapping[str, SpiffeID]) -> ProgramChange:
    if not 0 < message.pid <= _HIGHEST_PID:
        raise SVIDError(f"pid: expected 1 to {_HIGHEST_PID}, found {message.pid}")
    if message.uid == _NOBODY:
        raise SVIDError(f"uid: expected at most {_NOBODY - 1}, found {message.uid}")
    if len(message.executable) > _MOST_PATH or not message.executable.isprintable():
        raise SVIDError(f"executable: expected at most {_MOST_PATH} printable characters")
    _check_counts(gains_more=message.gains_more, loses_more=message.loses_more)
    return ProgramChange(
        pid=message.pid,
        uid=message.uid,
        executable=short_path(message.executable),
        gains=_known(message.gains, "gains", ids),
        loses=_known(message.loses, "loses", ids),
        gains_more=message.gains_more,
        loses_more=message.loses_more,
    )


def _known(texts: Sequence[str], name: str, ids: Mapping[str, SpiffeID]) -> tuple[SpiffeID, ...]:
    if len(texts) > MOST_IDS:
        raise SVIDError(f"{name}: expected at most {MOST_IDS}, found {len(texts)}")
    if unknown := [text for text in texts if text not in ids]:
        raise SVIDError(f"{name}: expected an identity that the question is about, found {printable(unknown[0])}")
    return tuple(ids[text] for text in texts)


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if count > _MOST_COUNTED:
            raise SVIDError(f"{name}: expected at most {_MOST_COUNTED}, found {count}")
