# Starts the programs, each with the flags it needs here.
# shellcheck shell=bash

start_etcd() {
  start_in_node etcd etcd --name local --data-dir "$STATE/etcd" --unsafe-no-fsync --logger zap --log-level warn \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
    --initial-cluster local=http://127.0.0.1:2380
}

start_apiserver() {
  start_in_node kube-apiserver kube-apiserver \
    --etcd-servers=http://127.0.0.1:2379 \
    --bind-address=0.0.0.0 --secure-port=6443 --advertise-address="$NODE_IP" \
    --service-cluster-ip-range="$SERVICE_CIDR" --allow-privileged=true \
    --client-ca-file="$PKI/ca.crt" --tls-cert-file="$PKI/apiserver.crt" --tls-private-key-file="$PKI/apiserver.key" \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --service-account-key-file="$PKI/sa.pub" --service-account-signing-key-file="$PKI/sa.key" \
    --kubelet-certificate-authority="$PKI/ca.crt" --kubelet-preferred-address-types=InternalIP \
    --kubelet-client-certificate="$PKI/kubelet-client.crt" --kubelet-client-key="$PKI/kubelet-client.key" \
    --audit-policy-file="$CONF/audit-policy.yaml" --audit-log-path="$LOGS/audit.log" \
    --audit-log-maxsize=200 --audit-log-maxbackup=2
}

start_control_plane() {
  start_in_node kube-controller-manager kube-controller-manager \
    --kubeconfig="$CONF/controller-manager.kubeconfig" --use-service-account-credentials=true \
    --bind-address=127.0.0.1 --leader-elect=false --root-ca-file="$PKI/ca.crt" \
    --authentication-kubeconfig="$CONF/controller-manager.kubeconfig" \
    --authorization-kubeconfig="$CONF/controller-manager.kubeconfig" \
    --service-account-private-key-file="$PKI/sa.key" \
    --cluster-signing-cert-file="$PKI/ca.crt" --cluster-signing-key-file="$PKI/ca.key"
  start_in_node kube-scheduler kube-scheduler \
    --kubeconfig="$CONF/scheduler.kubeconfig" --bind-address=127.0.0.1 --leader-elect=false \
    --authentication-kubeconfig="$CONF/scheduler.kubeconfig" --authorization-kubeconfig="$CONF/scheduler.kubeconfig"
}

start_containerd() { start_in_node containerd containerd --config "$CONF/containerd.toml" --log-level info; }

start_kubelet() {
  start_in_node kubelet kubelet --config="$CONF/kubelet.yaml" --kubeconfig="$CONF/kubelet.kubeconfig" \
    --hostname-override="$NODE_NAME" --node-ip="$NODE_IP" --root-dir="$STATE/node/kubelet" --cert-dir="$STATE/node/kubelet/pki"
}

start_network() {
  start_in_node kube-proxy kube-proxy --config="$CONF/kube-proxy.yaml"
  start_in_node coredns coredns -conf "$CONF/Corefile"
}

start_registry() {
  start_in_node registry env OTEL_TRACES_EXPORTER=none registry serve "$CONF/registry.yaml"
}

start_vault() {
  mkdir -p "$STATE/vault/data"
  start_in_node vault vault server -config="$CONF/vault.hcl"
}

# True when nothing listens on a loopback port of the host.
port_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Chooses the loopback ports once and keeps them in $STATE/run/ports.
choose_ports() {
  [ -s "$RUN/ports" ] && return 0
  local name wanted port
  while read -r name wanted; do
    port=$wanted
    until port_free "$port"; do
      port=$((port + 1))
      [ $((port - wanted)) -lt 200 ] || die "no free loopback port between $wanted and $port"
    done
    echo "$name=$port"
  done >"$RUN/ports.new" <<LIST
API_PORT ${REDOUBT_API_PORT:-16443}
REGISTRY_PORT ${REDOUBT_REGISTRY_PORT:-15000}
VAULT_PORT ${REDOUBT_VAULT_PORT:-18200}
LIST
  mv "$RUN/ports.new" "$RUN/ports"
}

# Forwards a loopback port of the host into the node, by way of a unix socket both can see.
forward() { # name, host port ('' for the socket only), address in the node
  start_in_node "forward-$1-in" socat -t 30 "UNIX-LISTEN:$RUN/$1.sock,fork,mode=600,unlink-early,backlog=256" "TCP:$3"
  [ -z "$2" ] || start_on_host "forward-$1-out" socat -t 30 "TCP-LISTEN:$2,bind=127.0.0.1,reuseaddr,fork,backlog=256" "UNIX-CONNECT:$RUN/$1.sock"
}

start_forwards() {
  # shellcheck disable=SC1091
  . "$RUN/ports"
  forward api "$API_PORT" "$NODE_IP:6443"
  forward registry "$REGISTRY_PORT" "$NODE_IP:5000"
  forward vault "$VAULT_PORT" "$NODE_IP:8200"
  # No port for etcd: it asks nobody who they are. The socket is root's alone.
  forward etcd "" 127.0.0.1:2379
  write_kubeconfig "$STATE/kubeconfig" admin "https://127.0.0.1:$API_PORT"
}

COMPONENTS=(node etcd kube-apiserver kube-controller-manager kube-scheduler containerd kubelet kube-proxy coredns registry vault
  forward-api-in forward-api-out forward-registry-in forward-registry-out forward-vault-in forward-vault-out forward-etcd-in)
