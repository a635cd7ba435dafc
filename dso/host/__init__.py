"""This machine: setting up Cloud Mode on it, and examining what is wrong with it."""
