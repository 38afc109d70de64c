"""Benchmarks of `agent_cores.session` beside the raw driver and its peers; not shipped."""
