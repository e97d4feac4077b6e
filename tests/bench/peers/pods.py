"""Where the endpoints of a benchmark's Service stand, the same for every peer: as many as BENCH_ENDPOINTS says, one of ten in
the smaller subset; a single one is in both. Those beside the first are addresses of its namespace (`World.addresses`)."""
import os

COUNT, FIRST = int(os.environ.get("BENCH_ENDPOINTS", 1)), os.environ.get("S_IP", "10.77.0.2")
MORE = [f"10.78.{i // 250}.{i % 250 + 1}" for i in range(COUNT - 1)]
# {subset: [address]}
PODS = {"v1": [FIRST, *(ip for i, ip in enumerate(MORE) if i % 10)], "v2": MORE[::10] or [FIRST]}
