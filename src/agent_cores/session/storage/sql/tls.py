"""TLS with a database server: the files that a URL names, and the context of a connection."""

from __future__ import annotations

import ssl
from pathlib import Path

from agent_cores.session.errors import ConfigurationError


def require_file(option: str, path: str | None) -> None:
    """Raise ``ConfigurationError``, which names the option, for a file that cannot be read."""
    if path is None:
        return
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise ConfigurationError(
            f"{option} in the storage URL names {path!r}, which cannot be read "
            f"({type(error).__name__})"
        ) from error


def client_context(
    ca: str | None, certificate: str | None, key: str | None, password: str = ""
) -> ssl.SSLContext:
    """Return the context of a client that checks the certificate and the name of the server.

    ``ca=None`` trusts the system's certificates. A file that holds no certificate or no key raises
    ``ConfigurationError``.
    """
    try:
        context = ssl.create_default_context(cafile=ca)
        if certificate is not None:
            context.load_cert_chain(certificate, key, lambda: password)
    except ssl.SSLError as error:
        raise ConfigurationError(
            "a certificate or key that the storage URL names cannot be used "
            f"({error.reason or type(error).__name__})"
        ) from error
    return context
