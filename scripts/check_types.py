"""Check that an editor knows the type of every name that the package exports.

``basedpyright --verifytypes``: pyright, in a wheel that brings its own Node.js. It also checks
``typing_tests``, which mypy checks too: what is refused there has to be refused by both.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "agent_cores.session"
OF_FRAMEWORKS = {
    f"{PACKAGE}.{name}"
    for name in (
        "adapters.claude_agent_sdk.ClaudeSessionStore",
        "adapters.claude_agent_sdk.store.ClaudeSessionStore",
        "adapters.google_adk.ADKSessionService",
        "adapters.google_adk.service.ADKSessionService",
        "adapters.google_adk.service_of",
        "adapters.google_adk.service.service_of",
        "adapters.langgraph.SessionSaver",
        "adapters.langgraph.saver.SessionSaver",
        "adapters.langgraph.blocking.BlockingMethods",
        "adapters.langgraph_store.SessionStore",
        "adapters.langgraph_store.store.SessionStore",
        "adapters.pydantic_ai.SessionConversationStore",
        "adapters.pydantic_ai.store.SessionConversationStore",
        "examples.google_adk_agent.Echo",
    )
}
"""Their base classes belong to agent frameworks, which are in environments of their own."""


def main() -> int:
    """Check the exported names and the typing tests; return the exit status."""
    tests = _pyright("--project", str(ROOT / "typing_tests"))
    print(tests.stdout or tests.stderr, end="")
    return _check_exported_names() or tests.returncode


def _pyright(*arguments: str) -> subprocess.CompletedProcess[str]:
    scripts = Path(sys.executable).parent
    # It looks for packages beside the python that it finds in PATH; --pythonpath is not heeded.
    path = f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}"
    return subprocess.run(
        [str(scripts / "basedpyright"), *arguments],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def _check_exported_names() -> int:
    """Print each exported name without a known type; return the exit status."""
    ran = _pyright("--verifytypes", PACKAGE, "--ignoreexternal", "--outputjson")
    report = json.loads(ran.stdout)["typeCompleteness"]
    exported = [symbol for symbol in report["symbols"] if symbol["isExported"]]
    unknown = {
        symbol["name"]: symbol["diagnostics"]
        for symbol in exported
        if not symbol["isTypeKnown"] or symbol["isTypeAmbiguous"]
    }
    for name in sorted(unknown.keys() - OF_FRAMEWORKS):
        print(f"{name}: {unknown[name][0]['message'] if unknown[name] else 'unknown type'}")
    for name in sorted(OF_FRAMEWORKS - unknown.keys()):
        print(f"{name}: its type is known; take it off the list in {Path(__file__).name}")
    print(f"{len(exported)} exported names, {len(unknown.keys() - OF_FRAMEWORKS)} of unknown type")
    return int(not exported or unknown.keys() != OF_FRAMEWORKS)


if __name__ == "__main__":
    sys.exit(main())
