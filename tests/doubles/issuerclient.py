"""An issuer in memory: it signs real certificates and tokens, keeps entries and a change log, and gives IssuerClients on it.

What it does not do: TLS, a ledger, entitlement by parents (every entry is every node's).
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from attestor.decisions.node import Node, NodeCredential
from attestor.decisions.sync import Change
from attestor.issuerclient.port import Evidence, JWTRequest, MintedJWT, MintedX509, X509Request
from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.feed import Cursor, QuestionIs
from cognomen.protocol.invite import Invite
from cognomen.protocol.questions import Answer
from cognomen.protocol.receipts import Enforcement
from cognomen.protocol.uses import EntryUse, ReportedUses
from issuer.decisions.feedsteps import cut, in_order
from svid.bundle import Bundle
from svid.clock import Clock
from svid.denials import Denial
from svid.keys import PrivateKey, PublicKey, public_key_from_der, public_key_to_der
from svid.spiffeid import SpiffeID, TrustDomain

BACK_DATING = timedelta(seconds=30)
LIFETIME = timedelta(days=14)
FIRST = "first"  # a join token


class Authority:
    """A signing authority with its keys in memory."""

    def __init__(self, trust_domain: TrustDomain, clock: Clock, *, name: str = "a") -> None:
        self._trust_domain = trust_domain
        self._clock = clock
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.jwt_key = ec.generate_private_key(ec.SECP256R1())
        self.kid = f"jwt-{name}"
        self._serial = 0
        self.certificate = self._own_certificate(name)

    @property
    def key_id(self) -> str:
        """As certificates name it."""
        return x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()).digest.hex()

    def sign(
        self,
        spiffe_id: SpiffeID,
        key: PublicKey,
        *,
        ttl: timedelta,
        dns: Sequence[str] = (),
        extended_usage: bool = True,
    ) -> x509.Certificate:
        """Sign a leaf; without its extended usage it is one that some peer's issuer may make, and ours does not."""
        names = [x509.UniformResourceIdentifier(str(spiffe_id)), *(x509.DNSName(name) for name in dns)]
        builder = (
            self._builder(key, ttl)
            .subject_name(x509.Name([]))
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
        )
        if extended_usage:
            usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def token(self, spiffe_id: SpiffeID, audiences: Sequence[str], *, ttl: timedelta) -> str:
        """Sign a JWT-SVID."""
        now = self._clock.now()
        self._serial += 1
        claims = {
            "sub": str(spiffe_id),
            "aud": list(audiences),
            "iat": now,
            "exp": now + ttl,
            "jti": f"{2**127 + self._serial:x}",
        }
        return jwt.encode(claims, self.jwt_key, algorithm="ES256", headers={"kid": self.kid})

    def crl(self, *serials: int, number: int = 1) -> bytes:
        """Sign a revocation list of these, DER."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._subject)
            .last_update(self._clock.now())
            .next_update(self.certificate.not_valid_after_utc)
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        for serial in serials:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(self._clock.now())
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.DER)

    def _own_certificate(self, name: str) -> x509.Certificate:
        self._subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority {name}")])
        uri = x509.UniformResourceIdentifier(str(self._trust_domain.id))
        return (
            self._builder(self._key.public_key(), LIFETIME)
            .subject_name(self._subject)
            .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def _builder(self, key: PublicKey, ttl: timedelta) -> x509.CertificateBuilder:
        self._serial += 1
        now = self._clock.now().replace(microsecond=0)
        return (
            x509.CertificateBuilder()
            .issuer_name(self._subject)
            .serial_number(self._serial)
            .public_key(key)
            .not_valid_before(now - BACK_DATING)
            .not_valid_after(now + ttl)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


class IssuerInMemory:
    """The issuer; a test plays the operator, and decides what goes wrong.

    Attributes:
        is_reachable: every call refused as UNAVAILABLE, and open feeds ended, while it is not.
        is_silent: calls of a node get no answer, as long as that lasts; not those that began before it was over.
        most: larger mints find no answer, as over a thin way; None: none is too large.
        ends_feeds: a feed ends after its first message, as long as that lasts.
        feeds, renewals: how many feeds were opened, and node SVIDs renewed, so far.
        cancels: that many calls of a node end as if gRPC had cancelled them.
        words: how often it said that it is alive.
        denies_mints: that many SVIDs are denied before they are handed out, and the feed is faster.
        loses_replies: a join is done, but its answer gets lost, that many times.
        refused_node: what every call of a node is refused with.
        refused_return: what a readmission is refused with.
        refused_entries: what minting for an entry is refused with.
        takes_uses: as an issuer of today does, which knows of reports.
        refuses_uses: as one whose disk is full.
        uses: the reports so far.
        reported: the time of which it was told last that every use was reported.
        last: the same, in the last report of an attestor that ended.
        questions: what is to be asked on the feed.
        answers: what was answered, by the ids of the questions.
        mints, jwt_mints: the sizes of the batches so far.
    """

    def __init__(self, clock: Clock, trust_domain: TrustDomain, *, ttl: timedelta = timedelta(hours=1)) -> None:
        self.clock = clock
        self.trust_domain = trust_domain
        self.ttl = ttl
        self.jwt_ttl = timedelta(minutes=5)
        self.is_reachable = True
        self.is_silent = False
        self.most: int | None = None
        self.ends_feeds = False
        self.feeds = self.renewals = 0
        self.cancels = 0
        self.words = 0
        self.denies_mints = 0
        self.loses_replies = 0
        self.refused_node: Refused | None = None
        self.refused_return: Refused | None = None
        self.refused_entries: dict[EntryID, Refused] = {}
        self.mints: list[int] = []
        self.jwt_mints: list[int] = []
        self.acknowledged: list[Cursor] = []
        self.enforcements: list[Enforcement] = []
        self.joined_keys: list[bytes] = []
        self.takes_uses = True
        self.refuses_uses = False
        self.uses: list[tuple[EntryUse, ...]] = []
        self.reported: ReportedUses | None = None
        self.last: ReportedUses | None = None
        self.questions: list[QuestionIs] = []
        self.answers: dict[str, Answer] = {}
        self.authority = Authority(trust_domain, clock)
        self._published = [self.authority]
        self._tainted: list[Authority] = []
        self._incarnation = 1
        self.crls: list[bytes] = []
        self._log: list[EntryID | tuple[Denial, ...] | None] = []  # None: the bundle changed
        self._entries: dict[EntryID, RegistrationEntry] = {}
        self._tokens: dict[str, bytes] = {}
        self._grown = asyncio.Event()

    @property
    def bundle(self) -> Bundle:
        """The bundle of now."""
        return Bundle(
            trust_domain=self.trust_domain,
            x509_authorities=tuple(authority.certificate for authority in self._published),
            jwt_authorities={authority.kid: authority.jwt_key.public_key() for authority in self._published},
        )

    def invite(self, token: str = FIRST) -> Invite:
        """Make an invite."""
        self._tokens.setdefault(token, b"")
        return Invite(
            trust_domain=self.trust_domain,
            join_address="join:1",
            node_address="node:1",
            token=token,
            bundle=self.bundle,
        )

    def client(self) -> "InMemoryIssuerClient":
        """A client of this issuer."""
        return InMemoryIssuerClient(self)

    def put(self, *entries: RegistrationEntry) -> None:
        """Create or update entries; the revision counts by itself."""
        for entry in entries:
            known = self._entries.get(entry.id)
            self._entries[entry.id] = replace(entry, revision=known.revision + 1 if known else 1)
            self._log.append(entry.id)
        self.wake()

    def delete(self, *entry_ids: EntryID) -> None:
        """Delete entries."""
        for entry_id in entry_ids:
            del self._entries[entry_id]
            self._log.append(entry_id)
        self.wake()

    def ask(self, *parts: QuestionIs) -> None:
        """Ask on the feed."""
        self.questions += parts
        self.wake()

    def rotate(self) -> None:
        """Publish a new authority and sign with it."""
        self.authority = Authority(self.trust_domain, self.clock, name=f"{len(self._published)}")
        self._published.append(self.authority)
        self._log.append(None)
        self.wake()

    def taint(self) -> None:
        """Have all that was signed replaced, and sign with a new authority."""
        self._tainted = [*self._published]
        self.rotate()

    @property
    def tainted(self) -> frozenset[str]:
        """The tainted authorities in the bundle, as their SVIDs name them."""
        published = [authority for authority in self._tainted if authority in self._published]
        return frozenset(name for authority in published for name in (authority.kid, authority.key_id))

    def deny(self, *numbers: int, ends_at: datetime | None = None) -> None:
        """End these credentials, which would have ended in an hour."""
        end = (ends_at or self.clock.now() + timedelta(hours=1)).replace(microsecond=0)
        self._log.append(tuple(Denial(number, end) for number in numbers))
        self.wake()

    def lose_authorities(self) -> None:
        """Sign with a new authority that stands alone in the bundle, as after a restore of a backup that is older than the others."""
        self.authority = Authority(self.trust_domain, self.clock, name="after the others")
        self._published = [self.authority]
        self._log.append(None)
        self.wake()

    def publish_crls(self, *crls: bytes) -> None:
        """Say these revocation lists, DER, instead of those before."""
        self.crls = [*crls]
        self._log.append(None)
        self.wake()

    def restore(self) -> None:
        """Come back from a backup: another incarnation, which knows of no denial."""
        self._incarnation += 1
        self._log = [change for change in self._log if not isinstance(change, tuple)]
        self.wake()

    def set_reachable(self, *, reachable: bool) -> None:
        """Go away, or come back."""
        self.is_reachable = reachable
        self.wake()

    def join(self, token: str, public_key: bytes) -> NodeCredential:
        """Let a node in."""
        if token not in self._tokens:
            raise Refused(Kind.UNAUTHENTICATED, "join token: unknown")
        if self._tokens[token] not in {b"", public_key}:
            raise Refused(Kind.DENIED, "join token: already used by another key")
        self._tokens[token] = public_key
        self.joined_keys.append(public_key)
        if self.loses_replies:
            self.loses_replies -= 1
            raise Refused(Kind.UNAVAILABLE, "connection lost")
        return self.credential(public_key, name=hashlib.sha256(token.encode()).hexdigest()[:12])

    def credential(self, public_key: bytes, *, name: str) -> NodeCredential:
        """Sign a node SVID."""
        spiffe_id = SpiffeID.from_segments(self.trust_domain, "cognomen", "node", "join_token", name)
        leaf = self.authority.sign(spiffe_id, public_key_from_der(public_key), ttl=self.ttl)
        return NodeCredential(chain=(leaf,), issued_at=self.clock.now(), bundle=self.bundle)

    def mint(self, request: X509Request) -> MintedX509 | Refused:
        """Mint one X509-SVID."""
        entry = self._entries.get(request.entry_id)
        if entry is None:
            return Refused(Kind.NOT_FOUND, "entry: expected one of this node")
        if request.entry_id in self.refused_entries:
            return self.refused_entries[request.entry_id]
        key = public_key_from_der(request.public_key)
        leaf = self.authority.sign(entry.spiffe_id, key, ttl=entry.x509_svid_ttl or self.ttl, dns=entry.dns_names)
        return MintedX509(chain=(leaf,), issued_at=self.clock.now())

    def mint_token(self, request: JWTRequest) -> MintedJWT | Refused:
        """Mint one JWT-SVID."""
        entry = self._entries.get(request.entry_id)
        if entry is None:
            return Refused(Kind.NOT_FOUND, "entry: expected one of this node")
        if request.entry_id in self.refused_entries:
            return self.refused_entries[request.entry_id]
        ttl = entry.jwt_svid_ttl or self.jwt_ttl
        return MintedJWT(
            token=self.authority.token(entry.spiffe_id, request.audiences, ttl=ttl),
            issued_at=self.clock.now(),
            expires_at=self.clock.now() + ttl,
        )

    def steps(self, cursor: Cursor | None, *, returns: bool = True) -> list[Change]:
        """What a follower who stands there has to learn, cut as the issuer cuts it; whoever returns is told the bundle, in any case."""
        head = Cursor(incarnation=str(self._incarnation), number=len(self._log))
        if cursor is None or cursor.incarnation != head.incarnation or cursor.number > head.number:
            updates = in_order(
                denials=_denied(self._log),
                bundle=self.bundle,
                tainted=self.tainted,
                crls=self.crls,
                entries=self._entries.values(),
            )
            return [Change(cursor=head, snapshot=True, updates=tuple(updates))]
        if cursor == head and not returns:
            return []
        touched = self._log[cursor.number :]
        ids = {entry_id for entry_id in touched if isinstance(entry_id, str)}
        updates = in_order(
            denials=_denied(touched),
            bundle=self.bundle if None in touched or returns else None,
            tainted=self.tainted if None in touched else None,
            crls=self.crls if None in touched else (),
            gone=ids - self._entries.keys(),
            entries=(self._entries[entry_id] for entry_id in ids & self._entries.keys()),
        )
        messages = cut(updates, before=cursor, after=head)
        return [Change(cursor=one.cursor, snapshot=False, updates=one.updates) for one in messages]

    def say_a_word(self) -> None:
        """Tell every follower that the issuer is alive."""
        self.words += 1
        self.wake()

    async def wait(self) -> None:
        """Return after the next change of anything."""
        await self._grown.wait()

    def wake(self) -> None:
        """Have every follower look again."""
        self._grown.set()
        self._grown = asyncio.Event()


def _denied(changes: Iterable[EntryID | tuple[Denial, ...] | None]) -> list[Denial]:
    return [denial for change in changes if isinstance(change, tuple) for denial in change]


class InMemoryIssuerClient:
    """An attestor.issuerclient.port.IssuerClient and JoinDoor without a network; `node` is the one it speaks as.

    Attributes:
        refused_acknowledgements: what the next ones are refused with.
    """

    def __init__(self, issuer: IssuerInMemory) -> None:
        self._issuer = issuer
        self.node: Node | None = None
        self.refused_acknowledgements: list[Refused] = []
        self._used = 0

    async def join(self, invite: Invite, evidence: Evidence, key: PrivateKey) -> NodeCredential:
        self._check_reachable()
        assert evidence.attestor == "join_token"
        assert invite.token.encode() == evidence.evidence
        return self._issuer.join(evidence.evidence.decode(), public_key_to_der(key.public_key()))

    async def readmit(self, node: Node, key: PrivateKey) -> NodeCredential:
        self._check_reachable()
        if self._issuer.refused_return is not None:
            raise self._issuer.refused_return
        return self._issuer.credential(
            public_key_to_der(key.public_key()), name=node.svid.spiffe_id.path.rpartition("/")[2]
        )

    async def use(self, node: Node) -> None:
        self.node = node
        self._used += 1
        self._issuer.wake()  # whoever follows as the node before is ended

    async def renew(self, key: PrivateKey) -> NodeCredential:
        node = self._check_node()
        await self._travel()
        self._issuer.renewals += 1
        return self._issuer.credential(
            public_key_to_der(key.public_key()), name=node.svid.spiffe_id.path.rpartition("/")[2]
        )

    async def follow(self, cursor: Cursor | None) -> AsyncGenerator[Change, None]:
        self._check_node()
        used = self._used
        self._issuer.feeds += 1
        returns, words = True, self._issuer.words
        while used == self._used:
            steps = self._issuer.steps(cursor, returns=returns)
            for step in steps:
                yield step
                cursor, returns = step.cursor, False
                if self._issuer.ends_feeds:
                    raise Refused(Kind.UNAVAILABLE, "datastore: disk full")
                if used != self._used:
                    return
            if self._issuer.questions and cursor is not None:
                yield Change(cursor=cursor, snapshot=False, questions=(self._issuer.questions.pop(0),))
            elif words != self._issuer.words and cursor is not None:
                words = self._issuer.words
                yield Change(cursor=cursor, snapshot=False)
            elif not steps:
                await self._issuer.wait()
                self._check_node()

    async def acknowledge(
        self, cursor: Cursor, enforcement: Enforcement, reported: ReportedUses | None = None
    ) -> datetime | None:
        self._check_node()
        await self._travel()
        if self.refused_acknowledgements:
            raise self.refused_acknowledgements.pop()
        self._issuer.acknowledged.append(cursor)
        self._issuer.enforcements.append(enforcement)
        self._issuer.reported = reported
        return self._issuer.clock.now()

    async def answer(self, question_id: str, answer: Answer) -> bool:
        self._check_node()
        await self._travel()
        self._issuer.answers[question_id] = answer
        return True

    async def report_uses(self, uses: Sequence[EntryUse], *, last: ReportedUses | None = None) -> bool:
        self._check_node()
        await self._travel()
        if self._issuer.refuses_uses:
            raise Refused(Kind.UNAVAILABLE, "store: full")
        if self._issuer.takes_uses and last is not None:
            self._issuer.last = last
        elif self._issuer.takes_uses:
            self._issuer.uses.append(tuple(uses))
        return self._issuer.takes_uses

    async def mint_x509(self, requests: Sequence[X509Request]) -> Sequence[MintedX509 | Refused]:
        self._check_node()
        await self._travel(len(requests))
        self._issuer.mints.append(len(requests))
        minted = [self._issuer.mint(request) for request in requests]
        if self._issuer.denies_mints:
            self._issuer.denies_mints -= len(minted)
            self._issuer.deny(*(one.chain[0].serial_number for one in minted if isinstance(one, MintedX509)))
            for _ in range(10):
                await asyncio.sleep(0)
        return minted

    async def mint_jwt(self, requests: Sequence[JWTRequest]) -> Sequence[MintedJWT | Refused]:
        self._check_node()
        await self._travel(len(requests))
        self._issuer.jwt_mints.append(len(requests))
        return [self._issuer.mint_token(request) for request in requests]

    async def _travel(self, size: int = 1) -> None:
        await asyncio.sleep(0)
        if self._issuer.is_silent:
            await asyncio.Event().wait()
        if self._issuer.most is not None and size > self._issuer.most:
            raise Refused(Kind.UNAVAILABLE, "issuer: no answer in time")
        if self._issuer.cancels:
            self._issuer.cancels -= 1
            raise asyncio.CancelledError

    def _check_reachable(self) -> None:
        if not self._issuer.is_reachable:
            raise Refused(Kind.UNAVAILABLE, "issuer: cannot be reached")

    def _check_node(self) -> Node:
        self._check_reachable()
        if self._issuer.refused_node is not None:
            raise self._issuer.refused_node
        if self.node is None:
            raise Refused(Kind.UNAVAILABLE, "issuer: this node has not joined yet")
        if self._issuer.clock.now() >= self.node.svid.not_after:
            raise Refused(Kind.UNAVAILABLE, "TLS: handshake failed")
        return self.node
