"""Replaces the hook of PyInstaller's collection, which takes all of cryptography: what DSO imports is enough.

`_rust.abi3.so` imports these itself, which no analysis of Python code can see.
"""

hiddenimports = ["_cffi_backend", "cryptography.exceptions"]
