"""How secrets look: known shapes of keys and tokens, and names that are given to secrets, in bytes, environments and arguments.

Nothing here returns a secret: only what kind it is, and the name that it has. cognomen/demo/scan reads the places.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["KEY_KINDS", "in_arguments", "in_bytes", "in_environment"]

_PEM, _DER, _JWK = "a private key (PEM)", "a private key (PKCS #8)", "a private key (JWK)"
KEY_KINDS = frozenset({_PEM, _DER, _JWK})
"""What a private key is called here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """A kind of secret.

    Attributes:
        starts: how it may begin; looking for these first is a hundred times as fast as the pattern alone.
        pattern: what it must match there.
    """

    kind: str
    starts: tuple[bytes, ...]
    pattern: re.Pattern[bytes]

    def is_in(self, text: bytes) -> bool:
        return any(self.pattern.match(text, at) for start in self.starts for at in _places(text, start))


_SHAPES = (
    _Shape(
        kind="an Anthropic key or token (sk-ant-…)",
        starts=(b"sk-ant-",),
        pattern=re.compile(rb"(?<![\w-])sk-ant-[\w-]{8,}"),
    ),
    _Shape(
        kind="an API key (sk-…)",
        starts=(b"sk-",),
        pattern=re.compile(rb"(?<![\w-])sk-(?!ant-)(?=[\w-]*[0-9])[\w-]{20,}"),
    ),
    _Shape(
        kind="an AWS access key (AKIA…, ASIA…)",
        starts=(b"AKIA", b"ASIA"),
        pattern=re.compile(rb"(?<![A-Za-z0-9])A[KS]IA[A-Z0-9]{16}(?![A-Za-z0-9])"),
    ),
    _Shape(
        kind="a Google API key (AIza…)",
        starts=(b"AIza",),
        pattern=re.compile(rb"(?<![\w-])AIza[\w-]{35}"),
    ),
    _Shape(
        kind="a GitHub token (ghp_…, github_pat_…)",
        starts=(b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_"),
        pattern=re.compile(rb"(?<!\w)(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{40})"),
    ),
    _Shape(
        kind="a Slack token (xox…)",
        starts=(b"xox",),
        pattern=re.compile(rb"(?<![\w-])xox[abeoprs]-[\w-]{10,}"),
    ),
    _Shape(
        kind="a Vault token (hvs.…)",
        starts=(b"hvs.", b"hvb.", b"hvr."),
        pattern=re.compile(rb"(?<![\w.-])hv[sbr]\.[\w-]{24,}"),
    ),
    _Shape(
        kind="a header Authorization",
        starts=(b"Bearer", b"bearer", b"Basic", b"basic"),
        pattern=re.compile(rb"(?<![\w-])[Bb](?:earer|asic)[ \t]{1,3}(?!eyJ)(?=[\w+/=.~-]*[0-9])[\w+/=.~-]{16,}"),
    ),
    _Shape(
        kind="a password in .netrc",
        starts=(b"machine",),
        pattern=re.compile(rb"(?<![\w-])machine\s{1,9}\S{1,256}\s{1,9}login\s{1,9}\S{1,256}\s{1,9}password\s{1,9}\S"),
    ),
    _Shape(
        kind="a JWT",
        starts=(b"eyJ",),
        pattern=re.compile(rb"(?<![\w-])eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{16,}"),
    ),
    _Shape(
        kind="a password in a URL",
        starts=(b"://",),
        pattern=re.compile(rb"://[^\s/:@\"'%{$<]{0,64}:[^\s/:@\"'%{$<]{3,256}@[\w\[]"),
    ),
    _Shape(
        kind=_PEM,
        starts=(b"-----BEGIN ",),
        pattern=re.compile(rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----(?:\s|\\n|\\r)+[A-Za-z0-9+/=:]{8}"),
    ),
    _Shape(
        kind=_JWK,
        starts=(b'"d"',),
        pattern=re.compile(rb'"d"\s{0,3}:\s{0,3}"[\w-]{42,}"'),
    ),
    _Shape(  # version 0, then the algorithm: an elliptic curve, RSA, or Edwards and Montgomery curves
        kind=_DER,
        starts=(b"\x02\x01\x00\x30",),
        pattern=re.compile(
            rb"\x02\x01\x00\x30.(?:\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06"
            rb"|\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01|\x06\x03\x2b\x65[\x6e-\x71]\x04)",
            re.DOTALL,
        ),
    ),
    _Shape(  # the same in base64
        kind=_DER,
        starts=(b"MIG", b"MII"),
        pattern=re.compile(rb"MIG[A-Za-z0-9]AgEAMB[A-Za-z0-9+/]{40}|MII[A-Za-z0-9+/]{3}IBADANBgkqhkiG9w0BAQEFAAS"),
    ),
)

_WORDS = (
    *("apikey", "api_key", "api-key", "accesskey", "access_key", "access-key", "private_key", "privatekey"),
    *("token", "secret", "passwd", "password", "passphrase"),
)
_NAMES = "|".join(map(re.escape, _WORDS))
_SECRET_NAME = re.compile(rf".*(?:{_NAMES})(?:s|[_-]?id)?", re.IGNORECASE)
_SECRET_VARIABLE = re.compile(rf"{_SECRET_NAME.pattern}|(?:.*_)?key|.+_(?:pwd|pass)", re.IGNORECASE)
_VALUE = re.compile(rb"s?[\"']?\s{0,3}[:=]\s{0,3}[\"']?([\w+/=.~-]{16,512})")
_NAME = re.compile(rb"[\w-]*\Z")
_LONGEST_NAME = 64
_LEAST_BITS = 3.0  # by character; 32 random hexadecimal digits have about 3.6


def in_bytes(text: bytes) -> Iterator[str]:
    """Each kind of secret in it once; and each name for secrets to which a value is assigned that looks random."""
    yield from dict.fromkeys(shape.kind for shape in _SHAPES if shape.is_in(text))
    lower = text.lower()
    names = set()
    for word in _WORDS:
        for at in _places(lower, word.encode()):
            end = at + len(word)
            found = _VALUE.match(text, end)
            if found and _is_random(found[1]) and not any(shape.is_in(found[1]) for shape in _SHAPES):
                before = _NAME.search(text, max(at - _LONGEST_NAME, 0), at)
                names.add(((before[0] if before else b"") + text[at:end]).decode(errors="replace"))
    yield from (f"a random value assigned to {name}" for name in sorted(names))


def in_environment(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The name of each variable that is called as secrets are and has a value, or whose value looks like a secret; and the kind."""
    for name, value in environment.items():
        kinds = list(in_bytes(value.encode(errors="surrogateescape")))
        if not kinds and value and _SECRET_VARIABLE.fullmatch(name):
            kinds = ["a value, under the name of a secret"]
        yield from ((name, kind) for kind in kinds)


def in_arguments(arguments: Sequence[str]) -> Iterator[str]:
    """Each kind of secret in the arguments of a program: by its look, as `--password=…`, and as `--password …`."""
    for number, argument in enumerate(arguments):
        yield from in_bytes(argument.encode(errors="surrogateescape"))
        flag, equals, value = argument.partition("=")
        if not _SECRET_NAME.fullmatch(flag.lstrip("-")):
            continue
        if flag.startswith("-") and not equals:
            value = next(iter(arguments[number + 1 : number + 2]), "")
        if value and not value.startswith("-"):
            yield f"the value of {flag}"


def _places(text: bytes, part: bytes) -> Iterator[int]:
    at = text.find(part)
    while at >= 0:
        yield at
        at = text.find(part, at + 1)


def _is_random(value: bytes) -> bool:
    """Whether a text is as varied as keys are: letters and digits, of which none is frequent."""
    length = len(value)
    bits = -sum(count / length * math.log2(count / length) for count in Counter(value).values())
    return (
        bits >= min(_LEAST_BITS, math.log2(length) - 0.75) and value.isascii() and any(map(str.isdigit, value.decode()))
    )
