#!/bin/bash
# Starts a control plane and a pair of Causeway proxies, and redirects their traffic.
# CAUSEWAY_BIN_DIR says where the binaries of deploy/build are (default: this repository's target/shipped), BENCH_SOURCE a
# directory of manifests to use instead of these (mesh.py), CAUSEWAY_WORKERS how many threads serve, BENCH_ACCESS_LOG what
# is told in the access log (default: off).
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/../common.sh"
bin=${CAUSEWAY_BIN_DIR:-$(cd "$here/../../../.." && pwd)/target/shipped}
for program in causeway-control-plane causeway-proxy; do
  [ -x "$bin/$program" ] && continue
  echo "there is no $bin/$program: run deploy/build control-plane proxy, or say in CAUSEWAY_BIN_DIR where they are"
  exit 1
done
rm -rf "${run:?}/source" "$run/state"
mkdir -p "$run/source" "$run/pids"
chmod 755 "$run"
if [ -n "${BENCH_SOURCE:-}" ]; then
  cp "$BENCH_SOURCE"/*.yaml "$run/source"
else
  "$here/mesh.py" > "$run/source/mesh.yaml"
fi

ulimit -n "$(ulimit -Hn)"
start control-plane "$SERVER_NS" 0 "$bin/causeway-control-plane" --source "dir:$run/source" \
  --state "$run/state" --listen "$S_IP:15010" --admin 127.0.0.1:15014
answers control-plane "$SERVER_NS" http://127.0.0.1:15014/readyz
# Our own rules, whatever the rig has: a proxy is not ready while they are not there.
ip netns exec "$CLIENT_NS" "$bin/causeway-proxy" redirect --apply --proxy-uid "$PROXY_UID"
ip netns exec "$SERVER_NS" "$bin/causeway-proxy" redirect --apply --proxy-uid "$PROXY_UID" --exclude-inbound-ports 15010
cp "$run/state/trust-bundle.pem" "$run/bundle.pem"
set -a # the image's environment
. "$here/../../../../deploy/images/proxy.env"
set +a
proxy() { # proxy NAME NAMESPACE ACCOUNT
  "$bin/causeway-control-plane" token --state "$run/state" "dev/$3" --pod "$3" > "$run/$3.token"
  chown "$PROXY_UID" "$run/$3.token" "$run/bundle.pem"
  start "$1" "$2" "$PROXY_UID" "$bin/causeway-proxy" --control-plane "https://$S_IP:15010" \
    --trust-bundle "$run/bundle.pem" --token-file "$run/$3.token" --workload "dev/$3" \
    --outbound '[::]:15001' --inbound '[::]:15006' --access-log "${BENCH_ACCESS_LOG:-off}" --workers "${CAUSEWAY_WORKERS:-1}"
}
proxy inbound "$SERVER_NS" backend
proxy outbound "$CLIENT_NS" frontend
answers outbound "$CLIENT_NS" http://127.0.0.1:15020/ready
answers inbound "$SERVER_NS" http://127.0.0.1:15020/ready
