"""What the service and its client share: the shapes of bodies, and the table of errors."""
