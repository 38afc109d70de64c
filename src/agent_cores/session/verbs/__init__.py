"""The verbs of ``SessionManager``, one module a topic. Use them through the manager."""
