"""The loads: what a request does, how many at once, and what the generator says about them.

Each load returns figures by name; `requests` counts what was answered as asked, `failed` what was not.
"""
import json, os, re, subprocess, sys, time

WRK_LUA = """done = function(s, l, r)
  local e = s.errors
  io.write(string.format('FIGURES {"requests":%d,"rps":%.1f,"p50_ms":%.4f,"p99_ms":%.4f,"p999_ms":%.4f,"failed":%d}\\n',
    s.requests, s.requests / (s.duration / 1e6), l:percentile(50) / 1e3, l:percentile(99) / 1e3, l:percentile(99.9) / 1e3,
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""
# Opens connections one by one, asks for one page on each, then holds them in silence until its standard input closes.
IDLE = r"""
import socket, sys
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
held = []
for _ in range(count):
    s = socket.create_connection((host, port), 10)
    s.sendall(b"GET / HTTP/1.1\r\nHost: %s:%d\r\n\r\n" % (host.encode(), port))
    head = b""
    while b"\r\n\r\n" not in head:
        head += s.recv(4096) or sys.exit("closed")
    head, body = head.split(b"\r\n\r\n", 1)
    length = next(int(l.split(b":")[1]) for l in head.split(b"\r\n") if l.lower().startswith(b"content-length:"))
    got = len(body)
    while got < length:
        got += len(s.recv(4096) or sys.exit("closed"))
    held.append(s)
print(len(held), flush=True)
sys.stdin.read()
"""
# Asks until a 200 comes and prints when (ns).
# Its ports are none that a load is given: a connection that it tried before the rules were there stays, for as long as the
# connection tracking remembers the attempt, one that passes the rules, and whoever has its port next goes past the proxy.
FIRST = r"""
import itertools, socket, sys, time
host, port, end = sys.argv[1], int(sys.argv[2]), time.monotonic() + 60
own = itertools.cycle(range(65001, 65536))
print(flush=True)
while time.monotonic() < end:
    try:
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("", next(own)))
        s.settimeout(0.02)
        s.connect((host, port))
        s.settimeout(1.0)
        s.sendall(b"GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % host.encode())
        if s.recv(12).endswith(b" 200"):
            print(time.time_ns(), flush=True)
            break
        s.close()
    except OSError:
        pass
    time.sleep(0.004)
"""


def wrk(world, connections, seconds, path="/", script=""):
    """As many requests as the connections carry."""
    lua = f"{world.dir}/wrk.lua"
    with open(lua, "w") as file:
        file.write(WRK_LUA + script)
    out = world.load("wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", "-s", lua, world.url + path)
    found = re.search(r"FIGURES (\{.*\})", out)
    if not found:
        sys.exit(f"wrk says nothing:\n{out}\n{world.logs()}")
    figures = json.loads(found[1])
    figures["requests"] -= min(figures["requests"], figures["failed"])
    return figures


def fortio(world, seconds, *how, target=None):
    """Requests at a fixed rate, with a connection each, or gRPC, as `how` says."""
    out = f"{world.dir}/fortio.json"
    if os.path.exists(out):
        os.unlink(out)
    said = world.load("fortio", "load", "-quiet", "-t", f"{seconds}s", "-r", "0.00002", "-p", "50,99,99.9", "-timeout", "10s",
                      "-allow-initial-errors", "-uniform", "-json", out, *how, target or world.url + "/")
    if not os.path.exists(out):
        sys.exit(f"fortio says nothing:\n{said}\n{world.logs()}")
    result = json.load(open(out))
    share = {str(p["Percentile"]): round(p["Value"] * 1e3, 4) for p in result["DurationHistogram"].get("Percentiles") or []}
    codes = result["RetCodes"]
    good = sum(codes.pop(code, 0) for code in ("200", "SERVING"))  # what is left failed; -1: no answer at all
    return {"requests": good, "failed": result["DurationHistogram"]["Count"] - good, **({"failed_with": codes} if codes else {}),
            "rps": round(result["ActualQPS"], 1), "p50_ms": share.get("50"), "p99_ms": share.get("99"), "p999_ms": share.get("99.9")}


def iperf3(world, seconds):
    """One TCP stream."""
    out = world.load("iperf3", "-c", world.env["VIP"], "-p", world.env["TCP_PORT"], "-t", str(max(1, round(seconds))), "-J")
    end = json.loads(out).get("end", {}).get("sum_received")
    if not end:
        sys.exit(f"iperf3 failed:\n{out}\n{world.logs()}")
    return {"gigabytes": end["bytes"] / 1e9, "gbit_s": round(end["bits_per_second"] / 1e9, 3)}


def held(world, count):
    """Opens idle connections and returns the process that holds them; closing its standard input lets them go."""
    holder = subprocess.Popen(world.inside(world.client, "python3", "-c", IDLE, world.env["VIP"], "8080", str(count), cpu=0),
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    said = holder.stdout.readline().strip()
    if said != str(count):
        sys.exit(f"only {said or 'none'} of {count} connections stood:\n{world.logs()}")
    return holder


def first_answer(world):
    """A process that prints the time of the first 200 through the pair; begun before the pair is."""
    waiting = subprocess.Popen(world.inside(world.client, "python3", "-c", FIRST, world.env["VIP"], "8080", cpu=0),
                               stdout=subprocess.PIPE, text=True)
    waiting.stdout.readline()
    return waiting


def until_quiet(seconds, limit=0.15):
    """Waits (at most so long) until others use less than `limit` cores; returns the cores they use."""
    read = lambda: [int(x) for x in open("/proc/stat").readline().split()[1:9]]
    end = time.monotonic() + seconds
    while True:
        a = read()
        time.sleep(1)
        b = read()
        spent = [y - x for x, y in zip(a, b)]
        busy = (sum(spent) - spent[3] - spent[4] - spent[7]) / max(1, sum(spent)) * os.cpu_count()
        if busy < limit or time.monotonic() > end:
            return round(busy, 2)
