#!/bin/bash
# An Envoy pair as Istio would configure it (config.py), one worker each; `setup` puts Envoy where it is found.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/../common.sh"
. "$here/../certs.sh"
mkdir -p "$run/pids"
certificates "$run/certs"
"$here/config.py" "$run"
redirect
envoy=$(reachable envoy)
ulimit -n "$(ulimit -Hn)"
start inbound "$SERVER_NS" "$PROXY_UID" "$envoy" -c "$run/inbound.json" --concurrency 1 --disable-hot-restart --log-level warning
start outbound "$CLIENT_NS" "$PROXY_UID" "$envoy" -c "$run/outbound.json" --concurrency 1 --disable-hot-restart --log-level warning
answers outbound "$CLIENT_NS" http://127.0.0.1:15000/ready
answers inbound "$SERVER_NS" http://127.0.0.1:15000/ready
