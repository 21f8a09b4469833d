"""Whether the declared callers of entries can be said in a rulebook.

`may_call` says two things at once: the caller gets JWT-SVIDs for the callee, and the callee declares the caller. Entries can say the one
without the other, and a rulebook cannot.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from cognomen.rulebook.placing import Placed, calls_of, peers_of
from cognomen.rulebook.rules import ComponentName

__all__ = ["unsayable"]


def unsayable(kept: Mapping[ComponentName, Sequence[Placed]]) -> Mapping[ComponentName, str]:
    """The components whose callers no `may_call` of these can say, and why."""
    peers = peers_of(kept)
    callers: defaultdict[ComponentName, set[str]] = defaultdict(set)
    for name, callees in calls_of(kept).items():
        for callee in callees:
            callers[callee].add(str(kept[name][0].entry.spiffe_id))
    found = {}
    for name, each in kept.items():
        if (declared := each[0].entry.callers) is None:
            continue
        if strangers := sorted(one for one in declared if peers.get(one, name) == name):
            found[name] = f"its caller {strangers[0]} is no other component of this rulebook"
        elif silent := sorted(set(declared) - callers[name]):
            found[name] = f"its caller {silent[0]} gets no JWT-SVIDs for it, and by may_call it would"
        elif more := sorted(callers[name] - set(declared)):
            found[name] = f"{more[0]} gets JWT-SVIDs for it and is not among its callers, and by may_call it would be"
    return found
