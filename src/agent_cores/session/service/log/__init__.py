"""One line a request, written without blocking the event loop."""
