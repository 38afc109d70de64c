"""Types are prepared for decoding at import: msgspec crashes if several threads are the first."""

from __future__ import annotations

import ast
from pathlib import Path

import agent_cores.session

PACKAGE = Path(agent_cores.session.__file__).parent
IN_ONE_THREAD = {"cli", "frameworks", "service", "testing"}
PREPARED = {"str", "dict"}  # what msgspec decodes without preparing a type


def test_no_type_is_prepared_by_the_first_call_that_decodes_it() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{call.lineno}"
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] not in IN_ONE_THREAD
        for call in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(("decode", "convert"))
        for keyword in call.keywords
        if keyword.arg == "type" and ast.unparse(keyword.value).partition("[")[0] not in PREPARED
    ]
    assert found == []
