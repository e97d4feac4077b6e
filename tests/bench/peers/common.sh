# Shared by every pair's up.sh and down.sh. Who calls them exports CLIENT_NS, SERVER_NS, C_IP, S_IP, MASK, VIP, APP_PORT,
# TCP_PORT, PROXY_UID and BENCH_RUN, the directory of this run; without the last, files go beside the script.
here=$(dirname "$(readlink -f "${BASH_SOURCE[1]}")")
export PROXY_UID=${PROXY_UID:-2102} APP_PORT=${APP_PORT:-8080} TCP_PORT=${TCP_PORT:-5201} MASK=${MASK:-24}
export OUT_PORT=${OUT_PORT:-15001} IN_PORT=${IN_PORT:-15006}
run=${BENCH_RUN:-$here}

# start NAME NAMESPACE UID CMD...: in the background; pids/NAME has its id, pids/NAME.t0 when it began (ns).
# WRAP_NAME may hold words to put before the command (a profiler).
start() {
  local name=$1 namespace=$2 uid=$3 wrap; shift 3
  wrap=WRAP_${name//-/_}
  date +%s%N > "$run/pids/$name.t0"
  # shellcheck disable=SC2086 # words
  (exec ip netns exec "$namespace" setpriv --reuid "$uid" --regid "$uid" --clear-groups ${!wrap:-} "$@") \
    > "$run/$name.log" 2>&1 < /dev/null &
  echo $! > "$run/pids/$name"
}

stop() {
  local file=$run/pids/$1 pid
  [ -f "$file" ] || return 0
  pid=$(cat "$file")
  rm -f "$file" "$file.t0"
  kill -KILL "$pid" 2>/dev/null || true
  while kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
}

# answers NAME NAMESPACE URL: waits until a URL of program NAME does, READY_TRIES times (a profiled one starts slowly)
answers() {
  local name=$1; shift
  for _ in $(seq "${READY_TRIES:-200}"); do
    ip netns exec "$1" curl -sf -o /dev/null -m 5 "$2" && return 0
    kill -0 "$(cat "$run/pids/$name")" 2> /dev/null || break
    sleep 0.05
  done
  echo "$2 in $1 does not answer"
  tail -n 5 "$run"/*.log
  exit 1
}

# redirect: what the client's pod sends to the service or the server's pod goes to OUT_PORT, what comes to the server's
# pod to IN_PORT; for pairs that have no rules of their own
redirect() {
  ip netns exec "$CLIENT_NS" nft -f - <<N
table ip bench {
  chain output {
    type nat hook output priority -100;
    meta skuid != $PROXY_UID ip daddr { $VIP, $S_IP } tcp dport { $APP_PORT, $TCP_PORT } redirect to :$OUT_PORT
  }
}
N
  ip netns exec "$SERVER_NS" nft -f - <<N
table ip bench {
  chain prerouting {
    type nat hook prerouting priority -100;
    tcp dport { $APP_PORT, $TCP_PORT } redirect to :$IN_PORT
  }
}
N
}

# reachable PROGRAM: prints where the proxies' user finds a program that may be in root's cache
reachable() {
  local found
  found=$(command -v "$1") || { echo "there is no $1: run tests/bench/setup" >&2; exit 1; }
  setpriv --reuid "$PROXY_UID" --clear-groups test -x "$found" && { echo "$found"; return; }
  cp --link "$found" "$run/$1" 2> /dev/null || cp "$found" "$run/$1"
  echo "$run/$1"
}

# forget: no rules of any pair
forget() {
  local namespace table
  for namespace in "$CLIENT_NS" "$SERVER_NS"; do
    for table in "ip bench" "inet causeway"; do
      # shellcheck disable=SC2086 # words
      ip netns exec "$namespace" nft delete table $table 2> /dev/null || true
    done
  done
}
