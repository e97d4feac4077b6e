"""The rig of the benchmarks: two namespaces, the servers, the loads, and what the proxies used meanwhile."""
