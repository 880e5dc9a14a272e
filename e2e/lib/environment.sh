# The environment of everything that talks to the cluster: what e2e/cluster/up wrote, and where this build's programs are.
# Sourced from the root of the checkout.
# shellcheck shell=bash disable=SC1091

export REDOUBT_STATE=${REDOUBT_STATE:-/var/lib/redoubt-e2e}
export REDOUBT_CACHE=${REDOUBT_CACHE:-${HOME:-/root}/.cache/redoubt}
[ -f "$REDOUBT_STATE/env" ] || {
  echo "error: there is no cluster: run e2e/cluster/up first" >&2
  exit 1
}
set -a
. "$REDOUBT_STATE/env"
set +a
REDOUBT_VAULT_CA=$(cat "$REDOUBT_VAULT_CACERT")
REDOUBT_DEMO_CA=$(cat "$REDOUBT_STATE/doubles/ca.pem" 2>/dev/null || true)
export REDOUBT_VAULT_CA REDOUBT_DEMO_CA
export PATH=$REDOUBT_CACHE/bin:$PATH
host=$(rustc -vV | sed -n 's/^host: //p')
export REDOUBT_PROGRAMS=${CARGO_TARGET_DIR:-$PWD/target}/$host/debug

say() { printf '[%4ss] %s\n' "$SECONDS" "$*" >&2; }

# The images that e2e/deploy made, by digest.
for image in "$REDOUBT_STATE"/images/*; do
  case $image in *.new | *'*') continue ;; esac
  name=${image##*/}
  export "REDOUBT_IMAGE_${name^^}=$(cat "$image")"
done
