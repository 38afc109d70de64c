"""The stores of agent frameworks, read and written here as sessions that our adapters understand.

A reader yields the sessions of one kind of store, one writer writes them. No framework need be
installed, except where a module says so. A source is only read.
"""
