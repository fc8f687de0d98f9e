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
        chain: the file of the certificate.
        key: the file of its key.
    """

    def __init__(self, folder: Path) -> None:
        issuer = trustme.CA()
        issued = issuer.issue_cert(HOST)
        self.authority, self.chain, self.key = (folder / f"{name}.pem" for name in ("authority", "chain", "key"))
        issuer.cert_pem.write_to_path(self.authority)
        issued.private_key_pem.write_to_path(self.key)
        for part in issued.cert_chain_pems:
            part.write_to_path(self.chain, append=True)

    def memcached_options(self) -> list[str]:
        """Return the options with which memcached speaks TLS."""
        return ["-Z", "-o", f"ssl_chain_cert={self.chain},ssl_key={self.key}"]

    def options(self, port: int) -> list[str]:
        """Give the options with which redis-server speaks TLS, to clients as to other servers.

        Args:
            port: where. Those that speak without TLS keep theirs.
        """
        return [
            *("--tls-port", str(port)),
            *("--tls-cert-file", str(self.chain)),
            *("--tls-key-file", str(self.key)),
            *("--tls-ca-cert-file", str(self.authority)),
            *("--tls-auth-clients", "no"),
            *("--tls-replication", "yes"),
            *("--tls-cluster", "yes"),
        ]
