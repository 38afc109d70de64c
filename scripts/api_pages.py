"""Write the API reference for the site, from signatures and docstrings.

The pages are made at each build, so they cannot differ from the code. A public name that is on no
page fails the build.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import griffe

from scripts.api_names import BRIEF, ELSEWHERE, PACKAGE, PAGES, PUBLIC

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOLDER = "docs/api"
WIDTH = 88


def names() -> set[str]:
    """Return the pages' paths."""
    return {f"{FOLDER}/{page}.md" for page in PAGES}


def write(root: Path) -> list[str]:
    """Write the pages below a folder; return what is wrong with them."""
    loaded = griffe.load(PACKAGE, submodules=True)
    assert isinstance(loaded, griffe.Module)
    placed = {name for _, _, members in PAGES.values() for name in members}
    faults = [f"scripts/api_names.py: {name} is on no page" for name in missing(loaded, placed)]
    for page, (title, about, members) in PAGES.items():
        documented: set[str] = set()
        parts = [f"# {title}\n\n{about}\n"]
        for name in members:
            thing = original(loaded[name])
            if not thing.docstring:
                faults.append(f"{name} has no docstring")
            parts.append(section(thing, name, documented))
            documented.add(thing.path)
        file = root / FOLDER / f"{page}.md"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(parts), encoding="utf-8")
    return faults


def missing(loaded: griffe.Module, placed: set[str]) -> list[str]:
    """Return the public names that no page has."""
    every = set()
    for module in PUBLIC:
        found = loaded[module] if module else loaded
        prefix = f"{module}." if module else ""
        every |= {f"{prefix}{name}" for name in found.exports or ()}
    paths = {original(loaded[name]).path for name in placed}
    return sorted(
        name for name in every - placed - ELSEWHERE if original(loaded[name]).path not in paths
    )


def section(thing: griffe.Object, name: str, documented: set[str]) -> str:
    """Return the section of a class, function or constant."""
    place, _, short = f"{PACKAGE}.{name}".rpartition(".")
    title = name.removeprefix("integrations.") if "integrations." in name else short
    text = f"## {title} {{ #{title} }}\n\n{code(f'from {place} import {short}')}{prose(thing)}"
    if isinstance(thing, griffe.Function):
        return text + signature(thing, short)
    if not isinstance(thing, griffe.Class):
        return text
    methods = [*public_methods(thing, documented)]
    if short in BRIEF:
        return text + code("\n".join(line(method, method.name) for method in methods))
    start = thing.all_members.get("__init__")
    if isinstance(start, griffe.Function | griffe.Alias) and PACKAGE in start.canonical_path:
        text += signature(original(start), short)
    text += fields(thing)
    for method in methods:
        text += f"### {method.name} {{ #{title}.{method.name} }}\n\n"
        text += signature(method, method.name) + prose(method)
    return text


def public_methods(thing: griffe.Class, documented: set[str]) -> Iterator[griffe.Object]:
    """Yield methods and properties, inherited ones too unless their class has a section."""
    known = {
        name
        for base in thing.mro()
        if base.path in documented
        for name in (*base.members, *base.inherited_members)
    }
    inherited = {
        name: found for name, found in thing.inherited_members.items() if name not in known
    }
    for name, found in (thing.members | inherited).items():
        member = original(found)
        if name.startswith(("_", "test_", "pytest_")):
            continue
        if isinstance(member, griffe.Function) or "property" in member.labels:
            yield member


def original(found: griffe.Object | griffe.Alias) -> griffe.Object:
    """Return what an inherited or imported name stands for."""
    return found.final_target if isinstance(found, griffe.Alias) else found


def fields(thing: griffe.Class) -> str:
    """Return the attributes that are stated in the class, with what their docstrings say."""
    in_methods = {
        number
        for method in thing.functions.values()
        for number in range(method.lineno or 0, (method.endlineno or 0) + 1)
    }
    stated = [
        member
        for name, member in thing.attributes.items()
        if not name.startswith("_")
        and "property" not in member.labels
        and member.lineno not in in_methods
    ]
    lines = [
        f"{member.name}{f': {member.annotation}' if member.annotation else ''}"
        f"{f' = {member.value}' if member.value is not None else ''}"
        for member in stated
    ]
    said = "".join(
        f"- `{member.name}`: {' '.join(markdown(member.docstring.value).split())}\n"
        for member in stated
        if member.docstring
    )
    return code("\n".join(lines)) + (f"{said}\n" if said else "")


def signature(function: griffe.Object, name: str) -> str:
    """Return a signature as a block of code, every overload of it; a property has none."""
    if not isinstance(function, griffe.Function):
        return ""
    return code("\n".join(line(each, name) for each in function.overloads or [function]))


def line(function: griffe.Object, name: str) -> str:
    """Return one signature, on several lines if it is long."""
    if not isinstance(function, griffe.Function):
        return name
    returns = f"{function.returns}" if function.returns and name == function.name else ""
    start = "async " if "async" in function.labels else ""
    if any(f"{each.value}" == "asynccontextmanager" for each in function.decorators):
        start, returns = "", returns.replace("AsyncIterator", "AbstractAsyncContextManager", 1)
    parameters = [text for text in written(function) if text not in {"self", "cls"}]
    end = f" -> {returns}" if returns else ""
    whole = f"{start}{name}({', '.join(parameters)}){end}"
    if len(whole) <= WIDTH:
        return whole
    inner = "".join(f"    {parameter},\n" for parameter in parameters)
    return f"{start}{name}(\n{inner}){end}"


def written(function: griffe.Function) -> Iterator[str]:
    """Yield the parameters as one would write them."""
    has_star = False
    for parameter in function.parameters:
        kind = parameter.kind
        if kind is griffe.ParameterKind.keyword_only and not has_star:
            has_star = True
            yield "*"
        mark = ""
        if kind is griffe.ParameterKind.var_positional:
            mark, has_star = "*", True
        elif kind is griffe.ParameterKind.var_keyword:
            mark = "**"
        text = f"{mark}{parameter.name}"
        if parameter.annotation is not None:
            text += f": {parameter.annotation}"
        if parameter.default is not None and not mark:
            text += f" = {parameter.default}" if parameter.annotation else f"={parameter.default}"
        yield text


def code(text: str) -> str:
    """Return a block of code."""
    return f"```python\n{text}\n```\n\n" if text else ""


def prose(thing: griffe.Object) -> str:
    """Return a docstring as Markdown."""
    return f"{markdown(thing.docstring.value)}\n\n" if thing.docstring else ""


def markdown(text: str) -> str:
    """Return a docstring's roles and literals as Markdown."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
    return text.replace("``", "`").strip()
