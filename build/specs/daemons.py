"""What the binaries of the agent and of the providers' plugins have in common: they start once and run for long."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
from dso.entry.daemon import CODECS as _LOADED_AT_START

CODECS = [f"encodings.{name}" for name in _LOADED_AT_START]

# Occasional imports of the standard library's and of others', for what no daemon does.
EXCLUDES = [
    *["tkinter", "turtle", "idlelib", "lib2to3", "distutils", "ensurepip", "venv", "test", "unittest", "doctest"],
    *["pdb", "bdb", "cmd", "code", "codeop", "pydoc", "pydoc_data", "readline", "rlcompleter", "curses", "_curses"],
    *["multiprocessing", "concurrent.futures.process", "sqlite3", "dbm", "xmlrpc", "ftplib", "smtplib", "webbrowser"],
    *["setuptools", "pkg_resources", "pip", "PyInstaller", "pytest", "_pytest", "mypy", "hypothesis"],
    *["OpenSSL", "cryptography", "brotli", "brotlicffi", "zstandard", "socks", "h2", "js", "pyodide", "simplejson"],
    # for other systems, servers and interpreters
    *["asyncio.windows_events", "asyncio.windows_utils", "dateutil.tz.win", "encodings.mbcs", "nturl2path"],
    *["urllib3.contrib.emscripten", "urllib3.contrib.pyopenssl", "urllib3.http2.connection", "aiohttp.worker"],
    *["botocore.crt.auth"],
]
