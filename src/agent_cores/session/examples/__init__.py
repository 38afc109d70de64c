"""Examples. Each runs as it stands: ``python -m agent_cores.session.examples.main``."""
