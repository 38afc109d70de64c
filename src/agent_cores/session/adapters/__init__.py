"""Adapters: the session and storage interfaces of agent frameworks, on a ``SessionManager``.

Each framework has a module of its own and an extra of the same name. An adapter translates between
a framework's terms and ours. What several of them need stands in ``ids``, ``owner``, ``reading``
and ``refusals``.
"""
