"""One request: its headers, its body and what holds for it."""
