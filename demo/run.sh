#!/bin/bash
# DSO from nothing to nothing, on the real Docker Engine; `make demo` prepares what it needs and runs it.
#
# Every command is printed before it runs. A check that does not hold ends the demo with exit code 1. It
# works in a HOME of its own, touches only the project dso-demo, and removes both at the end; what an
# interrupted run left is removed first.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
plugin=$here/../dist/bin/docker-dso
project=dso-demo
scratch=${TMPDIR:-/tmp}/dso-demo-$(id -u)
in_ram=/dev/shm/dso-demo-$(id -u)

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$(printf '\033[1m') green=$(printf '\033[32m') red=$(printf '\033[31m') plain=$(printf '\033[0m')
else
    bold='' green='' red='' plain=''
fi
number=0
title() { number=$((number + 1)) && printf '\n%s%s. %s%s\n' "$bold" "$number" "$*" "$plain"; }
show() { printf '\n%s$ %s%s\n' "$bold" "$1" "$plain" && eval "$1"; }
ok() { printf '  %s✓%s %s\n' "$green" "$plain" "$*"; }
fail() { printf '  %s✗ %s%s\n' "$red" "$*" "$plain" && exit 1; }
same() { if [ "$1" = "$2" ]; then ok "$3"; else fail "$3: expected $2, got $1"; fi; }

# What Docker has of the project, a line each: Compose labels its own, DSO its keeper and volumes.
remains() {
    local label
    for label in com.docker.compose.project io.dso.project; do
        docker ps -a --filter "label=$label=$project" --format 'container {{.Names}}'
        docker volume ls --filter "label=$label=$project" --format 'volume {{.Name}}'
        docker network ls --filter "label=$label=$project" --format 'network {{.Name}}'
    done | sort -u
}

remove_all() {
    local kind name
    remains | sort | while read -r kind name; do # containers first: they hold the others
        case $kind in
            container) docker rm -f -v "$name" ;;
            *) docker "$kind" rm "$name" ;;
        esac
    done >/dev/null
    rm -rf "$scratch" "$in_ram"
}

# A HOME of its own, with the plugins and the Engine that `docker` has in the real one.
enter_scratch_home() {
    local host plugins=${DOCKER_CONFIG:-$HOME/.docker}/cli-plugins
    host=$(docker context inspect --format '{{.Endpoints.docker.Host}}')
    [ "$host" = unix:///var/run/docker.sock ] || export DOCKER_HOST=$host
    unset DOCKER_CONTEXT DOCKER_CONFIG ${!DSO_*} ${!COMPOSE_*}
    mkdir -m 0700 "$scratch" "$in_ram"
    mkdir -p "$scratch/.docker/cli-plugins"
    [ ! -d "$plugins" ] || find "$plugins" -name 'docker-*' -exec ln -s {} "$scratch/.docker/cli-plugins/" \;
    ln -sf "$plugin" "$scratch/.docker/cli-plugins/docker-dso"
    export HOME=$scratch
    cd "$here"
}

digest() { sha256sum | cut -d ' ' -f 1; }
of_secret() { docker dso secret get "$1" | digest; }

# search NAME: how many files under the Engine's data root hold the secret, into $found, and how many
# there are, into $files. File systems in RAM mounted below it are left out; they are what DSO uses.
search() {
    local root pattern
    root=$(docker info --format '{{.DockerRootDir}}')
    [ -r "$root/containers" ] || fail "reading the Engine's data root $root needs root, on the Engine's machine"
    sync
    # a line from the middle stands for a secret of several lines; the pattern never reaches a disk
    pattern=$(docker dso secret get "$1" | tail -n +2 | head -n 1)
    [ -n "$pattern" ] || pattern=$(docker dso secret get "$1")
    find "$root" -xdev -type f -print0 >"$in_ram/files"
    files=$(tr -cd '\0' <"$in_ram/files" | wc -c)
    printf '%s' "$pattern" >"$in_ram/pattern"
    # a file may go away meanwhile; grep says 1 when nothing matched, xargs 123
    found=$({ xargs -0 grep -lsF -f "$in_ram/pattern" <"$in_ram/files" || true; } | wc -l)
    rm "$in_ram/files" "$in_ram/pattern"
}

[ -x "$plugin" ] || fail "dist/bin/docker-dso is missing: run \`make demo\`, or \`make binaries\` first"
remove_all
trap remove_all EXIT
enter_scratch_home
printf '%sDSO demo%s: HOME is %s, the project is %s/compose.yaml\n' "$bold" "$plain" "$HOME" "$here"

title "An encrypted vault"
show 'docker dso init'
show 'ls -l ~/.dso'

title "Secrets: generated, from standard input, from a file"
show 'docker dso secret set shop/db_password --generate'
head -c 18 /dev/urandom | base64 | tr '+/' '-_' >"$in_ram/password"
show "docker dso secret set shop/archive_password < $in_ram/password"
{ echo '-----BEGIN PRIVATE KEY-----' && head -c 1600 /dev/urandom | base64 -w 64 && echo '-----END PRIVATE KEY-----'; } \
    >"$in_ram/key.pem"
expected_key=$(digest <"$in_ram/key.pem")
show "docker dso secret set shop/tls_key --from-file $in_ram/key.pem"
rm "$in_ram/password" "$in_ram/key.pem"
show 'docker dso secret list'

title "A stack that names them"
show "grep -B 1 'dso.*://' compose.yaml"

title "One command brings it up"
show 'docker dso up -d --wait'
show 'docker compose ps --format "table {{.Service}}\t{{.Status}}"'

title "Every container has what it needs"
query='select current_user || $$ is logged in to $$ || current_database() || $$ at $$ || host(inet_server_addr())'
show "docker compose exec -T app psql -h db -U app -d shop -Atc '$query'"
show "docker compose exec -T app sh -c 'psql \"\$ARCHIVE_URL\" -Atc \"select 1\"'"
wrong=$(docker compose exec -T -e PGPASSFILE=/dev/null -e PGPASSWORD=wrong app psql -h db -U app -d shop -Atc 'select 1' 2>&1 || true)
case $wrong in
    *'password authentication failed'*) ok "PostgreSQL checks: with a wrong password there is no login" ;;
    *) fail "PostgreSQL let a wrong password in: $wrong" ;;
esac
show 'docker compose logs --no-log-prefix web'
key=$(docker compose logs --no-log-prefix web)
same "${key%% *}" "$expected_key" "web, which has no shell, read the key to the byte"
same "$(cut -d ' ' -f 3,4 <<<"$key")" '1000:1000 0400' "it belongs to the user it runs as, and nobody else may read it"

title "And nobody else does"
for name in db_password tls_key; do
    case $(docker inspect $(docker ps -aq --filter label=com.docker.compose.project=$project)) in
        *"$(docker dso secret get shop/$name | head -n 2 | tail -n 1)"*) fail "docker inspect shows $name" ;;
        *) ok "docker inspect shows nothing of $name" ;;
    esac
    search "shop/$name"
    same "$found" 0 "$name is in none of the $files files on disk below the Engine's data root"
done
search shop/archive_password
[ "$found" -gt 0 ] || fail "the search is worth nothing: it did not find the environment variable"
ok "the search works: archive_password, an environment variable, is in $found of them. That is Docker's doing;"
ok "  DSO said so above, and a file (dsofile://) is the way round it"

title "A restart keeps them"
show 'docker compose restart db web'
show 'docker compose up -d --wait --no-recreate --quiet-pull db 2>/dev/null; docker compose ps --format "table {{.Service}}\t{{.Status}}"'
same "$(docker compose logs --no-log-prefix web | tail -n 1 | cut -d ' ' -f 1)" "$expected_key" "web read the same key again"
show "docker compose exec -T app psql -h db -U app -d shop -Atc '$query'"

title "A changed secret reaches exactly the services that use it"
docker ps --filter label=com.docker.compose.project=$project --format '{{.Label "com.docker.compose.service"}} {{.ID}}' |
    sort >"$in_ram/before"
show 'docker dso secret set shop/tls_key --generate=4096'
show 'docker dso up -d --wait'
docker ps --filter label=com.docker.compose.project=$project --format '{{.Label "com.docker.compose.service"}} {{.ID}}' |
    sort >"$in_ram/after"
same "$(comm -13 "$in_ram/before" "$in_ram/after" | cut -d ' ' -f 1)" web "only web was re-created"
same "$(docker compose logs --no-log-prefix web | tail -n 1 | cut -d ' ' -f 1)" "$(of_secret shop/tls_key)" "web has the new key"

title "And everything is gone"
show 'docker dso down -v'
same "$(remains)" "" "no container, keeper, volume or network is left"
remove_all
trap - EXIT
[ ! -e "$scratch" ] && [ ! -e "$in_ram" ] || fail "$scratch is left"
ok "nor the HOME of this demo"
