"""A manager with its own event loop in a thread, and how other loops and threads call it."""

from agent_cores.session.portal.portal import Portal

__all__ = ["Portal"]
