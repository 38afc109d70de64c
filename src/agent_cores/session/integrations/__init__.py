"""A manager in a web framework: how it starts, how errors are reported, how replies are saved.

One module per framework: ``fastapi``, ``flask``, ``django``. Each needs the framework of its name.
"""
