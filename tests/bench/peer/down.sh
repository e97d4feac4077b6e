#!/bin/bash
# Stops what up.sh started; harmless when nothing runs.
. "$(dirname "$(readlink -f "$0")")/common.sh"
for name in outbound inbound control-plane; do stop "$name"; done
for namespace in "$CLIENT_NS" "$SERVER_NS"; do
  ip netns exec "$namespace" nft delete table inet causeway 2> /dev/null || true
done
