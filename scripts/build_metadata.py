"""What the package index shows: the README and the addresses of the project.

Hatchling calls this when it builds. ``PROJECT_ADDRESS`` is the address of the repository, which
only a release knows. The relative links of the README then lead there, to the tag of the version:
the index has the text and no other file.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"\]\((?![a-z]+:|#)([^)]+)\)")
PICTURE = re.compile(r'\b(src|srcset)="(?![a-z]+:)([^"]+)"')


class ProjectMetadata(MetadataHookInterface):
    """Fill in the fields that ``pyproject.toml`` calls dynamic."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set ``readme``, and ``urls`` if the address is known."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        address, tag = os.environ.get("PROJECT_ADDRESS", ""), f"v{metadata['version']}"
        if address:
            text = LINK.sub(rf"]({address}/blob/{tag}/\1)", text)
            text = PICTURE.sub(rf'\1="{address}/raw/{tag}/\2"', text)
            metadata["urls"] = {
                "Repository": address,
                "Documentation": f"{address}/tree/{tag}/docs",
                "Changelog": f"{address}/blob/{tag}/CHANGELOG.md",
                "Issues": f"{address}/issues",
            }
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
