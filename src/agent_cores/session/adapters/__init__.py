"""Adapters: the session and storage interfaces of agent frameworks, on a ``SessionManager``.

Each interface has a folder of its own, which hands on its public names and tells what its files
are. An adapter translates between a framework's terms and ours; how it stores what it is given is
in ``layouts``. What several of them need stands beside the folders.
"""
