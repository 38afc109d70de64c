"""An agent for ``adk api_server`` that answers without a network."""
