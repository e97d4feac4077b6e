#!/bin/bash
# A pair of linkerd2-proxies, and what answers for their control plane in each pod (control/, reached over loopback):
# HTTP/1.1 -> HTTP/2 over mutual TLS -> HTTP/1.1, weights 90/10 over two Services, one authorization policy, metrics; one
# core each. The environment is that of the injector's, where it says something about speed. There is no package: `setup`
# says how to build it. Nothing is measured unless the proxies' own metrics say that mutual TLS is between them.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/../common.sh"
. "$here/../certs.sh"
mkdir -p "$run/pids"
domain=dev.serviceaccount.identity.linkerd.cluster.local
admin=15020 control=15010
certificates "$run/certs" "DNS:ACCOUNT.$domain"
proxy=$(reachable linkerd2-proxy)
stand_in=$(reachable linkerd-bench-control)
redirect # opaque connections are for port IN_PORT and pass the rules
ulimit -n "$(ulimit -Hn)"

side() { # side NAME NAMESPACE ACCOUNT ADDRESS
  local name=$1 namespace=$2 account=$3 identity="$run/identity-$3"
  mkdir -p "$identity"
  openssl pkcs8 -topk8 -nocrypt -in "$run/certs/$account.key" -outform DER -out "$identity/key.p8"
  openssl req -in "$run/certs/$account.csr" -outform DER -out "$identity/csr.der"
  openssl x509 -in "$run/certs/$account.crt" -outform DER -out "$run/certs/$account.der"
  echo token > "$identity/token"
  chmod -R a+rX "$run/certs" "$identity"
  start "control-$name" "$namespace" "$PROXY_UID" "$stand_in" "127.0.0.1:$control" "$run/certs"
  start "$name" "$namespace" "$PROXY_UID" env LINKERD2_PROXY_LOG=warn LINKERD2_PROXY_CORES=1 LINKERD2_PROXY_CORES_MAX=1 \
    LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS="127.0.0.1:$OUT_PORT" LINKERD2_PROXY_INBOUND_LISTEN_ADDR="0.0.0.0:$IN_PORT" \
    LINKERD2_PROXY_ADMIN_LISTEN_ADDR="127.0.0.1:$admin" LINKERD2_PROXY_INBOUND_IPS="$4" \
    LINKERD2_PROXY_INBOUND_PORTS="$APP_PORT,$TCP_PORT" LINKERD2_PROXY_INBOUND_DEFAULT_POLICY=deny \
    LINKERD2_PROXY_IDENTITY_SVC_ADDR="127.0.0.1:$control" LINKERD2_PROXY_IDENTITY_DIR="$identity" \
    LINKERD2_PROXY_IDENTITY_TOKEN_FILE="$identity/token" LINKERD2_PROXY_IDENTITY_LOCAL_NAME="$account.$domain" \
    LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS="$(cat "$run/certs/ca.crt")" \
    LINKERD2_PROXY_DESTINATION_SVC_ADDR="127.0.0.1:$control" LINKERD2_PROXY_POLICY_SVC_ADDR="127.0.0.1:$control" \
    LINKERD2_PROXY_DESTINATION_CONTEXT="{\"ns\":\"dev\",\"pod\":\"$account\"}" \
    LINKERD2_PROXY_POLICY_WORKLOAD="{\"ns\":\"dev\",\"pod\":\"$account\"}" \
    LINKERD2_PROXY_DESTINATION_PROFILE_NETWORKS=10.0.0.0/8 LINKERD2_PROXY_POLICY_CLUSTER_NETWORKS=10.0.0.0/8 \
    LINKERD2_PROXY_INBOUND_CONNECT_TIMEOUT=100ms LINKERD2_PROXY_OUTBOUND_CONNECT_TIMEOUT=1000ms \
    LINKERD2_PROXY_INBOUND_ACCEPT_KEEPALIVE=10000ms LINKERD2_PROXY_OUTBOUND_CONNECT_KEEPALIVE=10000ms \
    LINKERD2_PROXY_INBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL=10s LINKERD2_PROXY_INBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT=3s \
    LINKERD2_PROXY_OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL=10s LINKERD2_PROXY_OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT=3s \
    "$proxy"
}
side inbound "$SERVER_NS" backend "$S_IP"
side outbound "$CLIENT_NS" frontend "$C_IP"
answers inbound "$SERVER_NS" "http://127.0.0.1:$admin/ready"
answers outbound "$CLIENT_NS" "http://127.0.0.1:$admin/ready"

# One request, whatever comes back, and then what each side says who the other is.
version=--http1.1
[ "${BENCH_LOAD:-}" = grpc ] && version=--http2-prior-knowledge
ip netns exec "$CLIENT_NS" curl -s "$version" -o /dev/null -m 10 "http://$VIP:$APP_PORT/" || true
says() { # says NAMESPACE PATTERN...: whether one line of the metrics has all patterns
  local namespace=$1 lines pattern; shift
  lines=$(ip netns exec "$namespace" curl -s -m 5 "http://127.0.0.1:$admin/metrics")
  for pattern in "$@"; do lines=$(grep -F -- "$pattern" <<< "$lines") || return 1; done
}
says "$SERVER_NS" tcp_open_total 'direction="inbound",peer="src"' 'tls="true"' "client_id=\"frontend.$domain\"" &&
  says "$CLIENT_NS" tcp_open_total 'direction="outbound",peer="dst"' 'tls="true"' "server_id=\"backend.$domain\"" && exit 0
echo "linkerd2-proxy's metrics name no mutual TLS between frontend and backend, so nothing can be compared with it"
tail -n 5 "$run"/*.log
exit 1
