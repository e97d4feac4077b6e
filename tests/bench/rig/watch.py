"""What both proxies of a pair use while a load runs: processor time and memory, from /proc."""
import os, re, threading, time

TICK = os.sysconf("SC_CLK_TCK")


def processor(pid):
    """Seconds of all threads: (in user and kernel mode, of it in user mode)."""
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK, int(fields[11]) / TICK


def stolen():
    """Seconds of this machine's processors that its hypervisor gave to others."""
    return int(open("/proc/stat").readline().split()[8]) / TICK


def memory(pid):
    """Resident memory in KiB: (all, anonymous)."""
    text = open(f"/proc/{pid}/status").read()
    read = lambda what: int(re.search(rf"^{what}:\s+(\d+)", text, re.M)[1])
    return read("VmRSS"), read("RssAnon")


class Watch:
    """A context manager around a load; `figures` then says what the pair used for it."""

    def __init__(self, pids):
        self.pids = pids

    def __enter__(self):
        self.peak = {name: 0 for name in self.pids}
        self.done = threading.Event()
        self.sampler = threading.Thread(target=self._sample, daemon=True)
        self.sampler.start()
        self.before = {name: processor(pid) for name, pid in self.pids.items()}
        self.stolen, self.began = stolen(), time.monotonic()
        return self

    def _sample(self):
        while not self.done.wait(0.2):
            for name, pid in self.pids.items():
                try:
                    self.peak[name] = max(self.peak[name], memory(pid)[0])
                except (OSError, TypeError):
                    return

    def __exit__(self, *_):
        used = {name: [now - then for now, then in zip(processor(pid), self.before[name])] for name, pid in self.pids.items()}
        self.used, self.program = ({name: spent[of] for name, spent in used.items()} for of in (0, 1))
        self.stolen = (stolen() - self.stolen) / (time.monotonic() - self.began)
        self.done.set()
        self.sampler.join()

    def figures(self, units, name="cpu_us", scale=1e6):
        """Processor time per unit of work, by proxy and of both, the largest resident memory of both (MiB), and how many of
        the machine's processors the hypervisor gave to others meanwhile."""
        if not self.pids:
            return {}
        each = {f"{name}_{proxy}": round(used / max(units, 1e-9) * scale, 4) for proxy, used in self.used.items()}
        return {**each, name: round(sum(each.values()), 4), "rss_mib": round(sum(self.peak.values()) / 1024, 1), "stolen_cores": round(self.stolen, 3)}
