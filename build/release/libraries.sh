#!/bin/bash
# Compile the libraries that the release interpreter holds, to be linked into it: zlib, libffi, expat, OpenSSL.
#
#   libraries.sh SOURCES DIRECTORY     headers and archives go to DIRECTORY/usr/{include,lib}
#
# interpreter.sh calls this, and sets up the compiler.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=build/release/common.sh
. "$here/common.sh"

sources=$1 result=$2
# by its name alone: OpenSSL keeps how it was compiled
# CXXCPP: none of it is C++, but libtool asks how to preprocess that, and without g++ the system's cpp does not know
export PATH=$here:$PATH CC=zcc.sh CXX=false CXXCPP="zcc.sh -E" AR=ar RANLIB=ranlib
# hidden: what is linked into a module is nobody else's, for another OpenSSL or zlib may be in the same process
export CFLAGS="-O3 -fPIC -fvisibility=hidden"
jobs=-j$(nproc)

# libffi and expat come without their configure
for file in /usr/bin/autoreconf /usr/bin/automake /usr/bin/libtoolize /usr/share/aclocal/ltdl.m4; do
    [ -e "$file" ] || apt_install "$file is missing" autoconf automake libtool libltdl-dev
done

zlib() {
    cd "$sources/zlib"
    ./configure --static --prefix=/usr
    make "$jobs" libz.a
    make install DESTDIR="$result"
}

libffi() {
    cd "$sources/libffi"
    autoreconf -i
    ./configure -q --prefix=/usr --libdir=/usr/lib --host="$arch-linux-gnu" --disable-shared --with-pic --disable-docs \
        --disable-multi-os-directory --disable-exec-static-tramp
    make "$jobs"
    make install DESTDIR="$result"
}

expat() {
    cd "$sources/expat/expat"
    autoreconf -i
    ./configure -q --prefix=/usr --libdir=/usr/lib --host="$arch-linux-gnu" --disable-shared --with-pic --without-docbook \
        --without-xmlwf --without-examples --without-tests
    make "$jobs"
    make install DESTDIR="$result"
}

# What TLS 1.2 and 1.3 and Python's hashlib take; not what nobody should use any more.
openssl() {
    cd "$sources/openssl"
    local without="shared tests docs apps engine legacy ssl3 dtls srp psk idea camellia seed rc2 bf cast md4 mdc2 rmd160
        whirlpool sm2 sm3 sm4 gost cmp cms ts ct quic" options=() name
    for name in $without; do options+=("no-$name"); done
    ./Configure "linux-$arch" "${options[@]}" --prefix=/usr --libdir=lib --openssldir=/etc/ssl
    make "$jobs" build_libs
    make install_dev DESTDIR="$result"
}

# All at once: each has its moments when only one processor is busy.
running=()
for library in openssl libffi expat zlib; do
    ("$library") &
    running+=($!)
done
for process in "${running[@]}"; do wait "$process"; done
