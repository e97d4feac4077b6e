"""Counts of what a pair does: exactly so many requests, and callgrind's files of the proxies that served them."""
import collections, os, re, shutil, subprocess, sys, tempfile

# Requests of the shorter of two lives.
WARM = 300
LOADS = {"keepalive": ("/", ["--h1"]), "bulk": ("/1m", ["--h1"]), "h2": ("/", [])}


def h2load(world, load, requests, connections):
    """Exactly so many requests; all must succeed."""
    path, flags = LOADS[load]
    out = world.load("h2load", *flags, "-n", str(requests), "-c", str(connections), world.url + path)
    done = re.search(r"(\d+) total, \d+ started, \d+ done, (\d+) succeeded", out)
    if not done or int(done[2]) != requests:
        sys.exit(f"not every request succeeded:\n{out}\n{world.logs()}")


def short(name):
    """A function's name without hashes, crate ids and most of its generics."""
    name = re.sub(r"::h[0-9a-f]{16}$", "", re.sub(r"\[[0-9a-f]{16}\]", "", name))
    while len(name) > 110 and re.search(r"<[^<>]*>", name):
        name = re.sub(r"<[^<>]*>", "", name)
    return name[:150]


def functions(file, inclusive):
    """(total, {function: instructions}) of a callgrind file."""
    how = ["--inclusive=yes" if inclusive else "--inclusive=no", "--threshold=100", "--auto=no"]
    text = subprocess.run(["callgrind_annotate", *how, file], capture_output=True, text=True).stdout
    total = int(re.search(r"^\s*([\d,]+)\s.*PROGRAM TOTALS", text, re.M)[1].replace(",", ""))
    found = collections.Counter()
    for count, place in re.findall(r"^\s*([\d,]+)\s*\(\s*[\d.]+%\)\s+(\S.*)$", text.split("file:function")[-1], re.M):
        name = re.sub(r"^.*?:(?=[^:])", "", re.sub(r"\s*\[[^\]]*\]\s*$", "", place), count=1)
        name, count = short(re.sub(r"'\d+$", "", name)), int(count.replace(",", ""))
        # A function that calls itself stands there once per depth, the callees in each.
        found[name] = max(found[name], count) if inclusive else found[name] + count
    return total, found


def profiles(world, arguments, requests, **settings):
    """The callgrind files of a pair that lived to serve so many requests."""
    out = tempfile.mkdtemp(prefix="callgrind-", dir=world.dir)
    os.chown(out, int(world.env["PROXY_UID"]), -1)
    wrap = {f"WRAP_{name}": f"valgrind --tool=callgrind --vgdb=no --callgrind-out-file={out}/{name}.callgrind"
            for name in ("outbound", "inbound")}
    with world.pair("causeway", READY_TRIES=1200, **wrap, **settings) as pair:
        world.answers(world.client, world.url + "/", 60)
        h2load(world, arguments.load, requests, arguments.connections)
        pair.end()
    if arguments.keep:
        os.makedirs(arguments.keep, exist_ok=True)
        for name in pair.pids:
            shutil.copy(f"{out}/{name}.callgrind", f"{arguments.keep}/{name}-{requests}.callgrind")
    return {name: f"{out}/{name}.callgrind" for name in pair.pids}
