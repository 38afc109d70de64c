"""What an operator should know of a Redis server, from its ``INFO``."""

from __future__ import annotations

from agent_cores.session.storage.findings import Finding, problem

_NEARLY_FULL = 0.9

Info = dict[str, str]
UNKNOWN = Finding(
    about="server",
    found="this user may not run INFO, so version, eviction, memory and persistence are unknown",
    mend="allow +info, or make sure yourself that maxmemory-policy is noeviction",
)


def info_of(answer: bytes | str) -> Info:
    """Return the fields of an answer to ``INFO``."""
    text = answer.decode() if isinstance(answer, bytes) else answer
    lines = (line.partition(":") for line in text.splitlines())
    return {name: value for name, colon, value in lines if colon}


def findings_of(info: Info) -> list[Finding]:
    """Return the findings about one server."""
    return [_version(info), _eviction(info), *_memory(info), *_persistence(info)]


def _version(info: Info) -> Finding:
    name = info.get("server_name", "redis")
    version = info.get(f"{name}_version") or info.get("redis_version", "unknown")
    return Finding(about="server version", found=f"{name} {version}")


def _eviction(info: Info) -> Finding:
    policy = info.get("maxmemory_policy")
    if policy is None:
        return Finding(about="eviction", found="unknown", mend="make sure that it is noeviction")
    if policy == "noeviction":
        return Finding(about="eviction", found=policy)
    return problem(
        "eviction",
        f"maxmemory-policy is {policy}: a full server evicts live sessions and index entries",
        "set maxmemory-policy to noeviction",
    )


def _memory(info: Info) -> list[Finding]:
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if not most:
        return []
    found = f"{used} of {most} bytes"
    if used < most * _NEARLY_FULL:
        return [Finding(about="memory", found=found)]
    return [problem("memory", found, "raise maxmemory, or let sessions expire earlier")]


def _persistence(info: Info) -> list[Finding]:
    failed = [
        name
        for name in ("rdb_last_bgsave_status", "aof_last_write_status")
        if info.get(name, "ok") != "ok"
    ]
    if failed:
        found = f"{' and '.join(failed)}: the last write to the disk failed"
        return [problem("persistence", found, "look into the server's log: its disk may be full")]
    if info.get("aof_enabled") == "1":
        return [Finding(about="persistence", found="append-only file")]
    found = "no append-only file: a crash loses what was written since the last snapshot"
    advice = "set appendonly to yes, unless replicas or the provider keep the data"
    return [Finding(about="persistence", found=found, mend=advice)]
