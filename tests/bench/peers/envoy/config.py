#!/usr/bin/env python3
"""config.py DIRECTORY: writes outbound.json and inbound.json for a pair of Envoys there, shaped as Istio's sidecars are:
original destination, protocol detection, a 90/10 route with retries, mutual TLS with the peer's SPIFFE ID checked on both
sides, one RBAC policy, HTTP/2 between the sidecars, endpoints as ../pods.py has them. Istio's optional filters (statistics,
faults, CORS) are left out, so this Envoy has less to do than Istio's. For BENCH_LOAD=grpc the protocol is the client's all
the way.
"""
import json, os, sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), ".."))
from pods import PODS

place = sys.argv[1]
SERVER, VIP = os.environ["S_IP"], os.environ["VIP"]
APP, TCP, OUT, IN = (int(os.environ[name]) for name in ("APP_PORT", "TCP_PORT", "OUT_PORT", "IN_PORT"))
GRPC = os.environ.get("BENCH_LOAD") == "grpc"
SPIFFE = "spiffe://cluster.local/ns/dev/sa/"
NO_LIMIT = 2**32 - 1


def typed(kind, **fields):
    return {"@type": f"type.googleapis.com/envoy.{kind}", **fields}


def named(name, kind, **fields):
    return {"name": f"envoy.{name}", "typed_config": typed(kind, **fields)}


def address(ip, port):
    return {"socket_address": {"address": ip, "port_value": port}}


def context(who, alpn, peer=None):
    trust = {"trusted_ca": {"filename": f"{place}/certs/ca.crt"}}
    if peer:
        trust["match_typed_subject_alt_names"] = [{"san_type": "URI", "matcher": {"exact": SPIFFE + peer}}]
    made = {"tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificates": [{"certificate_chain": {"filename": f"{place}/certs/{who}.crt"},
                                  "private_key": {"filename": f"{place}/certs/{who}.key"}}],
            "validation_context": trust}
    return {**made, "alpn_protocols": alpn} if alpn else made


def http_options():
    kind = "extensions.upstreams.http.v3.HttpProtocolOptions"
    how = ({"use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": {}}} if GRPC
           else {"explicit_http_config": {"http2_protocol_options": {}}})
    return {f"envoy.{kind}": typed(kind, **how)}


BREAKERS = {"thresholds": [{"max_connections": NO_LIMIT, "max_pending_requests": NO_LIMIT, "max_requests": NO_LIMIT,
                            "max_retries": NO_LIMIT, "track_remaining": True}]}


def cluster(name, ips, port, tls=None, http=None, balance="LEAST_REQUEST"):
    made = {"name": name, "type": "STATIC", "connect_timeout": "10s", "lb_policy": balance, "circuit_breakers": BREAKERS,
            "load_assignment": {"cluster_name": name, "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": address(ip, port)}} for ip in ips]}]}}
    if tls:
        made["transport_socket"] = named("transport_sockets.tls", "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                                         common_tls_context=tls, sni=f"outbound_.{APP}_._.backend.dev.svc.cluster.local")
    if http:
        made["typed_extension_protocol_options"] = http
    return made


def http(prefix, routes, filters, **more):
    return named("filters.network.http_connection_manager",
                 "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", stat_prefix=prefix,
                 route_config=routes, normalize_path=True, path_with_escaped_slashes_action="KEEP_UNCHANGED",
                 stream_idle_timeout="0s", upgrade_configs=[{"upgrade_type": "websocket"}],
                 http_filters=[*filters, named("filters.http.router", "extensions.filters.http.router.v3.Router")], **more)


def tcp(prefix, to):
    return named("filters.network.tcp_proxy", "extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix=prefix,
                 cluster=to, idle_timeout="0s")


def listener_filter(name, kind):
    return named(f"filters.listener.{name}", f"extensions.filters.listener.{name}.v3.{kind}")


ORIGINAL = listener_filter("original_dst", "OriginalDst")
RETRIES = {"retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes", "num_retries": 2,
           "retriable_status_codes": [503], "host_selection_retry_max_attempts": "5",
           "retry_host_predicate": [named("retry_host_predicates.previous_hosts",
                                          "extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate")]}
NAMES = ["backend.dev.svc.cluster.local", "backend.dev", "backend", VIP]
SPLIT = {"clusters": [{"name": "v1", "weight": 90}, {"name": "v2", "weight": 10}]}
OUT_ROUTES = {"name": str(APP), "validate_clusters": False, "virtual_hosts": [
    {"name": "backend", "include_request_attempt_count": True, "domains": NAMES + [f"{n}:{APP}" for n in NAMES],
     "routes": [{"match": {"prefix": "/"}, "route": {"timeout": "0s", "retry_policy": RETRIES, "weighted_clusters": SPLIT}}]},
    {"name": "any", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "passthrough", "timeout": "0s"}}]}]}
OUT_HTTP = http("outbound", OUT_ROUTES, [], use_remote_address=False)
outbound = {
    "listeners": [
        {"name": "outbound", "address": address("0.0.0.0", OUT), "use_original_dst": True, "traffic_direction": "OUTBOUND",
         "listener_filters": [ORIGINAL], "filter_chains": [{"filters": [tcp("passthrough", "passthrough")]}]},
        {"name": "http", "address": address("0.0.0.0", APP), "bind_to_port": False, "traffic_direction": "OUTBOUND",
         "listener_filters": [listener_filter("http_inspector", "HttpInspector")], "listener_filters_timeout": "0s",
         "continue_on_listener_filters_timeout": True,
         "filter_chains": [{"filters": [OUT_HTTP], "filter_chain_match": {
             "transport_protocol": "raw_buffer", "application_protocols": ["http/1.1", "h2c"]}}],
         "default_filter_chain": {"filters": [tcp("passthrough", "passthrough")]}},
        {"name": "tcp", "address": address(VIP, TCP), "bind_to_port": False, "traffic_direction": "OUTBOUND",
         "filter_chains": [{"filters": [tcp("outbound_tcp", "tcp")]}]}],
    "clusters": [
        *[cluster(name, ips, APP, context("frontend", None if GRPC else ["h2"], "backend"), http_options())
          for name, ips in PODS.items()],
        cluster("tcp", [SERVER], TCP, context("frontend", ["istio"], "backend")),
        {"name": "passthrough", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "10s",
         "circuit_breakers": BREAKERS}]}

POLICY = {"action": "ALLOW", "policies": {"frontend": {
    "permissions": [{"any": True}], "principals": [{"authenticated": {"principal_name": {"exact": SPIFFE + "frontend"}}}]}}}
IN_ROUTES = {"name": "inbound", "validate_clusters": False, "virtual_hosts": [
    {"name": "inbound", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "app", "timeout": "0s"}}]}]}


def server_tls(alpn):
    return named("transport_sockets.tls", "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                 require_client_certificate=True, common_tls_context=context("backend", alpn))


def accepted(name, port, alpn, *filters):
    return {"name": name, "filter_chain_match": {"destination_port": port, "transport_protocol": "tls"},
            "transport_socket": server_tls(alpn), "filters": list(filters)}


inbound = {
    "listeners": [{"name": "inbound", "address": address("0.0.0.0", IN), "traffic_direction": "INBOUND",
                   "listener_filters": [ORIGINAL, listener_filter("tls_inspector", "TlsInspector")], "listener_filters_timeout": "10s",
                   "filter_chains": [
                       accepted("http", APP, ["h2", "http/1.1"], http(
                           "inbound", IN_ROUTES, [named("filters.http.rbac", "extensions.filters.http.rbac.v3.RBAC", rules=POLICY)],
                           codec_type="AUTO", forward_client_cert_details="APPEND_FORWARD",
                           set_current_client_cert_details={"subject": True, "dns": True, "uri": True})),
                       accepted("tcp", TCP, ["istio"],
                                named("filters.network.rbac", "extensions.filters.network.rbac.v3.RBAC", rules=POLICY, stat_prefix="tcp."),
                                tcp("inbound_tcp", "tcp"))]}],
    "clusters": [cluster("app", ["127.0.0.1"], APP, balance="ROUND_ROBIN", http=http_options() if GRPC else None),
                 cluster("tcp", ["127.0.0.1"], TCP, balance="ROUND_ROBIN")]}

for name, resources in (("outbound", outbound), ("inbound", inbound)):
    with open(f"{place}/{name}.json", "w") as file:
        json.dump({"node": {"id": name, "cluster": "bench"}, "admin": {"address": address("127.0.0.1", 15000)},
                   "static_resources": resources}, file, indent=1)
