#!/bin/sh
# Compile the program at the head of every frozen binary, with an interpreter linked in.
#
#   compile.sh PYTHON OUTPUT
#
# PYTHON is the interpreter that freezes, which comes with its header files and as a static library; CC the compiler.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
python=$1 output=$2

# Where its header files and its static library are, and what that is linked with. Other libraries than the C library's
# own go in as well: a path ending in .a is from where it was built, and has been kept beside it.
set -- "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')" \
    "$("$python" -c 'import os, sysconfig as s; print(os.path.join(s.get_path("stdlib"), os.path.basename(s.get_config_var("LIBPL"))))')" \
    "$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("LIBRARY"))')"
headers=$1 libraries=$2 library=$3
linked=$("$python" -c '
import os, sys, sysconfig
directory, system = sys.argv[1], {"-lm", "-ldl", "-lpthread", "-lutil"}
for word in dict.fromkeys((sysconfig.get_config_var("MODLIBS") or "").split()):
    if word.endswith(".a"):
        print(os.path.join(directory, os.path.basename(word)))
    elif word.startswith("-l") and word not in system:
        print(f"-l:lib{word[2:]}.a")' "$libraries")

# Not position-independent: it starts without relocations. The interpreter whole, and visible to extension modules.
# shellcheck disable=SC2086  # lists of words
${CC:-cc} -O2 -Wall -Wextra -fno-pie -no-pie -s -I"$headers" "$here"/*.c -o "$output" -Wl,--export-dynamic \
    -Wl,--whole-archive "$libraries/$library" -Wl,--no-whole-archive $linked -Wl,--as-needed -lm -ldl -lpthread -lutil
