"""The scenarios of a comparison: which load runs against which pair, and which figures come of it."""
import time

from . import loads
from .watch import Watch, memory


def measured(world, pair, load):
    """A load's figures with what the pair used for it."""
    with Watch(pair.pids) as watch:
        figures = load()
    return {**figures, **watch.figures(figures["requests"])}


def kept(connections):
    """Kept connections, 1 KiB answers, as many requests as go through."""
    def run(world, pair, seconds):
        loads.wrk(world, connections, 1)
        return measured(world, pair, lambda: loads.wrk(world, connections, seconds))
    return run


def fixed_rate(world, pair, seconds):
    return measured(world, pair, lambda: loads.fortio(world, seconds, "-qps", "1000", "-c", "16"))


def new_connections(world, pair, seconds):
    return measured(world, pair, lambda: loads.fortio(world, seconds, "-qps", "0", "-c", "8", "-keepalive=false"))


def bulk(world, pair, seconds):
    figures = measured(world, pair, lambda: loads.wrk(world, 4, seconds, "/1m"))
    return {**figures, "mb_s": round(figures["rps"] * 1.048576, 1)}


def tcp(world, pair, seconds):
    world.serve_bytes()
    with Watch(pair.pids) as watch:
        figures = loads.iperf3(world, seconds)
    return {**figures, **watch.figures(figures["gigabytes"], "cpu_s_gb", 1)}


def idle(world, pair, seconds, count=500):
    """Resident memory per idle HTTP/1.1 connection, both proxies, after one request on each."""
    loads.wrk(world, 16, 1)
    before = {name: memory(pid)[0] for name, pid in pair.pids.items()}
    holder = loads.held(world, count)
    time.sleep(2)  # what a proxy keeps for a busy connection it may give back when that falls silent
    after = {name: memory(pid)[0] for name, pid in pair.pids.items()}
    holder.stdin.close()
    holder.wait()
    each = {f"idle_kib_{name}": round((after[name] - before[name]) / count, 2) for name in after}
    return {**each, "idle_kib": round(sum(each.values()), 2)}


def grpc(world, pair, seconds):
    """gRPC unary calls with 1 KiB, 16 HTTP/2 connections."""
    target = f"{world.env['VIP']}:8080"
    call = lambda s: loads.fortio(world, s, "-grpc", "-ping", "-payload-size", "1024", "-qps", "0", "-c", "16", target=target)
    call(1)
    return measured(world, pair, lambda: call(seconds))


# name: (title, run, needs a pair of its own)
SCENARIOS = {
    "c16": ("1 KiB, 16 connections", kept(16), False),
    "c256": ("1 KiB, 256 connections", kept(256), False),
    "rate": ("1,000 requests/s, 16 connections", fixed_rate, False),
    "new": ("a new connection per request", new_connections, False),
    "bulk": ("1 MiB bodies, 4 connections", bulk, False),
    "tcp": ("one TCP stream", tcp, False),
    "idle": ("500 idle connections", idle, True),
    "grpc": ("gRPC unary, 1 KiB, 16 connections", grpc, True),
}
START = "start and fresh memory"


def started(world, pair, waiting):
    """Time to the first answer, and the memory of proxies that served one request."""
    first = int(waiting.communicate()[0].strip() or 0)
    time.sleep(1)
    each = {name: memory(pid) for name, pid in pair.pids.items()}
    return {"start_ms": round((first - max(pair.started.values())) / 1e6, 1),
            "fresh_mib": round(sum(m[0] for m in each.values()) / 1024, 1),
            "fresh_anonymous_mib": round(sum(m[1] for m in each.values()) / 1024, 1)}
