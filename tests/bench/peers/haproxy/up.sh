#!/bin/bash
# A haproxy pair: HTTP/1.1 -> HTTP/2 over mutual TLS -> HTTP/1.1, weights 90/10, one thread each. It checks certificates
# against the authority but no SPIFFE ID, has no policy and no control plane: the floor to come near, not a mesh.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/../common.sh"
. "$here/../certs.sh"
mkdir -p "$run/pids"
certificates "$run/certs"
switch=http inside=""
# haproxy must be told when the application speaks HTTP/2 without TLS.
[ "${BENCH_LOAD:-}" = grpc ] && switch="http proto h2" inside="proto h2"
common() {
  cat <<H
global
 nbthread 1
 maxconn 9000
 ssl-default-bind-options ssl-min-ver TLSv1.3
defaults
 mode tcp
 timeout connect 10s
 timeout client 1h
 timeout server 1h
 http-reuse always
H
}
{ common; cat <<H
frontend out
 bind 0.0.0.0:$OUT_PORT
 tcp-request content switch-mode $switch if { dst_port $APP_PORT }
 use_backend tcp if { dst_port $TCP_PORT }
 default_backend http
backend http
 mode http
 balance roundrobin
 option redispatch
 retries 2
 retry-on conn-failure 503
 server v1 $S_IP:$APP_PORT weight 90 ssl crt $run/certs/frontend.pem ca-file $run/certs/ca.crt verify required alpn h2
 server v2 $S_IP:$APP_PORT weight 10 ssl crt $run/certs/frontend.pem ca-file $run/certs/ca.crt verify required alpn h2
backend tcp
 server v1 $S_IP:$TCP_PORT ssl crt $run/certs/frontend.pem ca-file $run/certs/ca.crt verify required
H
} > "$run/out.cfg"
{ common; cat <<H
frontend in
 bind 0.0.0.0:$IN_PORT ssl crt $run/certs/backend.pem ca-file $run/certs/ca.crt verify required alpn h2,http/1.1
 tcp-request content switch-mode http if { dst_port $APP_PORT }
 use_backend tcp if { dst_port $TCP_PORT }
 default_backend http
backend http
 mode http
 server app 127.0.0.1:$APP_PORT $inside
backend tcp
 server app 127.0.0.1:$TCP_PORT
H
} > "$run/in.cfg"
redirect
ulimit -n "$(ulimit -Hn)"
start inbound "$SERVER_NS" "$PROXY_UID" haproxy -db -f "$run/in.cfg"
start outbound "$CLIENT_NS" "$PROXY_UID" haproxy -db -f "$run/out.cfg"
for side in "outbound $CLIENT_NS $OUT_PORT" "inbound $SERVER_NS $IN_PORT"; do
  read -r name namespace port <<< "$side"
  for _ in $(seq 200); do
    ip netns exec "$namespace" ss -Hltn "sport = :$port" | grep -q . && continue 2
    kill -0 "$(cat "$run/pids/$name")" 2> /dev/null || break
    sleep 0.02
  done
  echo "haproxy ($name) does not listen"
  cat "$run/$name.log"
  exit 1
done
