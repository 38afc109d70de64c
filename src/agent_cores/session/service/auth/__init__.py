"""Who is calling: API keys, tokens, and how often one may."""
