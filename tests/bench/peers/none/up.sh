#!/bin/bash
# No proxies: the service's address becomes the server's, as kube-proxy would do it.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/../common.sh"
ip netns exec "$CLIENT_NS" nft add table ip bench
ip netns exec "$CLIENT_NS" nft add chain ip bench output '{ type nat hook output priority -100; }'
ip netns exec "$CLIENT_NS" nft add rule ip bench output ip daddr "$VIP" dnat to "$S_IP"
