#!/bin/bash
# What the tests drive besides Docker: an SSH server for DOCKER_HOST=ssh://, an emulator for the keeper's program of
# another processor. Installs what is missing, as root on Debian; elsewhere it says what to install.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=build/machine/debian.sh
. "$here/debian.sh"

missing=()
# need COMMAND PACKAGE: servers are outside an ordinary user's PATH
need() { PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null || missing+=("$2"); }

need sshd openssh-server
need ssh openssh-client
need qemu-aarch64-static qemu-user-static
need mkfs.ext4 e2fsprogs
need ps procps
need unshare util-linux
need ip iproute2
[ "${#missing[@]}" = 0 ] || apt_install "the tests need more programs" "${missing[@]}"
