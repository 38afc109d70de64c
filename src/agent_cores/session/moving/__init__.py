"""Whole sessions on the move: to a file and back, and from store to store.

Works on storage providers, below access rules: who may do it is for its callers to decide.
"""
