"""Reading a Compose model and building the override."""
