"""What ``agent-sessions doctor`` examines: names, values, versions, extras, storage, keys."""

from __future__ import annotations

import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version
from typing import TYPE_CHECKING

from agent_cores.session.cli.migrate import without_schema
from agent_cores.session.cli.unknown_names import has_service_links
from agent_cores.session.errors import (
    ConfigurationError,
    MissingDependencyError,
    QuotaExceededError,
    SessionError,
    StorageUnavailableError,
    StoreFormatError,
)
from agent_cores.session.manager import SessionManager, choose_storage
from agent_cores.session.models.times import utc_now
from agent_cores.session.service.components import key_stores
from agent_cores.session.service.settings import ServiceSettings
from agent_cores.session.settings import SessionSettings, unknown_settings
from agent_cores.session.storage.findings import Finding, problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent_cores.session.storage.base import StorageProvider

_PACKAGE = "agent-cores-session"
_EXTRAS = ("client", "metrics", "mysql", "otel", "postgres", "redis", "service")
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+).*\bextra == ['\"]([a-z-]+)['\"]")


async def examine(storage: str | None) -> list[Finding]:
    """Return everything that was found. Tables are checked, never altered."""
    found = [*_names(), _versions(), _extras()]
    try:
        settings = SessionSettings.load()
        service = ServiceSettings.load()
    except ConfigurationError as error:
        return [*found, problem("settings", str(error), "correct this value")]
    found += _missing_for(service)
    try:
        found += await _storage(storage, settings, service)
    except (SessionError, OSError) as error:
        found.append(_failure(error, settings))
    return found


def _names() -> Iterator[Finding]:
    for one in unknown_settings():
        mend = f"write {one.near}" if one.misspelt else "remove it, if it is meant for this program"
        ours = one.misspelt or one.name.startswith("SESSION_SERVICE_")
        yield Finding(about="unknown name", found=str(one), mend=mend, is_problem=ours)
    if has_service_links():
        yield problem(
            "Kubernetes",
            "a Service is named session, so SESSION_SERVICE_HOST and _PORT hold its address",
            "set enableServiceLinks: false in the pod, or name the Service otherwise",
        )


def _versions() -> Finding:
    found = f"{_PACKAGE} {version(_PACKAGE)}, Python {platform.python_version()}"
    return Finding(about="versions", found=f"{found}, {platform.system()} {platform.machine()}")


def _extras() -> Finding:
    """Return which extras are installed, and what the others lack."""
    missing: dict[str, list[str]] = {extra: [] for extra in _EXTRAS}
    for requirement in requires(_PACKAGE) or ():
        match = _REQUIREMENT.match(requirement)
        if match is not None and match[2] in missing and not _is_installed(match[1]):
            missing[match[2]].append(match[1])
    there = ", ".join(extra for extra, packages in missing.items() if not packages)
    lacking = [f"{extra} (lacks {', '.join(lacks)})" for extra, lacks in missing.items() if lacks]
    rest = f"; not installed: {', '.join(lacking)}" if lacking else ""
    return Finding(about="extras", found=f"{there or 'none'}{rest}")


def _missing_for(service: ServiceSettings) -> Iterator[Finding]:
    """Return what is switched on and not installed."""
    for wanted, setting, package, extra in (
        (service.metrics_port is not None, "METRICS_PORT", "prometheus-client", "metrics"),
        (service.tracing, "TRACING", "opentelemetry-api", "otel"),
        (service.otel_metrics, "OTEL_METRICS", "opentelemetry-api", "otel"),
    ):
        if wanted and not _is_installed(package):
            found = f"SESSION_SERVICE_{setting} is set, and {package} is not installed"
            yield problem("extras", found, f"pip install '{_PACKAGE}[{extra}]'")


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


async def _storage(
    storage: str | None, settings: SessionSettings, service: ServiceSettings
) -> list[Finding]:
    chosen, reason = choose_storage(storage, settings)
    url = without_schema(str(chosen))
    if url.lower().startswith(("http://", "https://")):
        address = f"the address of a service ({reason})"
        return [Finding(about="storage", found=address, mend="run doctor where the service runs")]
    checked = SessionSettings.load(schema="check", cleanup_interval=0)
    manager = SessionManager(url, settings=checked)
    provider = manager.runtime.storage
    where = f"{provider.describe()} ({reason})"
    await provider.initialize()
    found: list[Finding] = []
    try:
        for step in (
            _use(where, provider),
            _clock(provider, settings.max_clock_skew),
            provider.inspect(),
            _keys(manager, service),
        ):
            try:
                found += await step
            except (SessionError, OSError) as error:  # the next one may say why
                found.append(_failure(error, settings))
    finally:
        await provider.shutdown()
    return found


async def _use(where: str, provider: StorageProvider) -> list[Finding]:
    """Read and write something that no caller sees."""
    await provider.check()
    found = f"{where}: can be read and written"
    if provider.capabilities.durable:
        return [Finding(about="storage", found=found)]
    advice = "set SESSION_STORAGE_URL, unless sessions may go with the process"
    return [Finding(about="storage", found=f"{found}; forgets with the process", mend=advice)]


async def _clock(provider: StorageProvider, most: float) -> list[Finding]:
    """Compare this machine's clock with the store's; a round trip is no difference."""
    before = utc_now()
    theirs = await provider.store_time()
    after = utc_now()
    if theirs is None:
        return [Finding(about="clock", found="the store has none; this machine's counts")]
    late, early = (theirs - before).total_seconds(), (theirs - after).total_seconds()
    seconds = early if early > 0 else late if late < 0 else 0.0
    found = f"{seconds:+.1f} s from this machine's to the store's"
    if abs(seconds) <= most:
        return [Finding(about="clock", found=found)]
    return [problem("clock", found, "synchronize both clocks, for instance by NTP")]


async def _keys(manager: SessionManager, service: ServiceSettings) -> list[Finding]:
    """Count who can call the service."""
    at = utc_now()
    kept = await key_stores(manager, service)[0].all()
    valid = sum(not key.is_expired(at) for key in kept)
    found = f"{valid} valid, {len(kept) - valid} expired; {len(service.jwt_issuers)} issuers"
    advice = None if valid or service.jwt_issuers else "agent-sessions keys create NAME"
    return [Finding(about="keys", found=found, mend=advice)]


def _failure(error: SessionError | OSError, settings: SessionSettings) -> Finding:
    """Return why the storage cannot be used, and what to do."""
    found = str(error)
    if isinstance(error, StoreFormatError) and "agent-sessions migrate" in found:
        if settings.schema == "apply":
            mend = "nothing: the next start of a manager or service prepares the tables"
            return Finding(about="storage", found=found, mend=mend)
        return problem("storage", found, "agent-sessions migrate, as a user who may alter tables")
    if isinstance(error, MissingDependencyError):
        return problem("extras", found, "install it in this program's environment")
    if isinstance(error, QuotaExceededError):
        return problem("storage", found, "make room in the store, or let sessions expire earlier")
    if isinstance(error, StorageUnavailableError | OSError):
        mend = "start the store, or correct address, user, password or TLS in the storage URL"
        return problem("storage", found, mend)
    return problem("storage", found, "correct the setting or the store that the message names")
