"""The agent: it repeats what it is asked."""

from agent_cores.session.examples.google_adk_agent import echo_agent

root_agent = echo_agent()
