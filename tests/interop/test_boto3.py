"""boto3, unchanged, takes a role of AWS with the file that `cognomen fetch jwt --watch --token` keeps; `TokenExchange` needs no file.

The double of STS verifies with joserfc, by the issuer's discovery document, and checks the signatures of calls.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import boto3.session
import botocore.exceptions
import jwt
import pytest

from bench.rig.child import running
from bench.rig.daemons import COGNOMEN
from svid.errors import ExchangeError
from svid.integrations.exchange import TokenExchange
from svid.integrations.exchange_profiles import aws_sts_profile
from svid.workloadapi.sources import JWTSource
from tests.doubles.awssts import ACCOUNT, AUDIENCE, ROLE, STSDouble, sts
from tests.doubles.relyingparty import Demands, Discovered, Joserfc
from tests.flow.published import Published

_SUBJECT = "spiffe://example.org/web"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    options = ("--authority-spread=2s", "--authority-lifetime=10m", "--jwt-svid-ttl=8s")
    world = Published(tmp_path_factory.mktemp("w"), *options)
    with world.running():
        yield world


@pytest.fixture
def aws(world: Published) -> Iterator[STSDouble]:
    """STS; a file holds the same token for half of its life, so that it takes one more than once."""
    demands = Demands(Joserfc(Discovered(world.url, world.trusting())), AUDIENCE, subject=_SUBJECT, once=False)
    with sts(demands, world.authority.server_context()) as double:
        yield double


@contextmanager
def tokens(world: Published, directory: Path) -> Iterator[Path]:
    """The file of a token that the command keeps."""
    file = directory / "tokens" / "aws"
    arguments = ["fetch", "jwt", "--watch", f"--write={file.parent}", f"--token=aws={AUDIENCE}"]
    with running([*COGNOMEN, *arguments, f"--socket={world.workload}"], directory / "fetch.log"):
        while not file.exists():  # pytest's timeout ends it
            pass
        yield file


@pytest.fixture
def file(world: Published, aws: STSDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file with the token, and the environment that makes the SDK read it, and nothing else of this machine."""
    with tokens(world, tmp_path) as file:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(file),
            "AWS_ROLE_ARN": ROLE,
            "AWS_ROLE_SESSION_NAME": "reasoning",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_STS": aws.url,
            "AWS_CA_BUNDLE": str(world.authority.path),
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(tmp_path / "none"),
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        }.items():
            monkeypatch.setenv(name, value)
        yield file


def identity() -> dict[str, str]:
    """Who we are to AWS, asked as any program asks that was just started."""
    found = boto3.session.Session().client("sts").get_caller_identity()
    return {name: str(found[name]) for name in ("Arn", "Account")}


def test_a_call_is_made_with_the_credentials_of_the_role(aws: STSDouble, file: Path) -> None:
    assert file.stat().st_mode & 0o777 == 0o600
    assert identity() == {"Arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/reasoning/reasoning", "Account": ACCOUNT}
    assert (aws.sessions, len(aws.calls)) == (["reasoning"], 1)


@pytest.mark.usefixtures("file")
def test_one_client_lives_on_the_file_through_a_rotation(world: Published, aws: STSDouble) -> None:
    aws.life = timedelta(minutes=1)  # so that the SDK takes the role again for each call
    client = boto3.session.Session().client("sts")
    with JWTSource(f"unix://{world.workload}") as source:
        client.get_caller_identity()
        token = world.rotate_jwt(source, AUDIENCE)
    signs = jwt.get_unverified_header(token)["kid"]
    while aws.demands.kids[-1] != signs:  # pytest's timeout ends it
        assert client.get_caller_identity()["Account"] == ACCOUNT
    assert len(aws.calls) == len(aws.sessions) == len(aws.demands.kids)
    assert len(set(aws.calls)) == len(aws.calls)


@pytest.mark.parametrize(
    ("subject", "ahead", "says"),
    [
        ("spiffe://example.org/other", 0, "InvalidIdentityToken.*no rule for this subject"),
        (_SUBJECT, -30, "InvalidIdentityToken.*issued in the future"),
        (_SUBJECT, 60, "ExpiredTokenException.*expired"),
    ],
)
@pytest.mark.usefixtures("file")
def test_a_refusal_reaches_the_caller_as_the_sdks_error(subject: str, ahead: int, says: str, aws: STSDouble) -> None:
    aws.demands.subject, aws.ahead = subject, timedelta(seconds=ahead)
    with pytest.raises(botocore.exceptions.ClientError, match=says):
        identity()
    assert not aws.calls


@pytest.mark.usefixtures("file")
def test_a_key_in_the_environment_wins_over_the_file(aws: STSDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIASTORED")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "stored")
    with pytest.raises(botocore.exceptions.ClientError, match="SignatureDoesNotMatch"):
        identity()
    assert (aws.sessions, aws.calls) == ([], [])


def exchange_of(world: Published, aws: STSDouble, stack: ExitStack) -> TokenExchange:
    source = stack.enter_context(JWTSource(f"unix://{world.workload}"))
    profile = aws_sts_profile(ROLE, "reasoning", url=aws.url)
    return TokenExchange(profile, source, context=world.trusting())


def test_an_exchange_gives_credentials_that_boto3_signs_with(world: Published, aws: STSDouble) -> None:
    aws.demands.once = True
    with ExitStack() as stack:
        exchange = exchange_of(world, aws, stack)
        for _ in range(3):
            fields = exchange.token().fields
            session = boto3.session.Session(
                aws_access_key_id=fields["AccessKeyId"],
                aws_secret_access_key=fields["SecretAccessKey"],
                aws_session_token=fields["SessionToken"],
            )
            client = session.client("sts", "us-east-1", endpoint_url=aws.url, verify=str(world.authority.path))
            assert client.get_caller_identity()["Account"] == ACCOUNT
            exchange.forget()
    assert len(set(aws.calls)) == 3


@pytest.mark.parametrize(
    ("ahead", "says"),
    [
        (-30, r"InvalidIdentityToken: .*issued in the future; .*our clock is \d\d s ahead of the provider's"),
        (60, r"ExpiredTokenException: .*expired; .*our clock is \d\d s behind the provider's"),
    ],
)
def test_a_clock_that_is_wrong_is_named(ahead: int, says: str, world: Published, aws: STSDouble) -> None:
    aws.ahead = timedelta(seconds=ahead)
    with ExitStack() as stack, pytest.raises(ExchangeError, match=says):
        exchange_of(world, aws, stack).token()
