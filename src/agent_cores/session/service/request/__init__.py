"""One request: its headers, its body and its limits."""
