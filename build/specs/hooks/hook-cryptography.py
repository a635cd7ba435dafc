"""Nothing beyond what is imported."""
