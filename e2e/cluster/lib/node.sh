# The node: a network, mount and process namespace held by one process. When that one ends, all in it ends.
# shellcheck shell=bash

# Runs a command in the node's namespaces with a clean environment.
in_node() {
  local pid
  pid=$(pid_of node) || die "the cluster is not up; run e2e/cluster/up"
  nsenter --target "$pid" --net --mount --pid -- env -i PATH="$BIN:/usr/sbin:/usr/bin:/sbin:/bin" HOME=/root "$@"
}

# Starts component $1 in the node unless it runs. Its output goes to its log.
start_in_node() {
  local name=$1 node waiter
  shift
  alive "$name" && return 0
  node=$(pid_of node) || die "the node is gone; run e2e/cluster/down and then up"
  setsid nsenter --target "$node" --net --mount --pid -- \
    env -i PATH="$BIN:/usr/sbin:/usr/bin:/sbin:/bin" HOME=/root "$@" \
    </dev/null >>"$LOGS/$name.log" 2>&1 9>&- &
  waiter=$!
  record_pid "$name" "$(child_of "$waiter")" || die "$name did not start; its log: $LOGS/$name.log"
}

# Starts component $1 on the host side unless it runs: only the loopback forwarders.
start_on_host() {
  local name=$1
  shift
  alive "$name" && return 0
  setsid "$@" </dev/null >>"$LOGS/$name.log" 2>&1 9>&- &
  record_pid "$name" $!
}

start_node() {
  local waiter
  alive node && return 0
  rm -f "$RUN/node-ready"
  setsid unshare --net --mount --pid --fork --kill-child --mount-proc \
    bash "$CLUSTER_DIR/lib/node-init" "$STATE" "$CACHE" "$NODE_IP" "$SERVICE_CIDR" \
    </dev/null >>"$LOGS/node.log" 2>&1 9>&- &
  waiter=$!
  record_pid node "$(child_of "$waiter")" || die "the namespaces could not be made; see $LOGS/node.log"
  wait_for "the node's namespaces" 10 node test -e "$RUN/node-ready"
}

# All cgroup hierarchies: one on version 2, many on version 1.
cgroup_roots() { awk '$3 == "cgroup" || $3 == "cgroup2" {print $2}' /proc/self/mounts; }

make_cgroups() {
  local root
  for root in $(cgroup_roots); do
    mkdir -p "$root/$CGROUP" 2>/dev/null || true
    if [ -f "$root/$CGROUP/cpuset.cpus" ] && [ ! -f "$root/$CGROUP/cgroup.controllers" ]; then
      cat "$root/cpuset.cpus" >"$root/$CGROUP/cpuset.cpus"
      cat "$root/cpuset.mems" >"$root/$CGROUP/cpuset.mems"
    fi
  done
}

# Removes the node's cgroups, deepest first. They are empty once the node has ended.
remove_cgroups() {
  local root left=0 i
  for root in $(cgroup_roots); do
    for ((i = 0; i < 50; i++)); do
      [ -d "$root/$CGROUP" ] || break
      find "$root/$CGROUP" -depth -type d -exec rmdir {} \; 2>/dev/null || true
      [ -d "$root/$CGROUP" ] && sleep 0.1
    done
    [ -d "$root/$CGROUP" ] && left=1 && say "could not remove $root/$CGROUP"
  done
  return $left
}

# Ends everything in the node: the kernel ends all processes of a process namespace with its first one.
stop_node() {
  local pid i
  if pid=$(pid_of node); then
    kill -9 "$pid"
    for ((i = 0; i < 100; i++)); do
      alive node || break
      sleep 0.1
    done
    alive node && die "process $pid (the node) does not end"
  fi
  rm -f "$RUN/node.pid"
}
