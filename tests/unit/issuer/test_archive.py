"""issuer/archive: a small file that says it is large takes no memory and no disk."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from issuer.archive import DATABASE, MAX_KEY_BYTES, unpack

MANIFEST = {
    "format": "cognomen-backup",
    "version": 1,
    "trust_domain": "example.org",
    "made_at": "2026-01-01T00:00:00+00:00",
    "incarnation": "i",
    "change": 1,
    "sha256": {},
}
GIB = 1024**3


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> io.BytesIO:
    file = io.BytesIO()
    manifest = json.dumps(MANIFEST).encode()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member, content in ((tarfile.TarInfo("manifest.json"), manifest), *members):
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    file.seek(0)
    return file


def with_holes(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.map": "0,512",
        "GNU.sparse.size": str(GIB),
        "GNU.sparse.realsize": str(GIB),
    }
    return member


@pytest.mark.parametrize("name", [DATABASE, "keys/x509-1.key"])
def test_a_member_with_holes_is_refused_before_they_are_filled(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"expected issuer\.db and keys"):
        unpack(archive((with_holes(name), bytes(512))), tmp_path / "db")
    assert not (tmp_path / "db").exists()


@pytest.mark.parametrize(
    "kind",
    [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_header_of_a_gigabyte_is_refused_before_it_is_read(tmp_path: Path, kind: bytes, *, is_first: bool) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, GIB
    (tmp_path / "file").write_bytes(b"" if is_first else archive().getvalue().rstrip(b"\0"))
    with (tmp_path / "file").open("r+b") as file:
        end = file.seek(0, io.SEEK_END)
        file.seek(-end % tarfile.BLOCKSIZE, io.SEEK_END)
        file.write(header.tobuf(format=tarfile.GNU_FORMAT))
        file.truncate(2 * GIB)  # one hole
        file.seek(0)
        with pytest.raises(ValueError, match="expected headers of at most 65536 bytes, found 1073741824"):
            unpack(file, tmp_path / "db")


def test_a_header_says_the_length_of_a_database_that_is_longer_than_tar_has_digits_for(tmp_path: Path) -> None:
    member = tarfile.TarInfo(DATABASE)
    member.pax_headers = {"comment": "x" * MAX_KEY_BYTES}
    with pytest.raises(ValueError, match="its members and digests are not those"):  # so it was read
        unpack(archive((member, b"database")), tmp_path / "db")
    assert (tmp_path / "db").read_bytes() == b"database"
