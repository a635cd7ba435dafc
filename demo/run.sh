#!/bin/bash
# DSO from nothing to nothing, on the real Docker Engine; `make demo` prepares what it needs and runs it.
#
# Every command is printed before it runs. A check that does not hold ends the demo with exit code 1. It
# works in a HOME of its own, touches only the project dso-demo, and removes both at the end; what an
# interrupted run left is removed first.
set -euo pipefail
exec 2>&1 # one order for everything, also where output goes to a file

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
ok() { printf '  %s✓%s %s\n' "$green" "$plain" "$*"; }
fail() { printf '  %s✗ %s%s\n' "$red" "$*" "$plain" && exit 1; }
same() { if [ "$1" = "$2" ]; then ok "$3"; else fail "$3: expected \"$2\", got \"$1\""; fi; }
announce() { printf '\n%s$ %s%s\n' "$bold" "$1" "$plain"; }
# show COMMAND: print it, run it.
show() { announce "$1" && { eval "$1" || fail "exit code $?"; }; }
# expect COMMAND OUTPUT WHAT: the same, and compare what it prints.
expect() {
    local output
    announce "$1"
    output=$(eval "$1" 2>&1) || true
    printf '%s\n' "$output"
    same "$output" "$2" "$3"
}

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
        esac || true # gone meanwhile: what an interrupted `up` cleans up itself
    done >/dev/null 2>&1
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
# web_read START FIELDS: what web told at its START-th start about the key: digest, size, owner, mode, name.
web_read() {
    local tries
    for tries in $(seq 50); do
        [ "$(docker logs dso-demo-web-1 | wc -l)" -lt "$1" ] || break
        sleep 0.1
    done
    docker logs dso-demo-web-1 | sed -n "$1p" | cut -d ' ' -f "$2"
}
services() {
    docker ps --filter "label=com.docker.compose.project=$project" \
        --format '{{.Label "com.docker.compose.service"}} {{.ID}}' | sort
}

# A line of a secret that stands for it in searches: the second, since keys begin with a common one.
sample() { docker dso secret get "shop/$1" | awk 'NR <= 2 { line = $0 } END { print line }'; }

# search NAME: sets `found` to the number of files on disk below the Engine's data root that hold the
# secret, `files` to how many there are. tmpfs mounts are left out: RAM is where a secret may be. What is
# searched for is kept in RAM too.
search() {
    local root
    root=$(docker info --format '{{.DockerRootDir}}')
    [ -r "$root/containers" ] || fail "searching the Engine's data root $root needs root on the Engine's machine"
    sync
    sample "$1" >"$in_ram/pattern"
    # other stacks come and go meanwhile
    { LC_ALL=C find "$root" -xdev -type f -print0 2>&1 >"$in_ram/files" || true; } | grep -v 'No such file' &&
        fail "the search is not complete"
    files=$(tr -cd '\0' <"$in_ram/files" | wc -c)
    # grep fails where nothing matches, and on files that went away meanwhile
    found=$({ xargs -0 grep -lsF -f "$in_ram/pattern" <"$in_ram/files" || true; } | wc -l)
}

# inspected NAME: whether Docker tells the secret, in anything of the project.
inspected() {
    local told
    told=$(remains | cut -d ' ' -f 2 | xargs docker inspect)
    [ "${told/"$(sample "$1")"/}" != "$told" ]
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
key=$(digest <"$in_ram/key.pem")
show "docker dso secret set shop/tls_key --from-file $in_ram/key.pem"
rm "$in_ram/password" "$in_ram/key.pem"
show 'docker dso secret list'

title "A stack that names them"
show "grep -B 1 'dso.*://' compose.yaml"

title "One command brings it up"
show 'docker dso up -d --wait'
show 'docker compose ps --format "table {{.Service}}\t{{.Status}}"'

title "Every container has what it needs"
login="docker compose exec -T app psql -h db -U app -d shop -Atc 'select current_user, current_database()'"
expect "$login" 'app|shop' "app logs in to db over TCP with the generated password"
expect "docker compose exec -T app sh -c 'psql \"\$ARCHIVE_URL\" -Atc \"select current_user, current_database()\"'" \
    'app|archive' "and to archive with the connection string that the template made"
wrong=$(docker compose exec -T -e PGPASSFILE=/dev/null -e PGPASSWORD=wrong app psql -h db -U app -d shop 2>&1) || true
case $wrong in
    *'password authentication failed'*) ok "which means something: a wrong password is refused" ;;
    *) fail "a wrong password is not refused: $wrong" ;;
esac
web_read 1 1 >/dev/null
show 'docker logs dso-demo-web-1'
same "$(web_read 1 1)" "$key" "web, which has no shell, read the key to the byte (this is its SHA-256)"
same "$(web_read 1 3,4)" '1000:1000 0400' "the file belongs to the user web runs as, and nobody else may read it"

title "And nobody else does"
for name in db_password tls_key; do
    ! inspected $name || fail "docker inspect shows $name"
    ok "docker inspect of everything in the project shows nothing of $name"
    search $name
    same "$found" 0 "$name is in none of the $files files on disk below the Engine's data root"
done
inspected archive_password || fail "docker inspect should show an environment variable"
search archive_password
[ "$found" -gt 0 ] || fail "the search should find an environment variable"
ok "the checks can fail: archive_password is an environment variable, so docker inspect shows it and Docker"
ok "keeps it in $found files. That is Docker's doing, DSO said so above, and dsofile:// is the way round it"

title "A restart keeps them"
show 'docker restart dso-demo-db-1 dso-demo-web-1'
for _ in $(seq 100); do ! docker exec dso-demo-db-1 pg_isready -qh 127.0.0.1 || break; sleep 0.2; done
same "$(web_read 2 1)" "$key" "web read the same key again"
expect "$login" 'app|shop' "app logs in again"

title "A changed secret reaches the services that use it, and no others"
services >"$in_ram/before"
show 'docker dso secret set shop/tls_key --generate=4096'
show 'docker dso up -d --wait'
same "$(services | comm -13 "$in_ram/before" - | cut -d ' ' -f 1)" web "only web was re-created"
same "$(web_read 1 1)" "$(docker dso secret get shop/tls_key | digest)" "and has the new key"

title "And everything is gone"
show 'docker dso down -v'
same "$(remains)" "" "no container, keeper, volume or network is left"
remove_all
trap - EXIT
[ ! -e "$scratch" ] && [ ! -e "$in_ram" ] || fail "$scratch is left"
ok "nor the HOME of this demo"
