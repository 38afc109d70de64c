"""Benchmarks of `agent_cores.session` against the raw driver and its peers; not shipped."""
