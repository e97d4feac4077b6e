# Shared by up.sh and down.sh. The rig that calls them exports CLIENT_NS, SERVER_NS, C_IP, S_IP, VIP and more.
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
cd "$here"
export PROXY_UID=${PROXY_UID:-2102} APP_PORT=${APP_PORT:-8080} TCP_PORT=${TCP_PORT:-5201}
bin=${CAUSEWAY_BIN_DIR:-$(cd ../../.. && pwd)/target/dist}

# start NAME NAMESPACE UID CMD...: in the background; pids/NAME has its id, pids/NAME.t0 when it began (ns)
start() {
  local name=$1 namespace=$2 uid=$3; shift 3
  date +%s%N > "pids/$name.t0"
  (exec ip netns exec "$namespace" setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@") \
    > "run/$name.log" 2>&1 < /dev/null &
  echo $! > "pids/$name"
}

stop() {
  local file=pids/$1 pid
  [ -f "$file" ] || return 0
  pid=$(cat "$file")
  rm -f "$file" "$file.t0"
  kill -KILL "$pid" 2>/dev/null || true
  while kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
}
