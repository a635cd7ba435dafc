"""The local vault."""
