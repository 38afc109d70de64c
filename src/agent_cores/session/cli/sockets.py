"""``listening_sockets``: bound sockets, for one process and for several."""

from __future__ import annotations

import errno
import os
import socket
import sys
from contextlib import suppress

from agent_cores.session.errors import ConfigurationError

_BACKLOG = 2048
_OTHER_FILES = 512
"""Files that a process needs besides its connections."""


def listening_sockets(host: str, port: int) -> list[socket.socket]:
    """Return a listening socket for each address of a host.

    ``::`` is every address of the machine, IPv4 included; a name such as ``localhost`` is all that
    it resolves to. If ``port`` is 0 the sockets share a free one. Raises ``ConfigurationError`` if
    no socket can be opened.
    """
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE, proto=socket.IPPROTO_TCP
        )
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"the host {host!r} has no address: {error}") from error
    listening: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            place = (address[0], port, *address[2:])
            one = _listening(family, kind, protocol, place, host)
            if one is not None:
                listening.append(one)
                port = port or one.getsockname()[1]
    except BaseException:
        for one in listening:
            one.close()
        raise
    if not listening:
        raise ConfigurationError(f"no address of {host!r} can be listened on here")
    return listening


def allow_open_files(connections: int) -> None:
    """Raise this process's limit of open files to what its connections need, if allowed.

    Many systems start a process with 1,024, and beyond that it can accept no connection.
    """
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - not available on every platform

    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_FILES
    if most != resource.RLIM_INFINITY:
        wanted = min(wanted, most)
    if now != resource.RLIM_INFINITY and now < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _listening(
    family: int, kind: int, protocol: int, place: tuple[object, ...], host: str
) -> socket.socket | None:
    """Return one socket; ``None`` if the machine lacks that address family."""
    try:
        one = socket.socket(family, kind, protocol)
    except OSError:
        return None
    try:
        if os.name == "posix":
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
        one.bind(place)
        one.listen(_BACKLOG)
        one.setblocking(False)  # noqa: FBT003 - the standard library's signature
    except OSError as error:
        one.close()
        if error.errno == errno.EADDRNOTAVAIL and not _is_address(host):
            return None
        raise ConfigurationError(f"cannot listen on {place[:2]}: {error.strerror}") from error
    return one


def _is_address(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            socket.inet_pton(family, host)
            return True
    return False
