"""Programs that no Python wheel provides: servers and tools of the machine.

If one is missing, a developer's run skips its tests and says so; a CI run, which installs them,
fails.
"""

from __future__ import annotations

import os
import shutil

import pytest

_MORE_PLACES = "/usr/sbin:/usr/local/sbin"


def program(name: str, *, package: str) -> str:
    """Return the path of a program that Debian has in ``package``."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_MORE_PLACES}")
    if found is None:
        message = f"{name} is not on this machine: apt-get install {package}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found
