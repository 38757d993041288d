"""The HTML report of a validation."""
