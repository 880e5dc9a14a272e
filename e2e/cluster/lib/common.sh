# Shared by all scripts of the local cluster: where things are, addresses, progress, pid files.
# shellcheck shell=bash
# shellcheck disable=SC2034  # many of these are read by the scripts that source this file

CLUSTER_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ "$(id -u)" = 0 ]; then
  STATE=${REDOUBT_STATE:-/var/lib/redoubt-e2e}
else
  STATE=${REDOUBT_STATE:-${XDG_STATE_HOME:-$HOME/.local/state}/redoubt-e2e}
fi
STATE=$(realpath -m -- "$STATE")
CACHE=${REDOUBT_CACHE:-${HOME:-/root}/.cache/redoubt}
CACHE=$(realpath -m -- "$CACHE")
BIN=$CACHE/bin
LOGS=$STATE/logs
RUN=$STATE/run
STARTED_AT=$SECONDS

# Inside the node's own network namespace; they cannot collide with anything of the host.
NODE_NAME=redoubt-e2e
NODE_IP=192.168.77.1
POD_CIDR=10.77.0.0/16
NODE_POD_CIDR=10.77.0.0/24
SERVICE_CIDR=10.78.0.0/16
API_SERVICE_IP=10.78.0.1
DNS_SERVICE_IP=10.78.0.10
REGISTRY_NAME=registry.registry-system.svc:5000
VAULT_NAME=vault.vault-system.svc.cluster.local

# Handlers named after Kata's; each is runc behind a wrapper that records the annotations.
KATA_HANDLERS=(kata-qemu kata-qemu-coco-dev kata-qemu-snp)

# The node's cgroup. One per state folder, so that two clusters on a machine do not meet.
CGROUP=redoubt-e2e-$(printf %s "$STATE" | cksum | cut -d ' ' -f 1)

# One line of progress with the seconds since the script began. On stderr: stdout is for results.
say() { printf '[%4ss] %s\n' "$((SECONDS - STARTED_AT))" "$*" >&2; }

# Ends the script with a message that says what to do.
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Writes standard input to file $1, whole or not at all, and only when it differs:
# kube-proxy ends when its file is written, and others must not read half a file.
put() {
  cat >"$1.new"
  if cmp -s "$1.new" "$1"; then
    rm -f "$1.new"
  else
    mv "$1.new" "$1"
  fi
}

need_root() {
  [ "$(id -u)" = 0 ] && return 0
  cat >&2 <<'TXT'
error: the local cluster needs root: it makes a network and a mount namespace and runs containers.
  Either run this as root (sudo -E), or use a cluster you have:
    REDOUBT_CLUSTER=external KUBECONFIG=... REDOUBT_REGISTRY=host:port REDOUBT_VAULT_ADDRESS=https://... e2e/cluster/up
TXT
  exit 1
}

# Start time of a process in clock ticks since boot: with the pid it names one process for ever.
start_time() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  # The name may hold spaces and parentheses; what follows the last one is regular. Field 22 is the 20th there.
  # shellcheck disable=SC2086
  set -- ${stat##*) }
  [ "$1" != Z ] && echo "${20}"
}

# Remembers process $2 as component $1.
record_pid() {
  [ -n "$2" ] && echo "$2 $(start_time "$2")" >"$RUN/$1.pid"
}

# Prints the pid of component $1 when that very process still runs.
pid_of() {
  local pid began
  read -r pid began 2>/dev/null <"$RUN/$1.pid" || return 1
  [ -n "$began" ] && [ "$(start_time "$pid")" = "$began" ] && echo "$pid"
}

alive() { pid_of "$1" >/dev/null; }

# Ends component $1, politely first. Only a process that we started.
stop_component() {
  local pid i
  if pid=$(pid_of "$1"); then
    kill "$pid" 2>/dev/null || true
    for ((i = 0; i < 50; i++)); do
      alive "$1" || break
      sleep 0.1
    done
    alive "$1" && kill -9 "$pid" 2>/dev/null
  fi
  rm -f "$RUN/$1.pid"
}

# The only child of process $1 (nsenter and unshare fork once).
child_of() {
  local i child
  for ((i = 0; i < 100; i++)); do
    child=
    # The list has no newline at its end, so read "fails" with a result.
    read -r child _ 2>/dev/null <"/proc/$1/task/$1/children" || true
    [ -n "$child" ] && echo "$child" && return 0
    [ -d "/proc/$1" ] || return 1
    sleep 0.02
  done
  return 1
}

# Waits until "$@" succeeds. $1: what for, $2: seconds, $3: component whose log to show ('' for none).
wait_for() {
  local what=$1 limit=$2 component=$3 end
  shift 3
  end=$((SECONDS + limit))
  until "$@" >/dev/null 2>&1; do
    if [ -n "$component" ] && ! alive "$component"; then
      tail -n 20 "$LOGS/$component.log" >&2 || true
      die "$component ended while waiting for $what; its log: $LOGS/$component.log"
    fi
    if [ "$SECONDS" -ge "$end" ]; then
      [ -n "$component" ] && tail -n 20 "$LOGS/$component.log" >&2
      die "$what did not happen within $limit s; logs: $LOGS"
    fi
    sleep 0.2
  done
}

# The kubectl to use on a cluster of somebody else: theirs, else ours. ('type -P' looks past the function below.)
kubectl_program() { type -P kubectl || echo "$BIN/kubectl"; }

kubectl() { "$BIN/kubectl" --kubeconfig "$STATE/kubeconfig" "$@"; }
