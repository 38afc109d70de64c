"""How adapters store what their frameworks keep: ids, roles, marks, pieces.

An import of a framework's own store writes the same, and the framework need not be installed for
it. So nothing here imports one.
"""
