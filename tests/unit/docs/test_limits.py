"""Limits that pages and .proto files repeat for people: each text says what the code enforces."""

import re
from dataclasses import dataclass

import pytest

from cognomen.protocol.audiences import MAX_AUDIENCE_BYTES, MAX_AUDIENCES, MAX_SUM_BYTES
from cognomen.protocol.entry import MAX_HINT_BYTES
from cognomen.protocol.questions import ANSWER_WITHIN, MOST_IDS, MOST_PROGRAMS
from cognomen.protocol.receipts import MOST_BEHIND
from cognomen.protocol.uses import MOST_EXECUTABLE, MOST_REPORTED
from issuer.decisions.crl import LARGE_BYTES, MOST_LISTED
from issuer.decisions.entrysteps import MOST_BYTES, MOST_STEPS
from issuer.decisions.falling import MOST_GROUPS
from issuer.decisions.minting import MAX_ITEMS
from issuer.decisions.revocation import MAX_BLOCKED, MAX_OVER, MAX_SERIALS
from issuer.decisions.supersession import REPLACED_WITHIN
from issuer.flows.change_entries import MAX_BATCH
from svid.wire.denials import MAX_POINT_BYTES
from tests.doubles.project import ROOT

ADMIN, NODE = "proto/cognomen/wire/pb/admin.proto", "proto/cognomen/wire/pb/node.proto"
SECONDS = int(REPLACED_WITHIN.total_seconds())


@dataclass(frozen=True)
class Told:
    """A text in a file, and how often it is there; line breaks of the file count as spaces."""

    file: str
    text: str
    times: int = 1


TEXTS = [
    Told(ADMIN, f"Entry entries = 1; // at most {MAX_BATCH:,}"),
    Told(ADMIN, f"string ids = 1; // at most {MAX_BATCH:,}"),
    Told(ADMIN, f"At most {MOST_STEPS} are one transaction"),
    Told(
        "docs/how-to/write-an-entry.md", f"Up to {MOST_STEPS} changes whose entries have at most {MOST_BYTES >> 20} MiB"
    ),
    Told("docs/reference/command.md", f"Up to {MOST_STEPS} entries ({MOST_BYTES >> 20} MiB) are one step", times=2),
    Told("docs/reference/command.md", f"Up to {MOST_STEPS} changes ({MOST_BYTES >> 20} MiB) are one step"),
    Told("docs/reference/command.md", f"Up to {MOST_STEPS} entries are one step"),
    Told(ADMIN, f"or jtis; at most {MAX_SERIALS:,}"),
    Told(NODE, f"uses = 1; // at most {MOST_REPORTED}"),
    Told(NODE, f"at most {MOST_EXECUTABLE} bytes as UTF-8", times=2),
    Told(NODE, f"programs = 2; // at most {MOST_PROGRAMS}"),
    Told(NODE, f"SPIFFE IDs, sorted, at most {MOST_IDS}"),
    Told(ADMIN, f"it takes {ANSWER_WITHIN.total_seconds():g} s at most"),
    Told("docs/reference/audit.md", f"At most {MOST_EXECUTABLE} bytes as UTF-8"),
    Told(ADMIN, f"what it ended, or would end; at most {MOST_GROUPS}"),
    Told(ADMIN, f"once they are replaced, at most {SECONDS} s later"),
    Told(NODE, f"the others, the slowest first; at most {MOST_BEHIND}"),
    Told(NODE, f"at most {MAX_POINT_BYTES} bytes"),
    Told(NODE, f"items = 1; // at most {MAX_ITEMS}", times=2),
    Told("proto/svid/wire/pb/denials.proto", f"at most {MAX_POINT_BYTES} bytes"),
    Told("proto/svid/wire/pb/workload.proto", f"at most {MAX_HINT_BYTES} bytes, unique in a response"),
    Told("docs/how-to/revoke.md", f"at most the newest {MAX_OVER:,} of these expired credentials"),
    Told("docs/how-to/revoke.md", f"the first {MOST_GROUPS:,} groups"),
    Told("docs/how-to/revoke.md", f"may name {MAX_BLOCKED:,} entries, SPIFFE IDs and selectors"),
    Told("docs/how-to/revoke.md", f"at the latest {SECONDS} s after the update"),
    Told("docs/how-to/write-an-entry.md", f"at most {SECONDS} s later"),
    Told("docs/how-to/rotate-an-authority.md", f"certificates ({LARGE_BYTES >> 20} MiB)"),
    Told("docs/how-to/rotate-an-authority.md", f"up to {MOST_LISTED // 10_000}0,000 certificates"),
    Told("docs/adr/0012-room-in-the-store.md", f"at most {MAX_AUDIENCES}, {MAX_AUDIENCE_BYTES:,} bytes each"),
    Told("docs/adr/0012-room-in-the-store.md", f"{MAX_SUM_BYTES:,} bytes together"),
    Told("docs/adr/0015-revocation.md", f"at most {MAX_OVER:,} of them, the newest first"),
]


@pytest.mark.parametrize("told", TEXTS, ids=lambda told: f"{told.file}: {told.text}")
def test_a_limit_that_a_text_repeats_is_the_limit_of_the_code(told: Told) -> None:
    found = re.sub(r"\s+", " ", (ROOT / told.file).read_text())
    assert found.count(told.text) == told.times
