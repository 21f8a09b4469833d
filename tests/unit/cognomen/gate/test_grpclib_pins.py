"""What we stand on inside grpclib and h2 (ADR-0001): an upgrade that moves any of it fails here, not in the field."""

import inspect
from importlib.metadata import version

import grpclib.events
import grpclib.protocol
import grpclib.server
import h2.connection
import h2.events
import h2.settings
from grpclib.config import Configuration


def parameters(function: object) -> list[str]:
    assert callable(function)
    return list(inspect.signature(function).parameters)


def test_grpclib_is_the_version_that_was_read() -> None:
    assert version("grpclib") == "0.4.9"


def test_stream_is_made_as_call_makes_it() -> None:
    assert parameters(grpclib.server.Stream.__init__)[1:] == [
        "stream",
        "method_name",
        "cardinality",
        "recv_type",
        "send_type",
        "codec",
        "status_details_codec",
        "dispatch",
        "deadline",
        "user_agent",
    ]
    assert parameters(grpclib.events._DispatchServerEvents) == []


def test_stream_keeps_the_state_that_call_reads() -> None:
    assert grpclib.server.Stream._send_trailing_metadata_done is False
    assert grpclib.server.Stream._cancel_done is False
    made = inspect.getsource(grpclib.server.Stream.__init__)
    assert all(
        name in made
        for name in ("self._stream = stream", "self._recv_type = recv_type", "self._method_name = method_name")
    )


def test_message_cut_short_is_still_an_assertion() -> None:
    assert "raise AssertionError('Received less data than expected')" in inspect.getsource(grpclib.protocol.Buffer.read)


def test_events_go_to_a_handler_of_our_kind() -> None:
    assert grpclib.protocol.AbstractHandler.__abstractmethods__ == {"accept", "cancel", "close"}
    assert parameters(grpclib.protocol.AbstractHandler.accept) == ["self", "stream", "headers", "release_stream"]
    assert parameters(grpclib.protocol.EventsProcessor.__init__) == ["self", "handler", "connection"]


def test_events_are_dispatched_by_a_table_that_close_deletes() -> None:
    assert "self.processors = {" in inspect.getsource(grpclib.protocol.EventsProcessor.__init__)
    assert "del self.processors" in inspect.getsource(grpclib.protocol.EventsProcessor.close)


def test_connection_is_made_as_we_make_it() -> None:
    assert parameters(grpclib.protocol.Connection.__init__) == ["self", "connection", "transport", "config"]
    for name in ("feed", "flush", "pause_writing", "resume_writing", "is_closing", "close"):
        assert callable(getattr(grpclib.protocol.Connection, name))
    assert Configuration().__for_server__()._keepalive_time == 7200.0


def test_a_stream_without_a_wrapper_may_be_terminated() -> None:
    assert "if self.wrapper is not None" in inspect.getsource(grpclib.protocol.Stream.__terminated__)


def test_a_stream_knows_its_h2_connection_and_that_counts_what_is_open() -> None:
    assert "self._h2_connection = h2_connection" in inspect.getsource(grpclib.protocol.Stream.__init__)
    assert isinstance(vars(h2.connection.H2Connection)["open_inbound_streams"], property)
    assert "self._cardinality = cardinality" in inspect.getsource(grpclib.server.Stream.__init__)


def test_trailers_go_through_a_method_that_we_override() -> None:
    assert "TrailersReceived: self.process_trailers_received" in inspect.getsource(
        grpclib.protocol.EventsProcessor.__init__
    )


def test_h2_has_no_limit_of_streams_once_the_setting_is_gone() -> None:
    settings = h2.settings.Settings(client=False, initial_values={h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 100})
    del settings[h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS]
    assert settings.max_concurrent_streams > 2**31


def test_h2_takes_the_limits_where_we_set_them() -> None:
    connection = h2.connection.H2Connection()
    assert connection.MAX_CLOSED_STREAMS == 2**16
    assert connection.decoder.max_header_list_size == 2**16
    assert "size_limit=self.MAX_CLOSED_STREAMS" in inspect.getsource(h2.connection.H2Connection.__init__)
