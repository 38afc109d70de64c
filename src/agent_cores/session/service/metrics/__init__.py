"""What the service counts and measures, and the listener that Prometheus reads."""
