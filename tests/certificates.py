"""Certificates for servers on 127.0.0.1, of an authority that nobody knows but these tests."""

from __future__ import annotations

from pathlib import Path

import trustme
from servers import HOST

__all__ = ["Certificates"]


class Certificates:
    """An authority, and a certificate of a server.

    Args:
        folder: where the files go.

    Attributes:
        authority: the file that clients are given to trust the server.
    """

    def __init__(self, folder: Path) -> None:
        issuer = trustme.CA()
        issued = issuer.issue_cert(HOST)
        self.authority, self._chain, self._key = (folder / f"{name}.pem" for name in ("authority", "chain", "key"))
        issuer.cert_pem.write_to_path(self.authority)
        issued.private_key_pem.write_to_path(self._key)
        for part in issued.cert_chain_pems:
            part.write_to_path(self._chain, append=True)

    def options(self, port: int) -> list[str]:
        """Give the options with which redis-server speaks TLS, to clients as to other servers.

        Args:
            port: where. Those that speak without TLS keep theirs.
        """
        return [
            *("--tls-port", str(port)),
            *("--tls-cert-file", str(self._chain)),
            *("--tls-key-file", str(self._key)),
            *("--tls-ca-cert-file", str(self.authority)),
            *("--tls-auth-clients", "no"),
            *("--tls-replication", "yes"),
            *("--tls-cluster", "yes"),
        ]
