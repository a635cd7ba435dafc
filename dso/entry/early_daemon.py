"""The first Python code of a frozen daemon: what `dso.entry.early` is for the command line, without Docker's question.

The same rules apply: only built-in and frozen modules can be imported.
"""

import sys
from _signal import SIG_DFL, SIGINT, default_int_handler, getsignal, signal  # type: ignore[import-not-found]

from dso.entry.lazy import install

# Until the launcher can deal with ^C it just ends the process; the boot loader would print a traceback.
if getsignal(SIGINT) is default_int_handler:
    signal(SIGINT, SIG_DFL)

# The archive answers for all modules but the codecs, and it is asked through the last entry.
del sys.path[:-1]
install()
