"""Replaces the hook of PyInstaller's collection, which takes a copy of the time zone database: botocore speaks UTC."""
