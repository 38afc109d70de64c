"""The limits in the description: those of the settings, instead of the defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_cores.session.models.limits import DEFAULT_LIMITS
from agent_cores.session.wire.shapes import ID_SCHEMA, NAME_SCHEMA

if TYPE_CHECKING:
    from agent_cores.session.models.limits import Limits

_NAMES = {NAME_SCHEMA["pattern"], ID_SCHEMA["pattern"]}
_PAGES = {"limit", "message_limit"}
_USER_LENGTH = f"{{1,{DEFAULT_LIMITS.name_bytes}}}"


def set_bounds(document: dict[str, Any], limits: Limits) -> None:
    """Set the limits of names, pages and appends wherever the description contains them."""
    schemas = document["components"]["schemas"]
    for name in ("AppendMessages", "CreateSession", "ReplaceMessages"):
        schemas[name]["properties"]["messages"]["maxItems"] = limits.append_messages
    for name in ("ids", "seqs"):
        for choice in schemas["DeleteMessages"]["properties"][name]["anyOf"]:
            if choice.get("type") == "array":
                choice["maxItems"] = limits.page_items
    schemas["PopMessages"]["properties"]["count"]["maximum"] = limits.page_items
    for part in _parts(document):
        if part.get("pattern") in _NAMES:
            part["maxLength"] = limits.name_bytes
        elif _is_page_size(part):
            part["schema"] = {**part["schema"], "maximum": limits.page_items}
        elif part.get("name") == "X-User-Id" and part.get("in") == "header":
            pattern = part["schema"]["pattern"].replace(_USER_LENGTH, f"{{1,{limits.name_bytes}}}")
            part["schema"] = {**part["schema"], "pattern": pattern}


def _is_page_size(part: dict[str, Any]) -> bool:
    if part.get("name") not in _PAGES or part.get("in") != "query":
        return False
    most: int = part["schema"]["maximum"]
    return most == DEFAULT_LIMITS.page_items  # OpenAI's own limit is another


def _parts(node: object) -> list[dict[str, Any]]:
    """Yield every object in a JSON value."""
    if isinstance(node, list):
        return [part for item in node for part in _parts(item)]
    if isinstance(node, dict):
        return [node, *(part for item in node.values() for part in _parts(item))]
    return []
