"""One log line per request, written without blocking the event loop."""
