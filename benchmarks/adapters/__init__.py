"""Adapters of frameworks on our stores, in the peers' environment beside the frameworks' own."""
