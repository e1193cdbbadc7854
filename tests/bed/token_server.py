"""An OpenID Connect provider, as far as Kafka needs one: client credentials against a signed token, and the key to check it with.

Its own, since it must refuse a wrong secret, and a secret that was changed.
"""

import base64
import json
import subprocess
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from tests.bed.kafka import free_port

_AUDIENCE = "kafka"


class TokenServer:
    """A context manager; `secrets` holds the clients it knows.

    Args:
        folder: for its key.
        lifetime: seconds that a token is good for.
    """

    def __init__(self, folder: Path, lifetime: int = 3600) -> None:
        self._key = folder / "token.key"
        self._lifetime = lifetime
        self._openssl("genrsa", "-out", str(self._key), "2048")
        modulus = self._openssl("rsa", "-in", str(self._key), "-noout", "-modulus").decode().strip().removeprefix("Modulus=")
        self._public = {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "1", "n": _text(bytes.fromhex(modulus)), "e": "AQAB"}
        self.secrets: dict[str, str] = {}
        """Client id → secret."""
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(200, {"keys": [server._public]})

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                client, _, secret = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic ")).decode().partition(":")
                client, secret = urllib.parse.unquote(client), urllib.parse.unquote(secret)
                if server.secrets.get(client) == secret:
                    token = {"access_token": server.token(client), "token_type": "Bearer", "expires_in": server._lifetime}
                    self._answer(200, token)
                else:
                    self._answer(401, {"error": "invalid_client"})

            def _answer(self, status: int, content: object) -> None:
                body = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
        self._server.daemon_threads = True

    def __enter__(self) -> Self:
        """Serves."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends."""
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where tokens are had; the keys are there too."""
        return f"http://127.0.0.1:{self._server.server_port}/token"

    def token(self, subject: str) -> str:
        """A signed token of this subject."""
        now = int(time.time())
        claims = {"sub": subject, "aud": _AUDIENCE, "iss": self.url, "iat": now, "exp": now + self._lifetime}
        signed = ".".join(_text(json.dumps(part).encode()) for part in ({"alg": "RS256", "typ": "JWT", "kid": "1"}, claims))
        return f"{signed}.{_text(self._openssl('dgst', '-sha256', '-sign', str(self._key), given=signed.encode()))}"

    @staticmethod
    def _openssl(*arguments: str, given: bytes = b"") -> bytes:
        return subprocess.run(["openssl", *arguments], input=given, check=True, capture_output=True, timeout=60).stdout


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
