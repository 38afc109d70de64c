"""The service's own OpenAPI document, and the page that shows it."""
