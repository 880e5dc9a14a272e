# Debian packages the node needs; installed only when something is missing.
# shellcheck shell=bash

install_packages() {
  local missing=() package program
  while read -r package program; do
    command -v "$program" >/dev/null 2>&1 || [ -x "$program" ] || missing+=("$package")
  done <<'LIST'
runc runc
containernetworking-plugins /usr/lib/cni/ptp
nftables nft
iptables iptables
conntrack conntrack
iproute2 ip
socat socat
ca-certificates update-ca-certificates
openssl openssl
jq jq
curl curl
binutils strip
util-linux nsenter
LIST
  [ ${#missing[@]} = 0 ] && return 0
  command -v apt-get >/dev/null ||
    die "these are missing and there is no apt-get to install them with: ${missing[*]}"
  say "installing packages: ${missing[*]}"
  {
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
  } >"$LOGS/apt.log" 2>&1 || die "installing packages failed; see $LOGS/apt.log"
}
