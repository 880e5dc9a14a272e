# Keys and certificates: one CA for the cluster, one for Vault. Made once per state folder.
# shellcheck shell=bash

PKI=$STATE/pki

new_ca() { # file, name
  [ -s "$PKI/$1.crt" ] && return 0
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -sha256 \
    -keyout "$PKI/$1.key" -out "$PKI/$1.crt" -subj "/CN=$2" \
    -addext "keyUsage=critical,keyCertSign,cRLSign" 2>/dev/null
}

new_cert() { # ca, file, subject, usage (serverAuth or clientAuth), names ('' for none)
  [ -s "$PKI/$2.crt" ] && return 0
  {
    echo "basicConstraints=critical,CA:FALSE"
    echo "keyUsage=critical,digitalSignature"
    echo "extendedKeyUsage=$4"
    [ -z "$5" ] || echo "subjectAltName=$5"
  } >"$PKI/$2.ext"
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
    -keyout "$PKI/$2.key" -out "$PKI/$2.csr" -subj "$3" 2>/dev/null
  openssl x509 -req -in "$PKI/$2.csr" -CA "$PKI/$1.crt" -CAkey "$PKI/$1.key" -CAcreateserial \
    -days 365 -sha256 -extfile "$PKI/$2.ext" -out "$PKI/$2.crt" 2>/dev/null
  rm -f "$PKI/$2.csr" "$PKI/$2.ext"
}

write_kubeconfig() { # file, certificate, server
  (umask 077 && put "$1") <<YAML
apiVersion: v1
kind: Config
clusters:
- name: redoubt-e2e
  cluster:
    server: $3
    certificate-authority-data: $(base64 -w0 "$PKI/ca.crt")
users:
- name: $(basename "$2")
  user:
    client-certificate-data: $(base64 -w0 "$PKI/$2.crt")
    client-key-data: $(base64 -w0 "$PKI/$2.key")
contexts:
- name: redoubt-e2e
  context: {cluster: redoubt-e2e, user: $(basename "$2")}
current-context: redoubt-e2e
YAML
}

make_pki() {
  mkdir -p "$PKI" "$STATE/conf"
  new_ca ca redoubt-e2e-ca
  new_ca vault-ca redoubt-e2e-vault-ca
  new_cert ca apiserver /CN=kube-apiserver serverAuth \
    "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,DNS:localhost,IP:127.0.0.1,IP:$NODE_IP,IP:$API_SERVICE_IP"
  new_cert ca kubelet-serving "/O=system:nodes/CN=system:node:$NODE_NAME" serverAuth "DNS:$NODE_NAME,IP:$NODE_IP"
  new_cert ca kubelet-client "/CN=kube-apiserver-kubelet-client" clientAuth ""
  new_cert ca admin "/O=system:masters/CN=redoubt-e2e-admin" clientAuth ""
  new_cert ca controller-manager "/CN=system:kube-controller-manager" clientAuth ""
  new_cert ca scheduler "/CN=system:kube-scheduler" clientAuth ""
  new_cert ca kubelet "/O=system:nodes/CN=system:node:$NODE_NAME" clientAuth ""
  new_cert ca kube-proxy "/CN=system:kube-proxy" clientAuth ""
  new_cert ca coredns "/CN=system:coredns" clientAuth ""
  new_cert vault-ca vault "/CN=vault" serverAuth \
    "DNS:vault.vault-system,DNS:vault.vault-system.svc,DNS:$VAULT_NAME,DNS:localhost,IP:127.0.0.1,IP:$NODE_IP"
  [ -s "$PKI/sa.key" ] || openssl genrsa -out "$PKI/sa.key" 2048 2>/dev/null
  [ -s "$PKI/sa.pub" ] || openssl rsa -in "$PKI/sa.key" -pubout -out "$PKI/sa.pub" 2>/dev/null
  chmod 600 "$PKI"/*.key
  local who
  for who in admin controller-manager scheduler kubelet kube-proxy coredns; do
    write_kubeconfig "$STATE/conf/$who.kubeconfig" "$who" "https://$NODE_IP:6443"
  done
}
