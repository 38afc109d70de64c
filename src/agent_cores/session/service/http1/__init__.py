"""HTTP/1.1 as ``agent-sessions serve`` implements it: heads, bodies and connection limits."""
