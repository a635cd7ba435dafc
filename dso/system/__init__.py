"""What DSO needs from the operating system."""
