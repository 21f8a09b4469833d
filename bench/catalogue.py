"""Every row: its name, the promise, the number to aim for, and SPIRE's figure.

The promises are those of the product; SPIRE's figures were measured on a machine with two cores.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bench import (
    door_rows,
    fairness_rows,
    import_rows,
    issuer_rows,
    keyless_rows,
    motion_rows,
    revocation_rows,
    rulebook_rows,
    rules_rows,
    sdk_rows,
    stream_rows,
    workload_rows,
)
from bench.results import Goal, Measured, at_least, at_most
from bench.settings import Settings

__all__ = ["ROWS", "Row"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the table.

    Args:
        goals: by the names of figures; a figure without a goal is only reported.
        any_endpoint: whether it can be measured at somebody else's Workload API.
        needs_h2load: whether h2load makes its load.
    """

    what: str
    measure: Callable[[Settings], Measured]
    goals: Mapping[str, Goal] = field(default_factory=dict)
    spire: str = ""
    any_endpoint: bool = False
    needs_h2load: bool = False


_HALF_OPEN = {"MB more": at_most(150, 50), "connect, worst s": at_most(2, 0.5), "join s": at_most(10, 2)}

ROWS: Mapping[str, Row] = {
    "push": Row(
        what="entry applied → open streams hold the SVID, 100 workload streams",
        measure=motion_rows.push,
        goals={
            "all match, p50 ms": at_most(100, 15),
            "all match, p99 ms": at_most(100),
            "one matches, p50 ms": at_most(100, 15),
            "one matches, p99 ms": at_most(100),
        },
        spire="p50 4.8 s, p99 8.5 s; fastest setting 0.7 s, 1.7 s",
    ),
    "mint": Row(
        what="X509-SVIDs signed per CPU-second of the issuer, batches of 100",
        measure=issuer_rows.mint,
        goals={"per CPU-second": at_least(4000, 6000)},
        spire="2,250, no ledger",
    ),
    "fetch_x509_open": Row(
        what="warm FetchX509SVID on an open connection, path and digest among the selectors",
        measure=workload_rows.fetch_x509_open,
        goals={"p50 ms": at_most(1.5, 0.8)},
        spire="0.81 ms; 14 ms with path and digest",
        any_endpoint=True,
    ),
    "fetch_x509_new": Row(
        what="warm FetchX509SVID on a new connection, path and digest among the selectors",
        measure=workload_rows.fetch_x509_new,
        goals={"p50 ms": at_most(3, 2)},
        spire="2.0 ms; 15 ms with path and digest",
        any_endpoint=True,
    ),
    "jwt_cached": Row(
        what="FetchJWTSVID cached, 8 by 8 in flight",
        measure=workload_rows.jwt_cached,
        goals={"calls per second": at_least(2500, 4300)},
        spire="4,261/s; 148/s with path and digest",
        any_endpoint=True,
        needs_h2load=True,
    ),
    "jwt_new": Row(
        what="FetchJWTSVID, a new audience each time, 8 by 8 in flight",
        measure=workload_rows.jwt_new,
        goals={"calls per second": at_least(700, 1400)},
        spire="1,363/s, limits off",
        any_endpoint=True,
    ),
    "jwt_new_alone": Row(
        what="FetchJWTSVID, a new audience each time, one call at a time",
        measure=stream_rows.jwt_new_alone,
        goals={"p50 ms": at_most(3.7, 2.4)},
        spire="2.4 to 3.7 ms",
        any_endpoint=True,
    ),
    "x509_busy": Row(
        what="FetchX509SVID from one uid, 8 by 8 in flight: opened, read once, reset",
        measure=stream_rows.x509_busy,
        goals={"p99, times p50": at_most(3, 2)},
        spire="p99 48 to 72 ms, 2.5 times p50",
        any_endpoint=True,
    ),
    "streams_at_once": Row(
        what="200 streams opened at once, each on its own connection → the last has its first message",
        measure=stream_rows.streams_at_once,
        goals={"p50 ms": at_most(650, 80)},
        spire="80 to 650 ms",
        any_endpoint=True,
    ),
    "reconnect_storm": Row(
        what="1,000 streams on 200 connections, the attestor restarted: ready → all have an SVID again",
        measure=stream_rows.reconnect_storm,
        goals={"all of them s": at_most(10, 2)},
    ),
    "bulk": Row(
        what="10,000 entries applied in one batch",
        measure=issuer_rows.bulk,
        goals={"entries per second": at_least(2000, 10_000)},
        spire="216/s",
    ),
    "attestor_idle": Row(
        what="attestor with 1,000 entries, idle",
        measure=motion_rows.attestor_idle,
        goals={"RSS MB": at_most(100, 75), "% of a core": at_most(0.5, 0.1)},
        spire="74 MB, 0.3 %",
    ),
    "issuer_idle": Row(
        what="issuer with 10,000 entries, idle",
        measure=issuer_rows.issuer_idle,
        goals={"RSS MB": at_most(150), "% of a core": at_most(0.5)},
        spire="138 MB, 5 %",
    ),
    "issuer_large": Row(
        what="issuer with 100,000 entries: start → ready; one entry changed, against 1,000",
        measure=issuer_rows.issuer_large,
        goals={"ready s": at_most(3, 1), "change, times": at_most(1.5)},
        spire="0.6 s at 11,000; grows",
    ),
    "outage": Row(
        what="issuer back after an outage → attestor in step",
        measure=motion_rows.outage,
        goals={"in step s": at_most(15, 2)},
        spire="66 s after 3 min; up to 4 min",
    ),
    "first_identity": Row(
        what="entry created → a stock client that keeps asking has its first SVID",
        measure=motion_rows.first_identity,
        spire="the same, plus its 5 + 5 s",
    ),
    "kill": Row(
        what="kill -9 of each daemon → back in service after its start",
        measure=motion_rows.kill,
        goals={"issuer s": at_most(2), "attestor s": at_most(2)},
    ),
    "connect_far": Row(
        what="a node dials → the node door's first answer, over round trips of 0, 0.3, 1, 2 s",
        measure=door_rows.connect_far,
        goals={f"connect over {seconds} s, round trips": at_most(6, 4.1) for seconds in ("0.3", "1", "2")},
    ),
    "half_open": Row(
        what="a node dials → its first answer, while strangers hold 10,300 connections half open",
        measure=door_rows.half_open,
        goals={f"from {many}: {name}": goal for many in ("1", "1,000") for name, goal in _HALF_OPEN.items()},
    ),
    "connect_storm": Row(
        what="FetchX509SVID on a new connection each time, while another uid connects without a pause (needs root)",
        measure=fairness_rows.connect_storm,
        goals={"p99 ms": at_most(50, 20)},
        spire="515 of 895 failed, 31 ms",
    ),
    "one_against_another": Row(
        what="one call after the other, alone and while another uid has 720 of the kind in flight (needs root)",
        measure=fairness_rows.one_against_another,
    ),
    "handshakes": Row(
        what="mutual TLS handshakes with LiveContexts on both sides, of plain contexts' rate",
        measure=sdk_rows.handshakes,
        goals={"times plain": at_least(0.9)},
    ),
    "revoke": Row(
        what="revoked → refused by 100 verifiers, each a process: open connection, handshake, JWT-SVID; receipts of all",
        measure=revocation_rows.revoke,
        goals={
            "last byte, p50 ms": at_most(250, 30),
            "last byte, p99 ms": at_most(250, 100),
            "handshake, p50 ms": at_most(250, 30),
            "handshake, p99 ms": at_most(250, 100),
            "JWTGuard, p99 ms": at_most(250, 100),
            "ValidateJWTSVID, p99 ms": at_most(250, 100),
            "receipts of all, p99 ms": at_most(1000, 500),
        },
        spire="never before expiry",
    ),
    "revoke_many": Row(
        what="100,000 credentials revoked by one command, 1 million live rows in the ledger",
        measure=revocation_rows.revoke_many,
        goals={"commit s": at_most(5), "attestor, MB more": at_most(40), "SDK, MB more": at_most(25)},
        spire="never before expiry",
    ),
    "handshakes_denied": Row(
        what="mutual TLS handshakes with 10,000 denials of others, in times of those with none (CPU)",
        measure=sdk_rows.handshakes_denied,
        goals={"times none": at_most(1.05)},
        spire="has no denials",
    ),
    "open_connection": Row(
        what="throughput of an open connection of LiveContexts, of plain contexts' (CPU)",
        measure=sdk_rows.open_connection,
        goals={"times plain": at_least(0.97)},
        spire="checks no open connection",
    ),
    "plan_asked": Row(
        what="`cognomen plan` of 10,000 components, the first ones, with 50 attestors asked who gains an identity",
        measure=rulebook_rows.plan_asked,
        goals={"with 50 asked s": at_most(5)},
        spire="has no plan",
    ),
    "rulebook_large": Row(
        what="a rulebook of 10,000 components: read and proved in a process; planned, applied, planned again by the command; explained",
        measure=rules_rows.rulebook_large,
        goals={
            "prove s": at_most(1),
            "plan, the first s": at_most(3),
            "plan, unchanged s": at_most(3),
            "apply s": at_most(5),
            "explain, one more, p99 ms": at_most(50),
        },
        spire="has no rulebook",
    ),
    "component_pushed": Row(
        what="one component of 10,000 changed by `apply`: the issuer's answer → its workload's open stream holds the SVID",
        measure=rules_rows.component_pushed,
        goals={"after the answer, p99 ms": at_most(150)},
        spire="polls each 5 s",
    ),
    "matching": Row(
        what="a caller with seven selectors matched with the 1,000 entries of its node, on the attestor",
        measure=rules_rows.matching,
        goals={"p50 µs": at_most(50), "p99 µs": at_most(50)},
    ),
    "keys_served": Row(
        what="keys of JWT-SVIDs over HTTPS, 8 kept connections, requests per CPU-second of the process that answers",
        measure=keyless_rows.keys_served,
        goals={"per CPU-second": at_least(2000), "MB more": at_most(30)},
        needs_h2load=True,
    ),
    "exchanges_rotated": Row(
        what="JWT-SVIDs exchanged at three relying parties while the JWT authority is rotated; none may fail",
        measure=keyless_rows.exchanges_rotated,
        goals={"per second": at_least(50)},
    ),
    "first_model_call": Row(
        what="a new process, imports done → JWT-SVID, exchange, the first answer of a model's double, less its own time",
        measure=keyless_rows.first_model_call,
        goals={"TokenExchange, p50 ms": at_most(60), "anthropic, p50 ms": at_most(60)},
    ),
    "import_spire": Row(
        what="10,000 of SPIRE's entries → a rulebook, compiled again and compared, by the command in a new process",
        measure=import_rows.import_spire,
        goals={"s": at_most(10, 3)},
    ),
}
