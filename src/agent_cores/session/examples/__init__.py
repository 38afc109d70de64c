"""Examples. Each runs without changes: ``python -m agent_cores.session.examples.main``."""
