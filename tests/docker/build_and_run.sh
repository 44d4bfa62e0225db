#!/bin/bash
# Builds the image from the Dockerfile and runs it, for real, without a Docker engine and without a registry.
#
# Needs root, buildah, mmdebstrap and the apt sources of the machine. BASE_TAR=FILE keeps the base image's file system
# between runs. Everything else is made in a temporary folder and removed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
for tool in buildah mmdebstrap python3; do
    command -v "$tool" >/dev/null || { echo "docker-test: $tool is not installed" >&2; exit 1; }
done

work=$(mktemp -d "${TMPDIR:-/tmp}/wherry-docker.XXXXXX")
broker=
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
buildah() { command buildah --root "$work/storage" --runroot "$work/run" "$@"; }
clean() {
    if [ -n "$broker" ]; then kill "$broker" 2>/dev/null || true; fi
    buildah rm --all >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap clean EXIT
say() { printf 'docker-test: %s\n' "$*"; }
fail() { printf 'docker-test: FAILED: %s\n' "$*" >&2; tail -n 20 "$work"/*.log >&2 || true; exit 1; }

say 'base image'
base=${BASE_TAR:-$work/base.tar}
if [ ! -s "$base" ]; then
    mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$base" \
        "${APT_SOURCES:-/etc/apt/sources.list.d/debian.sources}"
fi
container=$(buildah from scratch)
buildah add -q "$container" "$base" / >/dev/null
buildah commit -q "$container" wherry-test-base >/dev/null
buildah rm "$container" >/dev/null

say 'build'
# pip in the build gets the settings of pip out here, and sees the files that they name.
python3 "$here/pip_conf.py" "$work/pip-paths" >"$work/pip.conf"
volumes=(--volume "$work/pip.conf:/etc/pip.conf:ro")
while read -r path; do volumes+=(--volume "$path:$path:ro"); done <"$work/pip-paths"
buildah bud --quiet --isolation chroot --format docker --build-arg BASE=localhost/wherry-test-base \
    "${volumes[@]}" --tag wherry-test "$root" >"$work/build.log" 2>&1 || fail 'the build'

say 'what the image says of itself'
buildah inspect --type image wherry-test >"$work/image.json"
config() {
    python3 - "$work/image.json" "$@" <<'PY'
import json, sys
value = json.load(open(sys.argv[1]))["Docker"]["config"]
for name in sys.argv[2].split("."):
    value = value[name]
print(json.dumps(value, separators=(",", ":")))
PY
}
[ "$(config Entrypoint)" = '["wherry"]' ] || fail "entrypoint $(config Entrypoint)"
[ "$(config StopSignal)" = '"SIGTERM"' ] || fail "stop signal $(config StopSignal)"
[ "$(config Volumes)" = '{"/data":{}}' ] || fail "volumes $(config Volumes)"
[[ "$(config User)" =~ ^\"[1-9][0-9]*:[1-9][0-9]*\"$ ]] || fail "user $(config User)"
[ "$(config Healthcheck.Test)" = '["CMD","wherry","ping"]' ] || fail "health check $(config Healthcheck.Test)"
words() { config "$1" | python3 -c 'import json, sys; print("\n".join(json.load(sys.stdin)))'; }
mapfile -t command < <(words Entrypoint; words Cmd)

container=$(buildah from wherry-test)
# The chroot shares the network of the machine, so the port must be a free one.
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
token=$(python3 -c 'import secrets; print(secrets.token_hex(16))')
inside() { buildah run --env "WHERRY_TOKEN=$token" --env "WHERRY_URL=wherry://127.0.0.1:$port" "$container" -- "$@"; }

say 'not root, and only /data is its own'
[ "$(inside id -u)" = 10001 ] || fail "uid $(inside id -u)"
inside sh -c 'touch /data/x && rm /data/x && ! touch /opt/wherry/x 2>/dev/null' || fail 'who may write where'

say 'no token, no broker'
code=0
buildah run --env "WHERRY_PORT=$port" "$container" -- "${command[@]}" >"$work/refused.log" 2>&1 || code=$?
[ "$code" -eq 2 ] || fail "without a token the exit code is $code"
grep -q 'WHERRY_TOKEN' "$work/refused.log" || fail 'the refusal does not say what to set'

start() {
    : >"$work/ready"
    buildah run --env "WHERRY_TOKEN=$token" --env "WHERRY_PORT=$port" "$container" -- "${command[@]}" \
        >"$work/ready" 2>>"$work/broker.log" &
    broker=$!
    for _ in $(seq 100); do grep -q '^wherry ready on' "$work/ready" && break; sleep 0.1; done
    grep -q "^wherry ready on 0.0.0.0:$port" "$work/ready" || fail 'it is not ready after 10 s'
}
stop() {
    # The broker itself is the innermost child of the process that was started above.
    local pid=$broker child uid code=0
    while child=$(pgrep -P "$pid" | head -n 1) && [ -n "$child" ]; do pid=$child; done
    uid=$(awk '/^Uid:/ { print $2 }' "/proc/$pid/status")
    [ "$uid" = 10001 ] || fail "the broker runs as uid $uid"
    kill -TERM "$pid"
    wait "$broker" || code=$?
    broker=
    [ "$code" -eq 0 ] || fail "the broker ended with $code"
}

say "run: ${command[*]}"
start

say 'health check, publish, consume'
inside wherry ping >"$work/ping.log" 2>&1 || fail 'ping'
inside wherry publish greetings 'hello from a container' >"$work/publish.log" 2>&1 || fail 'publish'
got=$(inside wherry consume greetings --count 1 --wait 5 2>"$work/consume.log") || fail 'consume'
[ "$got" = 'hello from a container' ] || fail "consumed '$got'"
if buildah run --env "WHERRY_URL=wherry://127.0.0.1:$port" "$container" -- wherry ping >"$work/stranger.log" 2>&1; then
    fail 'a client without the token was let in'
fi

say 'SIGTERM, and what was confirmed is in /data'
inside wherry publish kept 'from before' >"$work/publish.log" 2>&1 || fail 'publish'
stop
start
got=$(inside wherry consume kept --count 1 --wait 5 2>"$work/consume.log") || fail 'consume after a restart'
[ "$got" = 'from before' ] || fail "consumed '$got' after a restart"
stop

say 'ok'
