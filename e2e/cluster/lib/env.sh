# $STATE/env: what a person, the quickstart and the tests need to know of the cluster, as shell exports.
# shellcheck shell=bash

export_line() { printf 'export %s=%q\n' "$1" "$2"; }

write_env_local() {
  # shellcheck disable=SC1091
  . "$RUN/ports"
  {
    export_line REDOUBT_CLUSTER local
    export_line KUBECONFIG "$STATE/kubeconfig"
    export_line REDOUBT_STATE "$STATE"
    export_line REDOUBT_LOGS "$LOGS"
    export_line REDOUBT_BIN "$BIN"
    export_line REDOUBT_REGISTRY "$REGISTRY_NAME"
    export_line REDOUBT_REGISTRY_PUSH "127.0.0.1:$REGISTRY_PORT"
    export_line REDOUBT_VAULT_ADDRESS "https://$VAULT_NAME:8200"
    export_line VAULT_ADDR "https://127.0.0.1:$VAULT_PORT"
    export_line VAULT_CACERT "$PKI/vault-ca.crt"
    export_line REDOUBT_VAULT_CACERT "$PKI/vault-ca.crt"
    export_line REDOUBT_VAULT_TOKEN_FILE "$STATE/vault/root-token"
    export_line REDOUBT_VAULT_UNSEAL_FILE "$STATE/vault/unseal-key"
    export_line REDOUBT_VAULT_ROLE redoubt-agents
    export_line REDOUBT_VAULT_AUDIT_LOG "$LOGS/vault-audit.log"
    export_line REDOUBT_AUDIT_LOG "$LOGS/audit.log"
    export_line REDOUBT_NODE_PIDFILE "$RUN/node.pid"
    export_line REDOUBT_NODE_ADDRESS "$NODE_IP"
    export_line REDOUBT_NODE_CGROUP "$CGROUP"
    export_line REDOUBT_ETCD_SOCKET "$RUN/etcd.sock"
    export_line REDOUBT_ETCD_DATA "$STATE/etcd"
    export_line REDOUBT_KATA_RECORDS "$STATE/kata"
    export_line REDOUBT_DNS_HOSTS "$STATE/conf/dns-hosts"
    export_line REDOUBT_POD_CIDR "$POD_CIDR"
    export_line REDOUBT_SERVICE_CIDR "$SERVICE_CIDR"
  } | put "$STATE/env"
}

# A cluster somebody else runs: checked, described, otherwise left alone.
use_external() {
  local wanted missing=()
  for wanted in KUBECONFIG REDOUBT_REGISTRY REDOUBT_VAULT_ADDRESS; do
    [ -n "${!wanted:-}" ] || missing+=("$wanted")
  done
  [ ${#missing[@]} = 0 ] || die "REDOUBT_CLUSTER=external also needs: ${missing[*]} (see docs/local-cluster.md)"
  type -P kubectl >/dev/null || "$CLUSTER_DIR/build" kubernetes
  "$CLUSTER_DIR/build" crane
  say "asking the cluster of $KUBECONFIG"
  "$(kubectl_program)" --request-timeout=10s get --raw /readyz >/dev/null ||
    die "the API server of $KUBECONFIG does not answer; check the file and your network"
  mkdir -p "$STATE"
  {
    export_line REDOUBT_CLUSTER external
    export_line KUBECONFIG "$KUBECONFIG"
    export_line REDOUBT_STATE "$STATE"
    export_line REDOUBT_BIN "$BIN"
    export_line REDOUBT_REGISTRY "$REDOUBT_REGISTRY"
    export_line REDOUBT_REGISTRY_PUSH "${REDOUBT_REGISTRY_PUSH:-$REDOUBT_REGISTRY}"
    export_line REDOUBT_VAULT_ADDRESS "$REDOUBT_VAULT_ADDRESS"
    export_line VAULT_ADDR "${VAULT_ADDR:-$REDOUBT_VAULT_ADDRESS}"
    for wanted in VAULT_CACERT REDOUBT_VAULT_TOKEN_FILE REDOUBT_VAULT_ROLE; do
      [ -z "${!wanted:-}" ] || export_line "$wanted" "${!wanted}"
    done
  } | put "$STATE/env"
  say "using that cluster. Read its settings with: . $STATE/env"
}
