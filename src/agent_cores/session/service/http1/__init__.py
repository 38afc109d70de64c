"""HTTP/1.1 as ``agent-sessions serve`` speaks it: heads, bodies, and what bounds a connection."""
