"""Fuzz targets for what strangers send the daemons: frames at the gate, entries, uses, invites, returning nodes, damaged state."""

import hashlib
from contextlib import suppress
from datetime import UTC, datetime

import atheris

from tests.doubles.project import ROOT

with atheris.instrument_imports(include=["svid", "cognomen", "attestor", "issuer"]):
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from google.protobuf.message import DecodeError

    from attestor.state.disk import parse_state
    from cognomen.gate.meter import Frames, Misbehaved
    from cognomen.protocol.auditlog import Checkpoint
    from cognomen.protocol.errors import Refused
    from cognomen.protocol.invite import Invite
    from cognomen.protocol.questions import Answer, ProgramChange
    from cognomen.wire.node import entry_from_pb, entry_to_pb
    from cognomen.wire.pb import node_pb2 as pb
    from cognomen.wire.questions import answer_from_pb, answer_to_pb
    from cognomen.wire.uses import use_from_pb, use_to_pb
    from issuer.decisions.authority import Authority, AuthorityKind, AuthorityState
    from issuer.decisions.readmission import check_claim, parse_claim
    from svid.bundle import Bundle
    from svid.errors import SVIDError
    from svid.keys import KeyID, public_key_from_der
    from svid.spiffeid import SpiffeID, TrustDomain

from bench.rig.attacks import frame, greeting, request
from tests.doubles.uses import a_use
from tests.fuzz.engine import Target, main

_VECTORS = ROOT / "tests" / "vectors"
_TRUST = Bundle.from_jwks(TrustDomain("example.org"), (_VECTORS / "trust" / "example.org.json").read_bytes())
_INVITE = Invite(
    trust_domain=TrustDomain("example.org"),
    join_address="127.0.0.1:8444",
    node_address="127.0.0.1:8443",
    token="t" * 43,
    bundle=_TRUST,
)
_ENTRY = pb.Entry(
    spiffe_id="spiffe://example.org/a",
    parent_id="spiffe://example.org/cognomen/node/join_token/1",
    selectors=[pb.Selector(type="unix", value="uid:1")],
    dns_names=["a.example"],
    labels={"team": "travel"},
)
_ASKED = {"spiffe://example.org/a": SpiffeID.parse("spiffe://example.org/a")}
_ANSWER = Answer(
    programs=(ProgramChange(pid=7, uid=1003, executable="/bin/a", gains=(*_ASKED.values(),), loses_more=2),), unknown=1
)
_STATE = b'{"joining":{"private_key":"AAAA","token_hash":"00"},"node":null}'


def frames(data: bytes) -> None:
    """Cut bytes into frames, some at a time: every cut makes progress or waits for more, and never takes what is not there."""
    found, waiting = Frames(header_bytes=16_384), bytearray()
    for start in range(0, len(data), 37):
        waiting += data[start : start + 37]
        while (cut := found.cut(waiting, 8)).size:
            if cut.size > len(waiting) or cut.frames > 8 or cut.cost < cut.control:
                raise AssertionError(cut)
            del waiting[: cut.size]


def entry(data: bytes) -> None:
    """Read an entry: it is written as it was read."""
    read = entry_from_pb(pb.Entry.FromString(data))
    if entry_from_pb(entry_to_pb(read)) != read:
        raise AssertionError(data)


def use(data: bytes) -> None:
    """Read what a node reports of a use: it is written as it was read."""
    read = use_from_pb(pb.Use.FromString(data))
    if use_from_pb(use_to_pb(read)) != read:
        raise AssertionError(data)


def answer(data: bytes) -> None:
    """Read what a node answers to a question: it is written as it was read."""
    read = answer_from_pb(pb.AnswerRequest.FromString(data), _ASKED)
    if answer_from_pb(answer_to_pb("q", read), _ASKED) != read:
        raise AssertionError(data)


def invite(data: bytes) -> None:
    """Parse an invite: it is written as it was read."""
    read = Invite.parse(data.decode(errors="surrogateescape"))
    if Invite.parse(str(read)) != read:
        raise AssertionError(data)


def claim(data: bytes) -> None:
    """Read a returning node's certificate, and look for who signed it; every one is refused, for none is of a node of ours."""
    check_claim(
        parse_claim(data, nonce=b"n", public_key=_KEY, signature=b"s"), [_AUTHORITY], TrustDomain("example.org")
    )
    raise AssertionError(data)


def checkpoint(data: bytes) -> None:
    """Read a checkpoint: it is written as it was read."""
    read = Checkpoint.parse(data)
    if Checkpoint.parse(read.to_json()) != read:
        raise AssertionError(data)


def state(data: bytes) -> None:
    """Read a state file: the bytes as they stand, and as the content that its header vouches for.

    Without a disk: who may write a file is no matter of its bytes, and looking costs ten times as much as reading them.
    """
    header = b"cognomen-node-state 1 %d %s\n" % (len(data), hashlib.sha256(data).hexdigest().encode())
    for content in (data, header + data):
        with suppress(Refused):
            parse_state(content, what="state")


_KEY = public_key_from_der(
    _TRUST.x509_authorities[0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
)
_LEAF = x509.load_pem_x509_certificates((_VECTORS / "x509svid" / "dns_names_beside_the_id.pem").read_bytes())[0]
_AUTHORITY = Authority(
    key_id=KeyID("x509-1"),
    kind=AuthorityKind.X509,
    state=AuthorityState.ACTIVE,
    certificate=_TRUST.x509_authorities[0].public_bytes(Encoding.DER),
    not_before=datetime(2026, 1, 1, tzinfo=UTC),
    not_after=datetime(2027, 1, 1, tzinfo=UTC),
)
_CHECKPOINT = Checkpoint(
    trust_domain=TrustDomain("example.org"),
    incarnation="i1",
    count=1,
    head=bytes(32),
    at=datetime(2026, 1, 1, tzinfo=UTC),
    public_key=b"key",
)

TARGETS = {
    "checkpoint": Target(run=checkpoint, seeds=(_CHECKPOINT.to_json(),), answers=(ValueError,)),
    "claim": Target(run=claim, seeds=(_LEAF.public_bytes(Encoding.DER),), answers=(Refused,)),
    "frames": Target(run=frames, seeds=(greeting + request(1) + frame(6, 0, 0, bytes(8)),), answers=(Misbehaved,)),
    "entry": Target(run=entry, seeds=(_ENTRY.SerializeToString(),), answers=(SVIDError, DecodeError)),
    "invite": Target(run=invite, seeds=(str(_INVITE).encode(),), answers=(Refused,)),
    "use": Target(run=use, seeds=(use_to_pb(a_use()).SerializeToString(),), answers=(SVIDError, DecodeError)),
    "answer": Target(
        run=answer, seeds=(answer_to_pb("q", _ANSWER).SerializeToString(),), answers=(SVIDError, DecodeError)
    ),
    "state": Target(run=state, seeds=(_STATE,), answers=()),
}

if __name__ == "__main__":
    main(TARGETS)
