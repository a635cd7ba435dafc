"""The daemon of Cloud Mode: it asks the providers, remembers in memory, answers the command line and the Engine."""
