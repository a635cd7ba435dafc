#!/bin/bash
# What the tests drive besides Docker: an SSH server for DOCKER_HOST=ssh://, an emulator for the keeper's program of
# another processor, shells to press TAB in, what checks man pages, what counts instructions. Installs what is missing,
# as root on Debian; elsewhere it says what to install.
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
need strace strace
need valgrind valgrind
need unshare util-linux
need mandoc mandoc
need groff groff-base
need zsh zsh
need fish fish
[ -r /usr/share/bash-completion/bash_completion ] || missing+=(bash-completion) # Docker's script for bash needs it
need ip iproute2
need shellcheck shellcheck
need dash dash
need busybox busybox-static
need setpriv util-linux
need openssl openssl
need dpkg-source dpkg-dev

# Root's agents run plugins as these users, as on every machine that DSO is installed on.
[ "$(id -u)" != 0 ] || "$here/plugin-users.sh"
[ "${#missing[@]}" != 0 ] || exit 0

# The tests start a server of their own, on loopback: Debian's must not run here because of them, now or after a boot.
policy=/usr/sbin/policy-rc.d
if [ "$(id -u)" = 0 ] && [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
apt_install "the tests need more programs" "${missing[@]}"
case " ${missing[*]} " in
    *" openssh-server "*) systemctl disable ssh.service ssh.socket >/dev/null 2>&1 || true ;;
esac
