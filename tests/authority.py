"""A certificate authority of a test's own, made with the openssl program: EC keys, certificates for a day."""

import shutil
import subprocess
from pathlib import Path

from services import require

_NEW_KEY = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]


class Authority:
    """Issues certificates; `ca` is the file that those who trust it are given."""

    def __init__(self, folder: Path, name: str = "test") -> None:
        """Makes its key and certificate in `folder`."""
        require(shutil.which("openssl") is not None, "openssl")
        self._folder = folder
        self.ca, self._key = folder / f"{name}-ca.pem", folder / f"{name}-ca.key"
        _openssl(*_NEW_KEY, "-keyout", str(self._key), "-out", str(self.ca), "-subj", f"/CN={name} authority")

    def issue(self, name: str, *alternatives: str) -> tuple[Path, Path]:
        """(certificate, key) for the common name; `alternatives` are such as DNS:localhost or IP:127.0.0.1."""
        certificate, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        extensions = ["-addext", "basicConstraints=critical,CA:FALSE"]
        if alternatives:
            extensions += ["-addext", f"subjectAltName={','.join(alternatives)}"]
        signed_by = ["-CA", str(self.ca), "-CAkey", str(self._key)]
        _openssl(
            *_NEW_KEY, *signed_by, *extensions, "-keyout", str(key), "-out", str(certificate), "-subj", f"/CN={name}"
        )
        return certificate, key

    def issue_in_one(self, name: str, *alternatives: str) -> Path:
        """Key and certificate in one file."""
        certificate, key = self.issue(name, *alternatives)
        both = certificate.with_suffix(".both.pem")
        both.write_bytes(key.read_bytes() + certificate.read_bytes())
        return both


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
