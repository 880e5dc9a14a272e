# Writes the configuration of every component into $STATE/conf.
# shellcheck shell=bash

CONF=$STATE/conf

config_containerd() {
  local handler dir=$CONF/certs.d/$REGISTRY_NAME
  mkdir -p "$dir" "$CONF/cni" "$CONF/runtimes" "$STATE/node/containerd"
  put "$dir/hosts.toml" <<TOML
server = "http://$NODE_IP:5000"
[host."http://$NODE_IP:5000"]
  capabilities = ["pull", "resolve"]
TOML
  # ptp routes every pod through the node, so that answers to service addresses come back through kube-proxy.
  put "$CONF/cni/10-ptp.conflist" <<JSON
{"cniVersion": "1.0.0", "name": "redoubt-e2e", "plugins": [
  {"type": "ptp", "ipMasq": false, "mtu": 1500,
   "ipam": {"type": "host-local", "dataDir": "/run/cni-ipam", "ranges": [[{"subnet": "$NODE_POD_CIDR"}]],
            "routes": [{"dst": "0.0.0.0/0"}]}}]}
JSON
  {
    cat <<TOML
version = 3
root = "$STATE/node/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri", "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.erofs", "io.containerd.image-verifier.v1.bindir", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "$REGISTRY_NAME/redoubt/pause:local"
  [plugins.'io.containerd.cri.v1.images'.registry]
    config_path = "$CONF/certs.d"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["/usr/lib/cni", "/opt/cni/bin"]
    conf_dir = "$CONF/cni"
  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = "runc"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
        BinaryName = "$(command -v runc)"
TOML
    for handler in "${KATA_HANDLERS[@]}"; do
      cat <<TOML
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.$handler]
      runtime_type = "io.containerd.runc.v2"
      pod_annotations = ["io.katacontainers.*"]
      container_annotations = ["io.katacontainers.*"]
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.$handler.options]
        BinaryName = "$CONF/runtimes/$handler"
TOML
    done
  } | put "$CONF/containerd.toml"
  mkdir -p "$STATE/kata"
  for handler in "${KATA_HANDLERS[@]}"; do
    {
      echo '#!/usr/bin/env bash'
      echo "handler=$handler records=$STATE/kata runc=$(command -v runc)"
      cat "$CLUSTER_DIR/lib/kata-stand-in"
    } | put "$CONF/runtimes/$handler"
    chmod 755 "$CONF/runtimes/$handler"
  done
}

config_kubelet() {
  echo "nameserver $NODE_IP" | put "$CONF/resolv.conf"
  mkdir -p "$STATE/node/kubelet" "$STATE/node/plugins" "$LOGS/pods"
  put "$CONF/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
address: $NODE_IP
clusterDomain: cluster.local
clusterDNS: [$DNS_SERVICE_IP]
resolvConf: $CONF/resolv.conf
podLogsDir: $LOGS/pods
volumePluginDir: $STATE/node/plugins
tlsCertFile: $PKI/kubelet-serving.crt
tlsPrivateKeyFile: $PKI/kubelet-serving.key
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: $PKI/ca.crt}
authorization: {mode: Webhook}
cgroupDriver: cgroupfs
cgroupRoot: /$CGROUP
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: []
makeIPTablesUtilChains: false
oomScoreAdj: 0
serializeImagePulls: false
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 1Mi, nodefs.available: 1Mi, nodefs.inodesFree: "1", imagefs.available: 1Mi}
healthzBindAddress: 127.0.0.1
YAML
}

config_kube_proxy() {
  put "$CONF/kube-proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: $POD_CIDR
hostnameOverride: $NODE_NAME
clientConnection: {kubeconfig: $CONF/kube-proxy.kubeconfig}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
YAML
}

config_registry() {
  mkdir -p "$STATE/registry"
  put "$CONF/registry.yaml" <<YAML
version: 0.1
log: {level: warn}
storage:
  filesystem: {rootdirectory: $STATE/registry}
  delete: {enabled: true}
http: {addr: "0.0.0.0:5000"}
YAML
}

config_coredns() {
  [ -f "$CONF/dns-hosts" ] || echo "# Names a test wants: ADDRESS NAME. Read again every second." >"$CONF/dns-hosts"
  put "$CONF/Corefile" <<DNS
.:1053 {
  ready $NODE_IP:8181
  errors
  cache 5
  hosts $CONF/dns-hosts {
    ttl 1
    reload 1s
    fallthrough
  }
  kubernetes cluster.local in-addr.arpa {
    kubeconfig $CONF/coredns.kubeconfig
    ttl 1
  }
}
DNS
}

config_vault() {
  # Vault wants the real folder of its plugins, not a link.
  put "$CONF/vault.hcl" <<HCL
storage "raft" {
  path = "$STATE/vault/data"
  node_id = "local"
  performance_multiplier = 1
}
cluster_addr = "https://127.0.0.1:8201"
listener "tcp" {
  address = "0.0.0.0:8200"
  tls_cert_file = "$PKI/vault.crt"
  tls_key_file = "$PKI/vault.key"
}
api_addr = "https://$VAULT_NAME:8200"
plugin_directory = "$(dirname "$(readlink -f "$BIN/vault")")"
disable_mlock = true
HCL
}

write_configs() {
  config_containerd
  config_kubelet
  config_kube_proxy
  config_registry
  config_coredns
  config_vault
  put "$CONF/audit-policy.yaml" <"$CLUSTER_DIR/manifests/audit-policy.yaml"
}
