"""Two pods as network namespaces, the applications in them, and one pair of proxies between them.

    load (client namespace) -> outbound proxy -> mutual TLS over a veth pair -> inbound proxy -> server

Everything carries this process's id and ends with `World`; nothing of the host changes.
"""
import os, shutil, signal, subprocess, sys, tempfile, time

BENCH = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "causeway", "bench")
SEARCH = ":".join([CACHE, os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
NGINX = """daemon off; user root; worker_processes 1; pid {d}/nginx.pid; error_log {d}/nginx.err warn;
events {{ worker_connections 9000; }}
http {{ access_log off; default_type text/plain; keepalive_timeout 3600s; keepalive_requests 1000000000; tcp_nodelay on;
sendfile on; client_body_temp_path {d}/b; proxy_temp_path {d}/p; fastcgi_temp_path {d}/f; uwsgi_temp_path {d}/u;
scgi_temp_path {d}/s;
server {{ listen *:8080 {protocol} backlog=8192; location = /1m {{ root {d}; }} location / {{ return 200 "{body}"; }} }} }}
"""


def program(name):
    """Where a program is, or None: in the benchmarks' cache first (see `tests/bench/setup`)."""
    return shutil.which(name, path=SEARCH)


# How TCP's senders are paced, unless it is asked for: Linux's own default, or what every namespace may have. A machine's BBR holds
# segments back by timers, which cost more than a proxy does.
CONGESTION = ("cubic", "reno")


class World:
    """Namespaces, a scratch directory and the servers; `pair` brings up one pair of proxies at a time."""

    def __init__(self, pin=True, congestion=CONGESTION, ahead=False):
        """`congestion`: by name, the first that the namespaces may have; `ahead`: of all else that runs on the machine."""
        name = f"cwb{os.getpid()}"
        self.pinned = pin and os.cpu_count() > 1
        self.ahead = ahead
        self.env = dict(os.environ, CLIENT_NS=f"{name}c", SERVER_NS=f"{name}s", C_IP="10.77.0.1", S_IP="10.77.0.2",
                        VIP="10.96.0.10", MASK="24", APP_PORT="8080", TCP_PORT="5201", PROXY_UID="2102",
                        OUT_PORT="15001", IN_PORT="15006", PATH=SEARCH)
        self.client, self.server = self.env["CLIENT_NS"], self.env["SERVER_NS"]
        self.url = f"http://{self.env['VIP']}:8080"
        self.running = {}
        self.speaks_http2 = False
        self.wanted = congestion

    def __enter__(self):
        if os.geteuid() != 0:
            sys.exit("the benchmarks make network namespaces: run them as root")
        self.dir = tempfile.mkdtemp(prefix="causeway-bench-")
        os.chmod(self.dir, 0o755)
        self.env["BENCH_RUN"] = f"{self.dir}/pair"
        for kill in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(kill, lambda *_: sys.exit("ended"))
        try:
            self._namespaces()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in list(self.running):
            self.stop(name)
        listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout.split()
        for namespace in (self.client, self.server):
            if namespace not in listed:
                continue
            for pid in self.sh("ip", "netns", "pids", namespace).split():
                os.kill(int(pid), signal.SIGKILL)
            self.sh("ip", "netns", "del", namespace)
        shutil.rmtree(self.dir, ignore_errors=True)

    def sh(self, *command, check=True, **more):
        """What a command prints; a failure ends the run with the command and its complaint."""
        done = subprocess.run(command, text=True, capture_output=True, env=self.env, **more)
        if check and done.returncode:
            sys.exit(f"{' '.join(map(str, command))}: {done.stderr.strip() or done.stdout.strip() or done.returncode}")
        return done.stdout

    def inside(self, namespace, *command, cpu=None):
        """The words that run a command in a pod, on one processor if processes are pinned."""
        pin = self.placed(cpu) if cpu is not None else []
        return ["ip", "netns", "exec", namespace, *pin, *command]

    def placed(self, cpu):
        """The words before a command that say where it runs, and before whom."""
        return [*(["chrt", "-f", "1"] if self.ahead else []), *(["taskset", "-c", str(cpu)] if self.pinned else [])]

    def load(self, *command):
        """The output of a load generator beside the client's proxy."""
        return self.sh(*self.inside(self.client, *command, cpu=0), check=False)

    def _namespaces(self):
        sh, env = self.sh, self.env
        for namespace in (self.client, self.server):
            sh("ip", "netns", "add", namespace)
        sh("ip", "link", "add", "eth0", "netns", self.client, "type", "veth", "peer", "name", "eth0", "netns", self.server)
        for namespace, address in ((self.client, env["C_IP"]), (self.server, env["S_IP"])):
            sh("ip", "-n", namespace, "addr", "add", f"{address}/{env['MASK']}", "dev", "eth0")
            for device in ("lo", "eth0"):
                sh("ip", "-n", namespace, "link", "set", device, "up")
            # So that a run with a connection per request lacks neither ports nor room in the accept queue.
            sh(*self.inside(namespace, "sysctl", "-qw", "net.ipv4.ip_local_port_range=1024 65000",
                            "net.ipv4.tcp_tw_reuse=1", "net.core.somaxconn=8192", "net.ipv4.tcp_max_syn_backlog=8192",
                            "net.ipv4.ip_local_reserved_ports=5201,8080,15000-15099,18080"))
            self.congestion = self._congestion(namespace)
        sh("ip", "-n", self.client, "route", "add", f"{env['VIP']}/32", "via", env["S_IP"], "src", env["C_IP"])

    def _congestion(self, namespace):
        """Sets and returns what the senders of a namespace are paced by."""
        setting = "net.ipv4.tcp_congestion_control"
        for name in self.wanted:
            self.sh(*self.inside(namespace, "sysctl", "-qw", f"{setting}={name}"), check=False)
            if self.sh(*self.inside(namespace, "sysctl", "-n", setting)).strip() == name:
                return name
        sys.exit(f"no namespace may have {' or '.join(self.wanted)} here; see net.ipv4.tcp_allowed_congestion_control")

    def addresses(self, network):
        """Gives the server's pod every address of a network, as if many pods stood there."""
        self.sh("ip", "-n", self.server, "route", "add", "local", network, "dev", "lo")
        self.sh("ip", "-n", self.client, "route", "add", network, "via", self.env["S_IP"], "src", self.env["C_IP"])

    def spawn(self, name, namespace, *command, cpu=None):
        """Starts a program that `stop(name)` or the end of the world ends."""
        log = open(f"{self.dir}/{name}.log", "w")
        self.running[name] = subprocess.Popen(self.inside(namespace, *command, cpu=cpu), env=self.env, stdout=log,
                                              stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)

    def stop(self, name):
        """Ends a program, if it runs."""
        process = self.running.pop(name, None)
        if process:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def serve_http(self, http2=False):
        """nginx on port 8080: 1 KiB at every path, 1 MiB at `/1m`; over HTTP/2 it speaks nothing else."""
        self.stop("app")
        self.speaks_http2 = http2
        with open(f"{self.dir}/nginx.conf", "w") as conf:
            conf.write(NGINX.format(d=self.dir, body="x" * 1024, protocol="http2" if self.speaks_http2 else ""))
        with open(f"{self.dir}/1m", "wb") as big:
            big.write(b"y" * 1048576)
        self.spawn("app", self.server, "nginx", "-e", f"{self.dir}/nginx.err", "-c", f"{self.dir}/nginx.conf", cpu=0)
        self.answers(self.server, "http://127.0.0.1:8080/")

    def serve_grpc(self):
        """fortio's gRPC ping service on port 8080."""
        self.stop("app")
        self.speaks_http2 = False
        self.spawn("app", self.server, "fortio", "server", "-quiet", "-grpc-port", "8080", "-http-port",
                   "127.0.0.1:18080", "-redirect-port", "disabled", "-tcp-port", "disabled", "-udp-port", "disabled", cpu=0)
        self.answers(self.server, "http://127.0.0.1:18080/fortio/")

    def serve_bytes(self):
        """iperf3 on its own port."""
        if "bytes" not in self.running:
            self.spawn("bytes", self.server, "iperf3", "-s", "-p", self.env["TCP_PORT"], cpu=0)
            self.until(lambda: self.env["TCP_PORT"] in self.sh(*self.inside(self.server, "ss", "-Hltn")), "iperf3")

    def answers(self, namespace, url, seconds=20):
        """Waits until a URL answers 200."""
        as_the_app = ["--http2-prior-knowledge"] if self.speaks_http2 else []
        command = self.inside(namespace, "curl", "-sf", *as_the_app, "-o", "/dev/null", "-m", "5", url)
        self.until(lambda: subprocess.run(command, env=self.env, stderr=subprocess.DEVNULL).returncode == 0, url, seconds)

    def until(self, condition, what, seconds=20):
        """Polls a condition; its absence at the deadline ends the run."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                sys.exit(f"{what} does not answer after {seconds} s; logs:\n{self.logs()}")
            time.sleep(0.02)

    def logs(self):
        """The last lines of whatever ran."""
        return self.sh("sh", "-c", f"tail -n 5 {self.dir}/*.log {self.dir}/pair/*.log 2>/dev/null", check=False)

    def pair(self, peer, **settings):
        """Brings up a pair; a context manager that takes it down. `settings` become environment variables of up.sh."""
        return Pair(self, peer, settings)


class Pair:
    """A running pair of proxies: `pids` maps outbound and inbound to process ids, `started` to their start (ns)."""

    def __init__(self, world, peer, settings):
        self.world, self.peer = world, peer
        self.env = dict(world.env, **{k: str(v) for k, v in settings.items()})
        self.place = f"{BENCH}/peers/{peer}"

    def __enter__(self):
        run = self.env["BENCH_RUN"]
        shutil.rmtree(run, ignore_errors=True)
        os.makedirs(f"{run}/pids")
        with open(f"{self.world.dir}/up.log", "w") as log:
            done = subprocess.run([*self.world.placed(1), f"{self.place}/up.sh"], env=self.env, stdout=log, stderr=subprocess.STDOUT,
                                  stdin=subprocess.DEVNULL)
        if done.returncode:
            said = open(f"{self.world.dir}/up.log").read()[-600:]
            self.__exit__()
            sys.exit(f"{self.peer} does not start: {said}")
        read = lambda name: int(open(f"{run}/pids/{name}").read())
        self.pids = {name: read(name) for name in ("outbound", "inbound") if os.path.exists(f"{run}/pids/{name}")}
        self.started = {name: read(f"{name}.t0") for name in self.pids}
        return self

    def end(self, seconds=120):
        """Asks both proxies to end, as they write what they counted only then, and waits until they have."""
        for pid in self.pids.values():
            os.kill(pid, signal.SIGTERM)
        for name, pid in self.pids.items():
            self.world.until(lambda: not os.path.exists(f"/proc/{pid}"), f"the end of {name}", seconds)

    def __exit__(self, *_):
        subprocess.run([f"{self.place}/down.sh"], env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
