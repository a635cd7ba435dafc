"""Replaces the hook of PyInstaller's collection, which takes the models of every service: see ../aws_data.py."""
