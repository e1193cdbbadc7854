"""A certificate authority for one test, by openssl: a server's certificate for localhost, a client's, and a stranger's."""

import ssl
import subprocess
from pathlib import Path


class Certificates:
    """PEM files below a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.authority = folder / "ca.pem"
        self._run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
                  "-subj", "/CN=test authority", "-days", "2")  # fmt: skip

    def issue(self, name: str, *, days: int = 2) -> tuple[Path, Path]:
        """Certificate and key of this name, good for localhost; with 0 days it has expired when it is used."""
        self._run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr",
                  "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")  # fmt: skip
        self._run("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", f"{name}.pem",
                  "-days", str(days), "-copy_extensions", "copy")  # fmt: skip
        return self._folder / f"{name}.pem", self._folder / f"{name}.key"

    def server(self, *, ask_for_client: bool) -> ssl.SSLContext:
        """A server's side; with `ask_for_client` it refuses whoever has no certificate of this authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue("server"))
        if ask_for_client:
            context.load_verify_locations(self.authority)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _run(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, cwd=self._folder, capture_output=True, timeout=60)
