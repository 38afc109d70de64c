"""``MysqlOptions``: the options of a MySQL or MariaDB URL, and what they mean to asyncmy."""

from __future__ import annotations

import ssl
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import parse_qsl, urlencode

from msgspec import Meta

from agent_cores.session.errors import ConfigurationError
from agent_cores.session.storage.sql.options import ServerOptions, split_server_url
from agent_cores.session.storage.sql.tls import client_context, require_file

SslMode = Literal["disabled", "required", "verify_ca", "verify_identity"]
_SSL_MODES = Meta(description="one of disabled, required, verify_ca and verify_identity")


class MysqlOptions(ServerOptions, frozen=True, kw_only=True):
    """``ssl_mode`` is ``verify_identity`` if ``ssl_ca`` is given, else ``disabled``."""

    store = "MySQL"
    advice: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("ssl", "tls", "usessl"), "say ssl_mode=required"),
        "sslaccept": "say ssl_mode=verify_identity",
        "socket": "say unix_socket",
        "connection_limit": "say pool_size",
        "read_timeout": "say timeout",
    }

    unix_socket: str | None = None
    ssl_mode: Annotated[SslMode | None, _SSL_MODES] = None
    ssl_ca: str | None = None
    ssl_cert: str | None = None
    ssl_key: str | None = None

    def tls(self) -> ssl.SSLContext | None:
        """Return the TLS context of a connection; the error names a file that cannot be read."""
        mode = self.ssl_mode or ("verify_identity" if self.ssl_ca else "disabled")
        if mode == "disabled":
            return None
        for option in ("ssl_ca", "ssl_cert", "ssl_key"):
            require_file(option, getattr(self, option))
        context = client_context(self.ssl_ca, self.ssl_cert, self.ssl_key)
        context.check_hostname = mode == "verify_identity"
        if mode == "required":
            context.verify_mode = ssl.CERT_NONE
        return context


def split_url(url: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return asyncmy's arguments that name the database, and our own options.

    ``ssl-mode=REQUIRED``, as MySQL's own tools write it, is one of ours.
    """
    place, query = split_server_url(url, store="MySQL", port=3306)
    pairs = [(name.lower().replace("-", "_"), text) for name, text in parse_qsl(query, True)]  # noqa: FBT003 - the standard library's own signature
    pairs = [(name, text.lower() if name == "ssl_mode" else text) for name, text in pairs]
    own, others = MysqlOptions.split_query(urlencode(pairs))
    for name, text in others:
        if name == "charset" and text.lower() in {"utf8mb4", "utf8"}:
            continue  # every connection is set to utf8mb4; names and values are kept as bytes
        raise ConfigurationError(MysqlOptions.unknown(name, query))
    return place, own
