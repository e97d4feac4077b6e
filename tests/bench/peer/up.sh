#!/bin/bash
# Starts a control plane and a pair of Causeway proxies for a rig of two namespaces, and redirects their traffic.
# CAUSEWAY_BIN_DIR says where the optimised binaries are (default: this repository's target/dist).
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/common.sh"
rm -rf run
mkdir -p run/source run/out run/in pids
chmod 755 run

cat > run/source/mesh.yaml <<Y
apiVersion: v1
kind: Service
metadata: {name: backend, namespace: dev}
spec:
  clusterIP: $VIP
  selector: {app: backend}
  ports:
  - {name: http, port: $APP_PORT, targetPort: $APP_PORT}
  - {name: tcp, port: $TCP_PORT, targetPort: $TCP_PORT}
---
apiVersion: v1
kind: Pod
metadata: {name: backend, namespace: dev, labels: {app: backend, blue: "1", green: "1", causeway.dev/injected: "true"}}
spec: {serviceAccountName: backend, containers: [{name: app, image: app}]}
status: {phase: Running, podIP: $S_IP, podIPs: [{ip: $S_IP}], conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: frontend, namespace: dev, labels: {app: frontend, causeway.dev/injected: "true"}}
spec: {serviceAccountName: frontend, containers: [{name: app, image: app}]}
status: {phase: Running, podIP: $C_IP, podIPs: [{ip: $C_IP}], conditions: [{type: Ready, status: "True"}]}
---
apiVersion: causeway.dev/v1alpha1
kind: DestinationRule
metadata: {name: backend, namespace: dev}
spec:
  host: backend
  subsets: [{name: v1, labels: {blue: "1"}}, {name: v2, labels: {green: "1"}}]
---
apiVersion: causeway.dev/v1alpha1
kind: VirtualService
metadata: {name: backend, namespace: dev}
spec:
  hosts: [backend]
  http:
  - match: [{port: $APP_PORT}]
    route:
    - {destination: {host: backend, subset: v1}, weight: 90}
    - {destination: {host: backend, subset: v2}, weight: 10}
---
apiVersion: causeway.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: frontend, namespace: dev}
spec:
  selector: {matchLabels: {app: backend}}
  action: ALLOW
  rules: [{from: [{source: {principals: [cluster.local/ns/dev/sa/frontend]}}]}]
Y

ulimit -n "$(ulimit -Hn)"
start control-plane "$SERVER_NS" 0 "$bin/causeway-control-plane" --source "dir:$here/run/source" \
  --state "$here/run/state" --listen "$S_IP:15010" --admin 127.0.0.1:15014
for _ in $(seq 200); do
  ip netns exec "$SERVER_NS" curl -sf -o /dev/null http://127.0.0.1:15014/readyz && break
  sleep 0.05
done
# Our own rules, whatever the rig has: a proxy is not ready while they are not there.
ip netns exec "$CLIENT_NS" "$bin/causeway-proxy" redirect --apply --proxy-uid "$PROXY_UID"
ip netns exec "$SERVER_NS" "$bin/causeway-proxy" redirect --apply --proxy-uid "$PROXY_UID" --exclude-inbound-ports 15010
cp run/state/trust-bundle.pem run/bundle.pem
proxy() { # proxy NAME NAMESPACE ACCOUNT
  "$bin/causeway-control-plane" token --state run/state "dev/$3" --pod "$3" > "run/$3.token"
  chown "$PROXY_UID" "run/$3.token" run/bundle.pem
  start "$1" "$2" "$PROXY_UID" "$bin/causeway-proxy" --control-plane "https://$S_IP:15010" \
    --trust-bundle "$here/run/bundle.pem" --token-file "$here/run/$3.token" --workload "dev/$3" \
    --outbound '[::]:15001' --inbound '[::]:15006' --access-log off --workers "${CAUSEWAY_WORKERS:-1}"
}
proxy inbound "$SERVER_NS" backend
proxy outbound "$CLIENT_NS" frontend
for namespace in "$CLIENT_NS" "$SERVER_NS"; do
  for _ in $(seq 200); do
    ip netns exec "$namespace" curl -sf -o /dev/null http://127.0.0.1:15020/ready && continue 2
    sleep 0.05
  done
  echo "the proxy in $namespace is not ready"
  tail -5 run/*.log
  exit 1
done
