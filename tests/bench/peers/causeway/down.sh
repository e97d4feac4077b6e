#!/bin/bash
# Stops what up.sh started; harmless when nothing runs.
. "$(dirname "$(readlink -f "$0")")/../common.sh"
for name in outbound inbound control-plane; do stop "$name"; done
forget
