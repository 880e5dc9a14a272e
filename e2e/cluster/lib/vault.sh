# HashiCorp Vault: initialised, unsealed, and set up for agents. Its unseal key and root token stay in $STATE/vault.
# shellcheck shell=bash

vault_cli() {
  in_node env VAULT_ADDR=https://127.0.0.1:8200 VAULT_CACERT="$PKI/vault-ca.crt" \
    VAULT_TOKEN="$(cat "$STATE/vault/root-token" 2>/dev/null)" vault "$@"
}

# Vault answers, sealed or not (the status command ends with 2 when sealed).
vault_answers() {
  local rc=0
  vault_cli status >/dev/null 2>&1 || rc=$?
  [ "$rc" = 0 ] || [ "$rc" = 2 ]
}

vault_open() {
  local answer
  wait_for "Vault answering" 30 vault vault_answers
  if [ ! -s "$STATE/vault/unseal-key" ]; then
    answer=$(vault_cli operator init -key-shares=1 -key-threshold=1 -format=json)
    (
      umask 077
      jq -r '.unseal_keys_b64[0]' <<<"$answer" >"$STATE/vault/unseal-key"
      jq -r .root_token <<<"$answer" >"$STATE/vault/root-token"
    )
  fi
  vault_cli status >/dev/null 2>&1 || {
    say "unsealing Vault"
    vault_cli operator unseal "$(cat "$STATE/vault/unseal-key")" >/dev/null
  }
  wait_for "Vault being active" 30 vault in_node curl -sf --cacert "$PKI/vault-ca.crt" https://127.0.0.1:8200/v1/sys/health
}

vault_set_up() {
  [ -e "$STATE/vault/.set-up" ] && return 0
  local reviewer accessor plugin
  plugin=$(sha256sum "$BIN/vault-plugin-auth-kubernetes" | cut -d ' ' -f 1)
  vault_cli audit enable file file_path="$LOGS/vault-audit.log" >/dev/null
  vault_cli secrets enable -path=secret -version=2 kv >/dev/null
  vault_cli plugin register -sha256="$plugin" -command=vault-plugin-auth-kubernetes auth kubernetes >/dev/null
  vault_cli auth enable -path=kubernetes kubernetes >/dev/null
  reviewer=$(kubectl -n vault-system create token vault-reviewer --duration=8760h)
  vault_cli write auth/kubernetes/config kubernetes_host="https://$NODE_IP:6443" \
    kubernetes_ca_cert=@"$PKI/ca.crt" token_reviewer_jwt="$reviewer" >/dev/null
  accessor=$(vault_cli auth list -format=json | jq -r '."kubernetes/".accessor')
  # An agent reads what lies under its own namespace, nothing else.
  cat >"$STATE/conf/redoubt-agents.hcl" <<HCL
path "secret/data/agents/{{identity.entity.aliases.$accessor.metadata.service_account_namespace}}/*" {
  capabilities = ["read"]
}
HCL
  vault_cli policy write redoubt-agents "$STATE/conf/redoubt-agents.hcl" >/dev/null
  vault_cli write auth/kubernetes/role/redoubt-agents \
    bound_service_account_names='redoubt-agent-*' bound_service_account_namespaces='*' \
    audience=vault token_policies=redoubt-agents token_ttl=10m token_max_ttl=10m >/dev/null
  touch "$STATE/vault/.set-up"
}
