"""OpenAI's Conversations on sessions: items as messages, metadata, and errors in OpenAI's shape."""
