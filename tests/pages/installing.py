"""Stands in for ``pip`` on the pages: every extra that is named must be one of the package."""

from __future__ import annotations

import re
import sys
from importlib.metadata import metadata


def main() -> None:
    """Exit with 1 if an extra is not one of ours."""
    extras = set(metadata("agent-cores-session").get_all("Provides-Extra") or ())
    assert sys.argv[1] == "install"
    for wanted in sys.argv[2:]:
        found = re.fullmatch(r"agent-cores-session\[([\w,-]+)\]", wanted)
        unknown = set(found[1].split(",")) - extras if found else set()
        if unknown:
            sys.exit(f"no extra of the package: {', '.join(unknown)}")


if __name__ == "__main__":
    main()
