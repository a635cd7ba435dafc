#!/bin/bash
# The C compiler and linker of the release interpreter: zig's clang, with the headers and symbols of an old glibc.
# $ZIG_BINARY is zig, $ZIG_TARGET the machine, as x86_64-linux-gnu.2.28, and $ZIG_SOURCES a directory that the result
# says nothing of.
#
# Its linker knows no -h, which is -soname. What a release has no use for and zig gives by itself: debugging information,
# checks for undefined behaviour, an error where a program is told its date (SOURCE_DATE_EPOCH says which).
arguments=()
for argument in "$@"; do
    case $argument in
        -Wl,-h*) arguments+=("-Wl,-soname,${argument#-Wl,-h}") ;;
        -g) ;;
        *) arguments+=("$argument") ;;
    esac
done
exec "$ZIG_BINARY" cc -target "$ZIG_TARGET" -g0 -ffile-prefix-map="$ZIG_SOURCES=" -fno-sanitize=undefined \
    -Wno-date-time "${arguments[@]}"
