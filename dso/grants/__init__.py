"""What the project in a directory may have, of the local vault and of DSO's own settings, as the user granted it.

`store` keeps the grants, `coverage` says which of them count for a directory. Command line and configuration use both.
"""
