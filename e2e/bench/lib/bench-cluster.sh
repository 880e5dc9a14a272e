# The benchmark's cluster: etcd, API server, controller manager, scheduler and kwok in the local cluster's namespaces.
# No kubelet, no container, no Vault. Sourced by e2e/bench/run.
# shellcheck shell=bash

# Who is measured: what these two ask of the API server is in the audit log, and nothing else.
bench_audit_policy() {
  cat <<'YAML'
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  users: ["system:serviceaccount:redoubt-system:redoubt-operator", "system:serviceaccount:redoubt-system:bench-floor"]
- level: None
YAML
}

# The default limits of these two would be what is measured: 20 and 50 requests per second.
bench_control_plane() {
  put "$CONF/scheduler.yaml" <<YAML
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection: {leaderElect: false}
clientConnection: {kubeconfig: $CONF/scheduler.kubeconfig, qps: 500, burst: 1000}
YAML
  start_in_node kube-scheduler kube-scheduler --config="$CONF/scheduler.yaml" --bind-address=127.0.0.1 \
    --authentication-kubeconfig="$CONF/scheduler.kubeconfig" --authorization-kubeconfig="$CONF/scheduler.kubeconfig"
  start_in_node kube-controller-manager kube-controller-manager \
    --kubeconfig="$CONF/controller-manager.kubeconfig" --use-service-account-credentials=true \
    --bind-address=127.0.0.1 --leader-elect=false --root-ca-file="$PKI/ca.crt" \
    --authentication-kubeconfig="$CONF/controller-manager.kubeconfig" \
    --authorization-kubeconfig="$CONF/controller-manager.kubeconfig" \
    --service-account-private-key-file="$PKI/sa.key" --kube-api-qps=500 --kube-api-burst=1000
}

# Makes service account $2 of namespace $1, an administrator, with a kubeconfig.
bench_account() {
  wait_for "namespace $1" 30 '' bench_kubectl get namespace "$1"
  bench_kubectl -n "$1" create serviceaccount "$2" >/dev/null
  bench_kubectl create clusterrolebinding "$2" --clusterrole=cluster-admin --serviceaccount="$1:$2" >/dev/null
  account_kubeconfig "$1" "$2" "$CONF/$2.kubeconfig"
}

account_kubeconfig() { # namespace, account, file
  local token
  token=$(bench_kubectl create token "$2" -n "$1" --duration=24h)
  (umask 077 && put "$3") <<YAML
apiVersion: v1
kind: Config
clusters:
- name: bench
  cluster: {server: "https://$NODE_IP:6443", certificate-authority-data: $(base64 -w0 "$PKI/ca.crt")}
users:
- name: $2
  user: {token: $token}
contexts:
- name: bench
  context: {cluster: bench, user: $2}
current-context: bench
YAML
}

bench_kubectl() { in_node kubectl --kubeconfig "$CONF/admin.kubeconfig" "$@"; }

bench_cluster_up() {
  local fake file i
  mkdir -p "$RUN"
  chmod 711 "$RUN"
  rm -f "$LOGS"/*.log
  make_pki
  bench_audit_policy | put "$CONF/audit-policy.yaml"
  make_cgroups
  say "starting etcd, API server and controllers"
  start_node
  start_etcd
  start_apiserver
  wait_for "the API server being ready" 90 kube-apiserver bench_kubectl get --raw /readyz
  bench_control_plane
  # Redoubt's guards let nobody but the cluster's own components write the status of an agent's pod, and kwok stands in for one.
  bench_account kube-system kwok
  start_in_node kwok kwok --kubeconfig "$CONF/kwok.kubeconfig" --config "$(realpath e2e/bench/kwok.yaml)" --manage-all-nodes=true --node-lease-duration-seconds=40
  for ((i = 0; i < 10; i++)); do
    cat <<YAML
apiVersion: v1
kind: Node
metadata:
  name: simulated-$i
status:
  capacity: &all {cpu: "1000", memory: 2Ti, pods: "4000"}
  allocatable: *all
---
YAML
  done | bench_kubectl create -f - >/dev/null
  printf '%s\n' 'apiVersion: node.k8s.io/v1' 'kind: RuntimeClass' 'metadata: {name: kata-qemu}' 'handler: kata-qemu' |
    bench_kubectl create -f - >/dev/null
  # The operator is a process here, and sidecars look for its Service.
  printf '%s\n' '127.0.0.1 localhost redoubt-policy.redoubt-system.svc' | put "$CONF/hosts"
  in_node mount --bind "$CONF/hosts" /etc/hosts
  say "installing Redoubt"
  # The node has a working folder of its own, so what is relative comes on stdin.
  for file in crds/yaml/*.yaml; do
    cat "$file"
    echo ---
  done | bench_kubectl apply --server-side -f - >/dev/null
  fake=registry.invalid/simulated@sha256:$(printf simulated | sha256sum | cut -d ' ' -f 1)
  bench_kubectl create namespace redoubt-system >/dev/null
  wait_for "the kinds being served" 30 kube-apiserver bench_kubectl get isolationclasses,agents -A
  "$BIN/helm" template redoubt charts/redoubt --namespace redoubt-system --skip-tests --set-string "image=$fake" \
    --set-string "isolationClass.images.egress=$fake" --set-string "isolationClass.images.tools=$fake" \
    --set-string "isolationClass.images.agent=$fake" | bench_kubectl apply --server-side -f - >/dev/null
  # The operator that is measured is a process outside; simulated ones would only look like it.
  bench_kubectl -n redoubt-system scale deployment redoubt-operator --replicas=0 >/dev/null
  account_kubeconfig redoubt-system redoubt-operator "$CONF/operator.kubeconfig"
  bench_account redoubt-system bench-floor
}
