"""Adapters: the session and storage interfaces of agent frameworks, on a ``SessionManager``.

Each interface has a folder of its own, which exports its public names and says what its files
are. An adapter translates between a framework's terms and ours; how it stores what it is given is
in ``layouts``. What several of them need is beside the folders.
"""
