"""Make what tests and experiments need from the test CA: `python certs/make.py vectors` or `python certs/make.py ca [FOLDER]`.

`vectors` writes tests/vectors, the same bytes each time. `ca` writes an authority, a leaf and their keys for trying things by hand.
"""

import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from certs.ca import Draft, make_authority, make_leaf
from certs.vectors import write_vectors

_ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str]) -> int:
    """Do what the first argument says."""
    match arguments:
        case ["vectors"]:
            print(f"{write_vectors(_ROOT / 'tests' / 'vectors')} vectors in tests/vectors")
        case ["ca"]:
            _write_ca(_ROOT / "certs" / "out")
        case ["ca", folder]:
            _write_ca(Path(folder))
        case _:
            print("usage: make.py vectors | ca [FOLDER]", file=sys.stderr)
            return 2
    return 0


def _write_ca(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    authority = make_authority("authority-1")
    leaf, key = make_leaf(Draft(name="leaf"), authority)
    for name, certificate, private_key in (("ca", authority.certificate, authority.key), ("leaf", leaf, key)):
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        _write_key(folder / f"{name}-key.pem", private_key)
    print(f"ca.pem, ca-key.pem, leaf.pem and leaf-key.pem in {folder}")


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
