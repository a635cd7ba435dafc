"""Replaces the hook of PyInstaller's collection, which is for running in a browser."""
