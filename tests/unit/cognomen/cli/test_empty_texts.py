"""An empty text on the command line, as from an unset shell variable, names nothing, and never everything."""

from collections.abc import Iterator

import click
import pytest

from cognomen.cli.main import cognomen

MAY_BE_EMPTY = {
    "comment": "no comment, which is the default",
    "page_token": "the first page, with which a script begins its loop",
    "entry apply owner": "those without an owner; says its help",
    "audit who owner": "what was signed for entries without an owner; says its help",
    "entry create owner": "no owner, as in a file",
    "entry create hint": "no hint, as in a file",
    "entry update owner": "takes the owner away",
    "entry update hint": "takes the hint away",
    "entry update dns_names": "takes the DNS names away",
    "entry update labels": "takes the labels away",
    "entry update expires_at": "it does not expire any more",
    "issuer advertised_node_address": "replaces what the file says by the default",
    "issuer advertised_join_address": "replaces what the file says by the default",
    "issuer audit_checkpoint_file": "turns off what the file says",
    "issuer health_address": "turns off what the file says",
    "issuer jwt_issuer": "turns off what the file says",
    "issuer web_address": "turns off what the file says",
    "issuer web_certificate_file": "turns off what the file says",
    "issuer web_key_file": "turns off what the file says",
    "issuer web_behind_proxy": "yes or no, and click takes it for no",
    "attestor health_address": "turns off what the file says",
    "issuer audit_checkpoint_syslog": "yes or no, and click takes it for no",
    "attestor node_name": "replaces what the file says by the default",
}
TIME = "2026-11-23T08:00:00Z"


def commands(command: click.Command, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield names, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, *names, name)


def takes_text(parameter: click.Parameter) -> bool:
    return not (isinstance(parameter, click.Option) and (parameter.is_flag or parameter.count))


CASES = [
    pytest.param(names, command, parameter, id=f"{' '.join(names)} {parameter.opts[0]}")
    for names, command in commands(cognomen)
    for parameter in command.params
    if takes_text(parameter)
]


def reason(names: tuple[str, ...], parameter: click.Parameter) -> str | None:
    name = parameter.name or ""
    keys = (name, f"{' '.join(names)} {name}", f"{names[0]} {name}" if names else name)
    return next((MAY_BE_EMPTY[key] for key in keys if key in MAY_BE_EMPTY), None)


def with_empty(command: click.Command, parameter: click.Parameter) -> list[str]:
    if isinstance(parameter, click.Option):
        return [f"{parameter.opts[0]}="]
    others = [one for one in command.params if isinstance(one, click.Argument)]
    return ["" if one is parameter else "1" if isinstance(one.type, click.IntRange) else TIME for one in others]


def refusal(command: click.Command, arguments: list[str]) -> click.BadParameter | None:
    """How the command refuses a value; None: it takes all that it is given, though it may miss others."""
    try:
        command.make_context(str(command.name), arguments)
    except click.MissingParameter:
        return None
    except click.BadParameter as e:
        return e
    return None


def test_there_is_something_to_try() -> None:
    assert len(CASES) > 200


@pytest.mark.parametrize(("names", "command", "parameter"), CASES)
def test_an_empty_text_is_refused_unless_it_means_something(
    names: tuple[str, ...], command: click.Command, parameter: click.Parameter
) -> None:
    found = refusal(command, with_empty(command, parameter))
    if reason(names, parameter) is not None:
        assert found is None
    else:
        assert found is not None
        assert found.param is parameter
        assert "''" in found.message or "found an empty string" in found.message


def test_every_exception_is_one_of_a_parameter_that_there_is() -> None:
    used = {reason(*case.values[::2]) for case in CASES}  # type: ignore[arg-type]  # pytest types them as objects
    assert used - {None} == set(MAY_BE_EMPTY.values())


@pytest.mark.parametrize("arguments", [["list"], ["list", "--page-size=3"]], ids=str)
def test_what_is_not_given_keeps_its_default(arguments: list[str]) -> None:
    context = click.Context(cognomen)
    svid = cognomen.get_command(context, "svid")
    assert isinstance(svid, click.Group)
    listing = svid.commands["list"].make_context("list", arguments[1:])
    assert (listing.params["node_id"], listing.params["page_token"]) == ("", "")
