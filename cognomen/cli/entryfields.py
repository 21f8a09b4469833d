"""The options for the fields of an entry, and what they say, as in a JSON document.

Where a field can be taken back, an empty text, `0s` or `never` does so.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import click

from cognomen.cli.emptytext import MAY_BE_EMPTY
from cognomen.cli.options import Labels, duration, moment, selector
from svid.encoding import JSON

__all__ = ["FIELDS", "FIELDS_TO_CHANGE", "given_fields"]

_NEVER = "never"
_ONLY_EMPTY = {"dns_names": "--dns", "labels": "--label"}


def _moment_or_never(text: str) -> datetime | str:
    return _NEVER if text in {"", _NEVER} else moment(text)


def _fields(*, change: bool) -> Sequence[click.Option]:
    """The options, one for each field.

    Args:
        change: whether the entry exists, and an empty text takes back what a field has.
    """
    none = ", or an empty text for none" if change else ""
    usual = ", or 0s for the issuer's." if change else ".  [default: the issuer's]"
    return [
        click.Option(["--spiffe-id"], help="The workload's SPIFFE ID; /PATH is one in the issuer's trust domain."),
        click.Option(
            ["--parent-id", "--parent", "parent_id"],
            help="The node, by its name, id or SPIFFE ID, or the node group; /PATH as above.",
        ),
        click.Option(
            ["--selector", "selectors"],
            type=selector,
            multiple=True,
            metavar="TYPE:VALUE",
            help="What a workload must have; repeatable: all must match.",
        ),
        click.Option(
            ["--x509-svid-ttl"],
            type=duration,
            help=f"X509-SVID lifetime, such as 1h; at most 1d{usual}",
        ),
        click.Option(["--jwt-svid-ttl"], type=duration, help=f"JWT-SVID lifetime, such as 5m; at most 1d{usual}"),
        click.Option(
            ["--dns", "dns_names"],
            type=MAY_BE_EMPTY if change else str,
            multiple=True,
            metavar="NAME",
            help=f"A DNS name to put into the X509-SVID; repeatable{none}.",
        ),
        click.Option(
            ["--hint"], type=MAY_BE_EMPTY, help=f"Tells a workload with several identities which is which{none}."
        ),
        click.Option(
            ["--default/--no-default"],
            default=None,
            help="Whether it comes before others in a program's list, whose first is its default identity.  [default: no]",
        ),
        click.Option(["--owner"], type=MAY_BE_EMPTY, help=f"Who is responsible for this identity{none}."),
        Labels(["--label", "labels"], help=f"A label of your own; repeatable{none}.", may_be_empty=change),
        click.Option(
            ["--expires-at"],
            type=_moment_or_never if change else moment,
            metavar="TIME",
            help=f"When the entry expires, such as 2026-12-31T00:00:00Z{', or never' if change else ''}.",
        ),
    ]


FIELDS = _fields(change=False)
"""Those of a new entry."""

FIELDS_TO_CHANGE = _fields(change=True)
"""Those of an entry that exists."""


def given_fields(fields: Mapping[str, object], *, change: bool = False) -> dict[str, JSON]:
    """Write the given fields as in a JSON document; null is what takes a field back.

    Args:
        change: whether a lifetime of 0s takes back what a field has.

    Raises:
        click.UsageError: an empty text is given together with others.
    """
    given = {key: _written(key, value) for key, value in fields.items() if value not in (None, ())}
    return {key: None if change and value == "0s" and key.endswith("_ttl") else value for key, value in given.items()}


def _written(key: str, value: object) -> JSON:
    match value:
        case bool():
            return value
        case timedelta():
            return f"{int(value.total_seconds())}s"
        case datetime():
            from cognomen.wire.admin import moment_to_text  # noqa: PLC0415 - loads protobuf, which --help need not

            return moment_to_text(value)
        case tuple():
            return _several(key, value)
        case str() if key == "expires_at":
            return None
    return str(value)


def _several(key: str, values: tuple[object, ...]) -> JSON:
    """Selectors, DNS names or labels; an empty text is none of them."""
    given = [value for value in values if value and value != ("", "")]
    if given and len(given) < len(values):
        raise click.UsageError(f"{_ONLY_EMPTY[key]}: expected values, or one empty text for none, found both")
    if key == "labels":
        return {str(name): str(text) for name, text in (value for value in given if isinstance(value, tuple))}
    return list(map(str, given))
