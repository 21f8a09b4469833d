"""What `cognomen why` says about entries that nothing can match."""

from cognomen.cli.why import useless


def test_a_lacking_selector_that_no_program_can_have_is_named() -> None:
    near = [
        {"spiffe_id": "spiffe://example.org/a", "lacks": ["unix:uid:1", "k8s:ns:web"]},
        {"spiffe_id": "spiffe://example.org/b", "lacks": ["unix:path:/usr/bin/../bin/sh"]},
    ]
    (line,) = useless(near)
    assert line.startswith(
        "spiffe://example.org/b: expected an absolute path without empty, . or .. segments, found unix:"
    )
