#!/bin/bash
# Stops what up.sh started; harmless when nothing runs.
. "$(dirname "$(readlink -f "$0")")/../common.sh"
stop outbound
stop inbound
stop control-outbound
stop control-inbound
forget
