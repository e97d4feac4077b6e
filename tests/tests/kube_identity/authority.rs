//! The CA's Secret: made once, shared, given, mended, never replaced in silence.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use causeway_control_plane::ca::{Authority, CaError, CaFiles, Delivery};
use causeway_control_plane::kubernetes::{retired, secret};
use causeway_control_plane::state::StateDir;
use causeway_tests::until;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::json;

use super::api::Api;

const SECRET: &str = "causeway-ca";
const MAP: &str = "causeway-trust-bundle";
const NAMESPACE: &str = "causeway-system";

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// One replica's view of the CA.
struct Replica {
    authority: Arc<Authority>,
    delivery: Delivery,
    _state: tempfile::TempDir,
}

impl Replica {
    async fn start(api: &Api) -> Self {
        let state = tempfile::tempdir().unwrap();
        let judge = |delivery: Delivery| open(state.path(), delivery);
        let (sender, authority) = secret::open(&api.client, SECRET, "cluster.local", judge).await;
        let delivery = sender.subscribe();
        tokio::spawn(secret::follow(api.client.clone(), SECRET.to_owned(), sender));
        Self { authority: Arc::new(authority), delivery, _state: state }
    }

    fn roots(&self) -> String {
        self.authority.bundle_pem(now())
    }

    /// Waits until reading again gives what `wanted` says of it.
    fn reloads(&self, what: &str, wanted: impl Fn(&Result<bool, CaError>) -> bool) {
        until(what, Duration::from_secs(30), || {
            let reloaded = self.authority.reload(now());
            if wanted(&reloaded) { Ok(()) } else { Err(format!("{reloaded:?}")) }
        });
    }
}

fn open(state: &std::path::Path, delivery: Delivery) -> Result<Authority, CaError> {
    let (state, life) = (StateDir::open(state)?, Duration::from_secs(3600));
    Authority::open(state, CaFiles::Secret(delivery), "cluster.local", life, now())
}

/// A root, and an intermediate that it signed, as cert-manager would write them: `tls.crt`, `tls.key`, `ca.crt`.
fn given(name: &str) -> [String; 3] {
    let params = |name: &str, more| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(more));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    };
    let (root_params, root_key, key) =
        (params(&format!("{name} root"), 1), KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let root = root_params.self_signed(&root_key).unwrap().pem();
    let intermediate = params(name, 0).signed_by(&key, &Issuer::new(root_params, root_key)).unwrap().pem();
    [intermediate, key.serialize_pem(), root]
}

fn write(api: &Api, [certificate, key, root]: &[String; 3], extra: &str) {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": { "name": SECRET, "namespace": NAMESPACE },
        "stringData": { "tls.crt": certificate, "tls.key": key, "ca.crt": root, "extra-roots.pem": extra },
    });
    api.kube.apply(&secret.to_string()).unwrap();
}

/// What the leader writes.
fn announce(api: &Api, roots: &str) {
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": MAP, "namespace": NAMESPACE }, "data": { "trust-bundle.pem": roots },
    });
    api.kube.apply(&map.to_string()).unwrap();
}

#[test]
fn replicas_that_start_at_once_end_with_one_ca_and_later_ones_find_it() {
    let Some(api) = Api::start() else { return };
    let bundles = api.run(async {
        let [a, b, c] = [Replica::start(&api), Replica::start(&api), Replica::start(&api)];
        let (a, b, c) = tokio::join!(a, b, c);
        [a.roots(), b.roots(), c.roots()]
    });
    assert!(bundles.iter().all(|b| *b == bundles[0] && b.matches("BEGIN CERTIFICATE").count() == 1), "{bundles:?}");
    announce(&api, &bundles[0]);
    assert_eq!(api.run(Replica::start(&api)).roots(), bundles[0], "a restart");
    let keys = api.kube.kubectl(&["-n", NAMESPACE, "get", "secret", SECRET, "-o", "jsonpath={.type} {.data}"]).unwrap();
    assert!(keys.starts_with("kubernetes.io/tls") && keys.contains("tls.key") && keys.contains("ca.crt"), "{keys}");
}

#[test]
fn a_ca_that_vanished_is_never_made_anew_in_silence() {
    let Some(api) = Api::start() else { return };
    let first = api.run(Replica::start(&api));
    let root = first.roots();
    announce(&api, &root);
    let saved = api.kube.kubectl(&["-n", NAMESPACE, "get", "secret", SECRET, "-o", "yaml"]).unwrap();
    api.kube.kubectl(&["-n", NAMESPACE, "delete", "secret", SECRET]).unwrap();
    first.reloads("its loss is reported", |r| r.as_ref().is_err_and(|e| e.to_string().contains("it is gone")));
    assert_eq!(first.roots(), root, "what was in force stays");

    let late = api.run(async { tokio::time::timeout(Duration::from_secs(3), Replica::start(&api)).await.is_err() });
    assert!(late, "a replica that starts now waits");
    api.kube.kubectl(&["-n", NAMESPACE, "get", "secret", SECRET]).unwrap_err();
    api.kube.kubectl_with_input(&["create", "-f", "-"], &without_version(&saved)).unwrap();
    assert_eq!(api.run(Replica::start(&api)).roots(), root, "restored from the backup");
    first.reloads("the replica that ran on is content", |r| matches!(r, Ok(false)));
}

fn without_version(yaml: &str) -> String {
    let unwanted = ["resourceVersion:", "uid:", "creationTimestamp:"];
    yaml.lines().filter(|l| !unwanted.iter().any(|u| l.trim().starts_with(u))).map(|l| format!("{l}\n")).collect()
}

#[test]
fn a_given_intermediate_signs_and_its_successor_is_taken_once_its_root_was_announced() {
    let Some(api) = Api::start() else { return };
    let (old, new) = (given("old"), given("new"));
    write(&api, &old, "");
    let replica = api.run(Replica::start(&api));
    assert_eq!(replica.roots().trim(), old[2].replace('\r', "").trim(), "the root alone is what peers trust");
    let (key, _) = replica.authority.server_key(now()).unwrap();
    assert_eq!(key.cert.len(), 2, "the leaf and the intermediate that signed it");

    // Broken: half of a pair, and no PEM at all.
    let mut half = old.clone();
    half[1] = new[1].clone();
    write(&api, &half, "");
    replica.reloads("a key of another certificate is refused", |r| {
        r.as_ref().is_err_and(|e| e.to_string().contains("tls.key: the key is not that of the first certificate"))
    });
    // Another root that nobody was told of.
    write(&api, &new, "");
    replica.reloads("an unannounced root is refused", |r| matches!(r, Err(CaError::UnannouncedRoot(_))));
    let waits = |root: &str| {
        announce(&api, root);
        api.run(async { tokio::time::timeout(Duration::from_secs(3), Replica::start(&api)).await.is_err() })
    };
    assert!(waits(&old[2]), "nor does a new replica begin with it");

    write(&api, &old, &new[2]);
    replica.reloads("the new root is trusted beside the old one", |r| matches!(r, Ok(true)));
    assert_eq!(replica.roots().matches("BEGIN CERTIFICATE").count(), 2);
    announce(&api, &replica.roots());
    write(&api, &new, "");
    replica.reloads("the new one signs", |r| matches!(r, Ok(true)));
    assert_eq!(replica.roots().matches("BEGIN CERTIFICATE").count(), 2, "the old root stays for one leaf's life");
    assert_eq!(replica.authority.retired().len(), 1);
    let leader = tokio::sync::watch::Sender::new(true);
    let delivery = replica.delivery.clone();
    let kept = retired::remember(
        api.client.clone(),
        SECRET.to_owned(),
        Arc::clone(&replica.authority),
        delivery,
        leader.subscribe(),
    );
    let kept = api.runtime.spawn(kept);
    until("the Secret names the old root", Duration::from_secs(30), || {
        let started = api.run(Replica::start(&api));
        if started.roots() == replica.roots() { Ok(()) } else { Err(started.roots()) }
    });
    kept.abort();
}
