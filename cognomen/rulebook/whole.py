"""Read a rulebook and check it as a whole."""

from collections.abc import Mapping, Sequence

from cognomen.rulebook.checks import check
from cognomen.rulebook.faults import MOST_FAULTS, Fault, in_order, key_of, text_of_mend
from cognomen.rulebook.places import line_of, lines
from cognomen.rulebook.reading import read
from cognomen.rulebook.rules import Rulebook
from cognomen.rulebook.unanswered import unanswered

__all__ = ["read_whole"]


def read_whole(files: Mapping[str, bytes]) -> tuple[Rulebook, Sequence[Fault]]:
    """Read these files, by name; the rules may be used if there is no fault.

    If a file is no rulebook at all, the rules that the others have are not compared with what is missing.
    """
    rulebook, found = read(files)
    if found:
        return rulebook, found
    known = {}
    faults: list[Fault] = []
    more = 0
    for where, path, problem, mend in (*check(rulebook), *unanswered(rulebook)):
        if len(faults) == MOST_FAULTS:
            more += 1
            continue
        if where.file not in known:
            known[where.file] = lines(files[where.file].decode())
        at = (*where.path, *path)
        line = line_of(at, known[where.file])
        faults.append(Fault(file=where.file, line=line, key=key_of(at), problem=problem, mend=text_of_mend(mend)))
    return rulebook, in_order(faults, more)
