#!/bin/bash
# A pair of ztunnels, one for each pod: bytes over HTTP/2 CONNECT with mutual TLS, one policy, no HTTP. There is no package;
# `setup` says how to build it. Its feature `testing` has an authority of its own and reads workloads from a file.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/../common.sh"
mkdir -p "$run/pids"
ztunnel=$(reachable ztunnel)
cat > "$run/workloads.yaml" <<Y
workloads:
- {uid: c1//v1/Pod/dev/frontend, name: frontend, namespace: dev, serviceAccount: frontend, workloadIps: ["$C_IP"],
   protocol: HBONE, node: local, network: "", trustDomain: cluster.local, services: {}}
- uid: c1//v1/Pod/dev/backend
  name: backend
  namespace: dev
  serviceAccount: backend
  workloadIps: ["$S_IP"]
  protocol: HBONE
  node: local
  network: ""
  trustDomain: cluster.local
  authorizationPolicies: [dev/frontend]
  services: {"dev/backend.dev.svc.cluster.local": {$APP_PORT: $APP_PORT, $TCP_PORT: $TCP_PORT}}
services:
- name: backend
  namespace: dev
  hostname: backend.dev.svc.cluster.local
  vips: [/$VIP]
  ports: {$APP_PORT: $APP_PORT, $TCP_PORT: $TCP_PORT}
policies:
- name: frontend
  namespace: dev
  scope: WorkloadSelector
  action: Allow
  dryRun: false
  rules: [[[{principals: [!Exact "cluster.local/ns/dev/sa/frontend"]}]]]
Y
redirect # what comes through the mesh is for port 15008 and passes the rules, as in Istio's pods
ulimit -n "$(ulimit -Hn)"
node() { # node NAME NAMESPACE ACCOUNT
  start "$1" "$2" "$PROXY_UID" env FAKE_CA=true XDS_ADDRESS= LOCAL_XDS_PATH="$run/workloads.yaml" PROXY_MODE=dedicated \
    PROXY_WORKLOAD_INFO="dev/$3/$3" ZTUNNEL_WORKER_THREADS=1 NODE_NAME=local NETWORK= CLUSTER_ID=c1 RUST_LOG=warn \
    ENABLE_ORIG_SRC=false IPV6_ENABLED=false "$ztunnel" proxy ztunnel
}
node inbound "$SERVER_NS" backend
node outbound "$CLIENT_NS" frontend
answers outbound "$CLIENT_NS" http://127.0.0.1:15021/healthz/ready
answers inbound "$SERVER_NS" http://127.0.0.1:15021/healthz/ready
