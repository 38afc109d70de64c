"""``python -m agent_cores.session.cli``."""

from __future__ import annotations

from agent_cores.session.cli.main import main

main()
