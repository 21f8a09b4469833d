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


def test_an_entry_whose_selectors_no_program_can_have_all_is_named() -> None:
    near = [
        {"spiffe_id": "spiffe://example.org/a", "lacks": ["unix:uid:2"], "selectors": ["unix:uid:2", "unix:gid:1"]},
        {"spiffe_id": "spiffe://example.org/b", "lacks": ["unix:uid:2"], "selectors": ["unix:uid:1", "unix:uid:2"]},
        {"spiffe_id": "spiffe://example.org/c", "lacks": ["unix:path:/a", "unix:path:/b"], "selectors": []},
    ]
    of_b, of_c = useless(near)
    assert of_b == (
        "spiffe://example.org/b: expected at most one unix:uid, because all selectors of an entry must match, "
        "found 'unix:uid:1' and 'unix:uid:2'"
    )
    assert of_c.startswith("spiffe://example.org/c: expected at most one unix:path, ")
