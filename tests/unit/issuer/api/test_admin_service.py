"""Every method of the admin door is a command, which goes on record when it is refused, or only reads."""

import inspect
import typing

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from cognomen.wire.pb.admin_rpc import AdminServicer
from issuer.api.admin.service import ACTIONS

_READING = (
    "ask_",
    "note_",
    "plan_",
    "get_",
    "list_",
    "await_",
    "resolve",
)  # await_revocation records nothing but a receipt


def test_each_method_is_a_command_or_a_read() -> None:
    methods = {name for name, _ in inspect.getmembers(AdminServicer, inspect.iscoroutinefunction)}
    assert methods == set(ACTIONS) | {name for name in methods if name.startswith(_READING)}
    assert not [name for name in ACTIONS if name.startswith(_READING)]


@pytest.mark.parametrize("command", ACTIONS)
def test_each_command_may_say_why(command: str) -> None:
    request = next(iter(typing.get_type_hints(getattr(AdminServicer, command)).values()))
    assert issubclass(request, Message)
    assert request.DESCRIPTOR.fields_by_name["comment"].type == FieldDescriptor.TYPE_STRING
