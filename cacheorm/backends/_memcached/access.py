"""What a server asks for before it serves anybody: TLS, a user name and a password."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import BackendError
from .exchanges import Replies

if TYPE_CHECKING:
    import ssl

__all__ = ["Credentials", "Login", "make_tls"]

# Bytes of a name and a password together. memcached ends a connection that sends much more before it has logged in.
_MOST = 1000


class Credentials:
    """A user name and a password, which no representation shows.

    Args:
        username: of the user.
        password: of the user.

    Raises:
        TypeError: one of them is no ``str``, or only one is given.
        ValueError: one of them cannot be sent. The message does not show it.
    """

    __slots__ = ("_request",)

    def __init__(self, username: object, password: object) -> None:
        for name, text in (("username", username), ("password", password)):
            if text is None:
                raise TypeError("memcached takes a username and a password, or neither of them")
            if not isinstance(text, str):
                raise TypeError(f"{name} must be a str, got {type(text).__name__}")
            # The server splits what it gets at spaces.
            if not text or any(character <= " " or character == "\x7f" for character in text):
                raise ValueError(
                    f"{name} must be a text without spaces and control characters, as memcached splits at them"
                )
        data = f"{username} {password}".encode("utf-8", "surrogatepass")
        if len(data) > _MOST:
            raise ValueError(f"username and password must have at most {_MOST} bytes together")
        # https://github.com/memcached/memcached/blob/master/doc/protocol.txt, "Authentication". The key and the
        # lifetime are ignored, except by a server without authentication, which is to forget the entry at once.
        self._request = b"set cacheorm-authentication 0 -1 %d\r\n%b\r\n" % (len(data), data)

    def login(self, server: str) -> Login:
        """Return what a new connection to a server is asked first."""
        return Login(server, self._request)


class Login(Replies):
    """Sends a user name and a password.

    Args:
        server: its name for messages.
        request: the bytes.
    """

    hint = " (a memcached with -S speaks the binary protocol only, which has no meta commands: start it with -Y FILE)"

    def __init__(self, server: str, request: bytes) -> None:
        super().__init__(request, 1)
        self._server = server

    def read(self, reader: Any) -> bool:
        if not super().read(reader):
            return False
        if self.replies[0][0] != b"STORED":
            raise BackendError(f"{self._server}: it refused the username and the password")
        return True


def make_tls(
    given: bool | ssl.SSLContext,
    ca_certs: str | None,
    certfile: str | None,
    keyfile: str | None,
    check_hostname: bool | None,
) -> ssl.SSLContext | None:
    """Return what connections are encrypted with; ``None`` if they are not.

    Args:
        given: whether they are, or a context that says how.
        ca_certs: the file of the authorities that are trusted; those of the system if ``None``.
        certfile: the file of a certificate for the server, if it asks for one.
        keyfile: the file of its key, if that is another one.
        check_hostname: whether the certificate of the server has to be for its name; ``True`` if ``None``.

    Raises:
        TypeError: options without TLS, or beside a context that has its own.
        OSError: a file cannot be read.
    """
    options = {
        "ssl_ca_certs": ca_certs,
        "ssl_certfile": certfile,
        "ssl_keyfile": keyfile,
        "ssl_check_hostname": check_hostname,
    }
    named = ", ".join(name for name, option in options.items() if option is not None)
    if isinstance(given, bool):
        if not given:
            if named:
                raise TypeError(f"{named} without TLS: pass ssl=True as well")
            return None
        import ssl

        context = ssl.create_default_context(cafile=ca_certs)
        context.check_hostname = check_hostname is not False
        if certfile is not None:
            context.load_cert_chain(certfile, keyfile)
        elif keyfile is not None:
            raise TypeError("ssl_keyfile without ssl_certfile: a key is of use with its certificate only")
        return context
    import ssl

    if not isinstance(given, ssl.SSLContext):
        raise TypeError(f"ssl must be True, False or an ssl.SSLContext, got {type(given).__name__}")
    if named:
        raise TypeError(f"{named} beside an ssl.SSLContext, which has its own")
    return given
