#!/bin/sh
# Compile the program at the head of every frozen binary, with an interpreter linked in.
#
#   compile.sh PYTHON OUTPUT
#
# PYTHON is the interpreter that freezes, which comes with its header files and as a static library; CC the compiler.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
python=$1 output=$2

# Debian has one library for programs that are loaded anywhere in memory, and one for others.
found=$("$python" -c '
import os, sysconfig
libraries = os.path.join(sysconfig.get_path("stdlib"), os.path.basename(sysconfig.get_config_var("LIBPL")))
library = os.path.join(libraries, sysconfig.get_config_var("LIBRARY"))
independent = library.removesuffix(".a") + "-pic.a"
print(sysconfig.get_path("include"), independent if os.path.exists(independent) else library)

# What it is linked with goes in as well, but for the C library itself. A path is where that was when the interpreter
# was built, and it has been kept beside it.
system = {"-lm", "-ldl", "-lpthread", "-lutil"}
for word in dict.fromkeys((sysconfig.get_config_var("MODLIBS") or "").split()):
    if word.endswith(".a"):
        print(os.path.join(libraries, os.path.basename(word)))
    elif word.startswith("-l") and word not in system:
        print(f"-l:lib{word[2:]}.a")')
# shellcheck disable=SC2086  # a list of words
set -- $found
headers=$1 library=$2
shift 2

# The interpreter whole, and visible to extension modules. All that is hardening, as distributions have it.
${CC:-cc} -std=gnu11 -O2 -Wall -Wextra -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fPIE -pie -s -I"$headers" \
    "$here"/*.c -o "$output" -Wl,-z,relro,-z,now -Wl,--export-dynamic \
    -Wl,--whole-archive "$library" -Wl,--no-whole-archive "$@" -Wl,--as-needed -lm -ldl -lpthread -lutil
