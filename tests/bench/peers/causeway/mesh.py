#!/usr/bin/env python3
"""Prints the mesh of a benchmark: a backend split 90/10 over two subsets, one ALLOW policy, as many routes and endpoints
as BENCH_ROUTES and BENCH_ENDPOINTS (../pods.py) say. Every request of a load takes the last route; the endpoints have one
identity. BENCH_CALLED adds Services of the same backend, BENCH_SERVICES
Services with pods in other namespaces, which nobody calls.
"""
import json, os, sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), ".."))
from pods import FIRST, MORE, PODS

ROUTES, CALLED, SERVICES = (int(os.environ.get(f"BENCH_{name}", default)) for name, default in
                            (("ROUTES", 1), ("CALLED", 0), ("SERVICES", 0)))
CLIENT, VIP = os.environ.get("C_IP", "10.77.0.1"), os.environ.get("VIP", "10.96.0.10")
APP, TCP = int(os.environ.get("APP_PORT", 8080)), int(os.environ.get("TCP_PORT", 5201))


def resource(version, kind, name, **rest):
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "dev", **rest.pop("metadata", {})}, **rest}


def ours(kind, name, **spec):
    return resource("causeway.dev/v1alpha1", kind, name, spec=spec)


def pod(name, account, address, **labels):
    return resource("v1", "Pod", name, metadata={"labels": {"app": account, "causeway.dev/injected": "true", **labels}},
                    spec={"serviceAccountName": account, "containers": [{"name": "app", "image": "app"}]},
                    status={"phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
                            "conditions": [{"type": "Ready", "status": "True"}]})


def service(name, address, app):
    return resource("v1", "Service", name, spec={"clusterIP": address, "selector": {"app": app}, "ports": [
        {"name": "http", "port": APP, "targetPort": APP}, {"name": "tcp", "port": TCP, "targetPort": TCP}]})


SPLIT = [{"destination": {"host": "backend", "subset": "v1"}, "weight": 90},
         {"destination": {"host": "backend", "subset": "v2"}, "weight": 10}]
# The routes before the last one match other paths of the same shape, and a header besides: none can be thrown away early.
routes = [{"match": [{"port": APP, "uri": {"prefix": f"/area-{i}/of/the/shop"}, "headers": {"x-tenant": {"exact": f"t{i}"}}}],
           "route": SPLIT} for i in range(ROUTES - 1)]
mesh = [service("backend", VIP, "backend"), pod("frontend", "frontend", CLIENT),
        *(pod(f"backend-{i}" if i else "backend", "backend", ip, **{subset: "1" for subset, ips in PODS.items() if ip in ips})
          for i, ip in enumerate([FIRST, *MORE]))]
mesh += [service(f"called-{i}", f"10.79.0.{i + 1}", "backend") for i in range(CALLED)]
for i in range(SERVICES):
    place = f"{i // 250}.{i % 250 + 1}"
    for one in service("other", f"10.100.{place}", "other"), pod("other", "other", f"10.80.{place}"):
        one["metadata"]["namespace"] = f"area-{i}"
        mesh.append(one)
mesh += [
    ours("DestinationRule", "backend", host="backend",
         subsets=[{"name": name, "labels": {name: "1"}} for name in PODS]),
    ours("VirtualService", "backend", hosts=["backend"], http=routes + [{"match": [{"port": APP}], "route": SPLIT}]),
    ours("AuthorizationPolicy", "frontend", selector={"matchLabels": {"app": "backend"}}, action="ALLOW",
         rules=[{"from": [{"source": {"principals": ["cluster.local/ns/dev/sa/frontend"]}}]}]),
]
sys.stdout.write("\n---\n".join(json.dumps(r) for r in mesh))  # JSON is YAML
