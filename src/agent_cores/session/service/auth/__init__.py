"""Who is calling: API keys, tokens and rate limits."""
