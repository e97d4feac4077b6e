//! What injection adds to a Pod. What Kubernetes would fill in is written out, so that a Pod that went through the API
//! server still equals it.

use serde_json::{Value, json};

use super::annotations::Tuning;
use super::{
    ADMIN_PORT, HEALTH_PORT, INBOUND_PORT, OUTBOUND_PORT, PROXY, REDIRECT, STATE_VOLUME, Settings, TLS_VOLUME,
    TOKEN_VOLUME, TRUST_VOLUME,
};

/// Where an application finds its pod's API token. What is mounted there already is not mounted by the API server: the
/// proxy needs no API token, so it gets none. What it gets instead is public.
const API_TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The init container that sends the pod's traffic to the proxy. Root, since nftables asks for the capability in the
/// effective set, and only a root process gets an added capability there.
pub(super) fn redirect(settings: &Settings, tuning: &Tuning) -> Value {
    // Each flag is written out: a Service named causeway-outbound would set CAUSEWAY_OUTBOUND_PORT (service links).
    let mut args = vec![
        "redirect".to_owned(),
        "--apply".to_owned(),
        format!("--proxy-uid={}", settings.proxy_uid),
        format!("--outbound-port={OUTBOUND_PORT}"),
        format!("--inbound-port={INBOUND_PORT}"),
    ];
    for (flag, ports) in [
        ("--exclude-outbound-ports", &tuning.exclude_outbound_ports),
        ("--exclude-inbound-ports", &tuning.exclude_inbound_ports),
    ] {
        if !ports.is_empty() {
            args.push(format!("{flag}={}", ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",")));
        }
    }
    json!({
        "name": REDIRECT,
        "image": settings.image,
        "args": args,
        "resources": tuning.resources(),
        "securityContext": {
            "runAsUser": 0,
            "runAsGroup": 0,
            "runAsNonRoot": false,
            "privileged": false,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": TRUST_VOLUME, "mountPath": API_TOKEN_PATH, "readOnly": true}],
    })
}

/// The native sidecar.
pub(super) fn proxy(settings: &Settings, tuning: &Tuning) -> Value {
    let field = |path: &str| json!({"fieldRef": {"apiVersion": "v1", "fieldPath": path}});
    let mut mounts = vec![
        json!({"name": TOKEN_VOLUME, "mountPath": "/var/run/secrets/causeway", "readOnly": true}),
        json!({"name": TRUST_VOLUME, "mountPath": "/var/run/causeway/trust", "readOnly": true}),
        json!({"name": STATE_VOLUME, "mountPath": "/var/run/causeway/state"}),
        json!({"name": TRUST_VOLUME, "mountPath": API_TOKEN_PATH, "readOnly": true}),
    ];
    if tuning.tls_secret.is_some() {
        mounts.push(json!({"name": TLS_VOLUME, "mountPath": "/var/run/causeway/tls", "readOnly": true}));
    }
    json!({
        "name": PROXY,
        "image": settings.image,
        "restartPolicy": "Always",
        "args": [
            format!("--control-plane={}", settings.control_plane),
            format!("--trust-domain={}", settings.trust_domain),
            "--trust-bundle=/var/run/causeway/trust/trust-bundle.pem",
            "--token-file=/var/run/secrets/causeway/token",
            "--workload=$(POD_NAMESPACE)/$(POD_NAME)",
            format!("--outbound=[::]:{OUTBOUND_PORT}"),
            format!("--inbound=[::]:{INBOUND_PORT}"),
            format!("--admin=127.0.0.1:{ADMIN_PORT}"),
            format!("--health=[::]:{HEALTH_PORT}"),
            "--state=/var/run/causeway/state",
            format!("--drain-deadline={}s", tuning.drain_seconds),
        ],
        "env": [
            {"name": "POD_NAME", "valueFrom": field("metadata.name")},
            {"name": "POD_NAMESPACE", "valueFrom": field("metadata.namespace")},
        ],
        "ports": [{"name": "causeway-health", "containerPort": HEALTH_PORT, "protocol": "TCP"}],
        // Started is ready: what comes after it, the application too, begins with the mesh up.
        "startupProbe": probe(1, 600),
        "readinessProbe": probe(5, 2),
        "resources": tuning.resources(),
        "securityContext": {
            "runAsUser": settings.proxy_uid,
            "runAsGroup": settings.proxy_uid,
            "runAsNonRoot": true,
            "privileged": false,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    })
}

fn probe(period: u32, failures: u32) -> Value {
    json!({
        "httpGet": {"path": "/ready", "port": HEALTH_PORT, "scheme": "HTTP"},
        "periodSeconds": period,
        "successThreshold": 1,
        "failureThreshold": failures,
        "timeoutSeconds": 2,
    })
}

/// The token is written so that its reader's uid, or the pod's fsGroup, can read it: kubelet sees to that.
pub(super) fn volumes(settings: &Settings, tuning: &Tuning) -> Vec<Value> {
    let token = json!({
        "audience": crate::token::AUDIENCE, "expirationSeconds": settings.token_seconds, "path": "token",
    });
    let mut volumes = vec![
        json!({"name": TOKEN_VOLUME, "projected": {"defaultMode": 420, "sources": [{"serviceAccountToken": token}]}}),
        json!({"name": TRUST_VOLUME, "configMap": {"name": settings.trust_bundle_config_map, "defaultMode": 420}}),
        json!({"name": STATE_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "32Mi"}}),
    ];
    // In no other container, so that whoever has the proxy's uid and nobody else reads it here.
    if let Some(secret) = &tuning.tls_secret {
        volumes.push(json!({"name": TLS_VOLUME, "secret": {"secretName": secret, "defaultMode": 420}}));
    }
    volumes
}
