// Package exam is the conformance suite of the Gateway API as a program of its own.
package exam

import (
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
)

func TestConformance(t *testing.T) { conformance.RunConformance(t) }
