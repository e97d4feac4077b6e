module causeway.dev/tests/progressive/crds

go 1.26.0

// Not compiled: only the manifests of their kinds are taken.
require (
	istio.io/api v1.31.1
	sigs.k8s.io/gateway-api v1.6.3
)
