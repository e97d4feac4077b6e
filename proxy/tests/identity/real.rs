//! The same against the true control plane, in this process, on the example that `causeway demo` uses.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use causeway_control_plane::args::{Args, Cli};
use causeway_control_plane::run::Running;
use causeway_control_plane::state::StateDir;
use causeway_control_plane::token::{LocalTokens, TokenRequest};
use causeway_mesh::config::Kind;
use causeway_mesh::svid::{self, Roots};
use causeway_proxy::discovery::Unresolved;
use causeway_proxy::tls::TlsState;
use clap::Parser as _;
use rustls::pki_types::UnixTime;
use tempfile::TempDir;
use tokio::time::Instant;

use super::forms::{self, Ca};
use super::peer::{PATIENCE, Place, eventually, pem, replace, unix};
use super::{another, held};

const SOURCE: &str = "
apiVersion: v1
kind: Namespace
metadata: { name: prod }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: web, namespace: prod }
---
apiVersion: v1
kind: Pod
metadata: { name: web-0, namespace: prod, labels: { app: web, causeway.dev/injected: 'true' } }
spec: { serviceAccountName: web, containers: [] }
status: { podIP: 10.1.0.1, phase: Running, conditions: [ { type: Ready, status: 'True' } ] }
---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: prod }
spec: { clusterIP: 10.96.0.1, selector: { app: web }, ports: [ { name: http, port: 80, targetPort: 8080 } ] }
";

struct Real {
    dir: TempDir,
    args: Args,
}

impl Real {
    fn new(leaf_ttl: &str) -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::create_dir(dir.path().join("source")).unwrap();
        std::fs::write(dir.path().join("source/all.yaml"), SOURCE).unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let source = format!("dir:{}", path("source"));
        let state = path("state");
        let line = ["control-plane", "--source", &source, "--state", &state, "--leaf-ttl", leaf_ttl];
        let more = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        let cli = Cli::parse_from(line.iter().chain(&more));
        Self { args: cli.serve.unwrap(), dir }
    }

    /// One whose CA is given, and may be replaced while it runs.
    fn with_ca(leaf_ttl: &str, ca: &Ca) -> Self {
        let mut real = Self::new(leaf_ttl);
        real.args.ca_cert = Some(real.dir.path().join("ca.pem"));
        real.args.ca_key = Some(real.dir.path().join("ca.key"));
        real.sign_with(ca);
        real
    }

    fn sign_with(&self, ca: &Ca) {
        // The key first: a certificate without its key is reported and changes nothing.
        let key = self.dir.path().join("ca.key");
        replace(&key, &ca.key.serialize_pem());
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        replace(&self.dir.path().join("ca.pem"), &pem(&ca.der));
    }

    fn also_trust(&self, ca: &Ca) {
        replace(&self.dir.path().join("state/extra-roots.pem"), &pem(&ca.der));
    }

    /// Starts, at the same address as before once there was one.
    async fn start(&mut self) -> Running {
        let running = Running::start(&self.args).await.unwrap();
        self.args.listen = running.listen;
        running
    }

    fn token(&self, account: &str) -> String {
        let state = StateDir::open(&self.dir.path().join("state")).unwrap();
        let request = TokenRequest {
            namespace: "prod".to_owned(),
            account: account.to_owned(),
            pod: Some("web-0".to_owned()),
            ttl: 600,
            audience: "causeway".to_owned(),
        };
        LocalTokens::open(&state).unwrap().issue(&request, unix()).unwrap()
    }

    fn place(&self) -> Place {
        let mut place = Place::new(self.args.listen, b"");
        place.settings.identity.trust_bundle = self.dir.path().join("state/trust-bundle.pem");
        replace(&place.settings.identity.token_file, &self.token("web"));
        place.with_state()
    }

    fn write(&self, name: &str, content: &str) {
        replace(&Path::new(self.dir.path()).join("source").join(name), content);
    }
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

#[tokio::test]
async fn the_true_control_plane_gives_identity_and_configuration_and_may_go_and_come() {
    let mut real = Real::new("24h");
    let running = real.start().await;
    let place = real.place();
    let (tls, discovery) = place.start();
    assert_eq!(held(&tls).await.own_id().to_string(), "spiffe://cluster.local/ns/prod/sa/web");
    let found = discovery.resolve("web.prod:80", soon()).await.unwrap();
    assert_eq!((found.kind, &*found.canonical), (Kind::Service, "web.prod:80"));
    let unknown = discovery.resolve("nothing.prod:80", soon()).await.unwrap();
    assert_eq!(unknown.kind, Kind::Unknown);
    let snapshot = discovery.snapshot().borrow().clone();
    assert_eq!(snapshot.workload.as_ref().unwrap().service_account, "web");
    assert_eq!(snapshot.endpoints["web.prod:80"].len(), 1);
    assert_eq!(snapshot.endpoints["web.prod:80"][0].port, 8080);

    // Both must be on disk before everything goes.
    let kept = || std::fs::read(place.state().join("config")).unwrap_or_default();
    let name = b"destination/nothing.prod:80";
    eventually("the state", || kept().windows(name.len()).any(|w| w == name)).await;
    running.shut_down().await.unwrap();
    eventually("the absence is noticed", || discovery.status().away).await;
    assert!(discovery.resolve("web.prod:80", soon()).await.is_ok());
    assert_eq!(discovery.resolve("other.prod:80", soon()).await.unwrap_err(), Unresolved::ControlPlaneAway);
    // A restart of the proxy meanwhile.
    drop((tls, discovery));
    let (tls, discovery) = place.start();
    assert!(tls.current().is_some() && discovery.snapshot().borrow().workload.is_some());
    assert!(discovery.resolve("web.prod:80", soon()).await.is_ok());

    let _running = real.start().await;
    eventually("the return is noticed", || discovery.status().connected).await;
    let more = "apiVersion: v1\nkind: Service\nmetadata: { name: late, namespace: prod }\nspec: { clusterIP: 10.96.0.2, selector: { app: web }, ports: [ { port: 80 } ] }\n";
    real.write("late.yaml", more);
    let is_late_known = || discovery.snapshot().borrow().destinations.values().any(|d| &*d.canonical == "late.prod:80");
    discovery.resolve("late.prod:80", soon()).await.unwrap();
    eventually("the new Service", is_late_known).await;
    assert_eq!(discovery.status().drifts, 0);
}

#[tokio::test]
async fn short_lives_are_renewed_and_the_stream_follows_without_drift() {
    let mut real = Real::new("6s");
    let _running = real.start().await;
    let place = real.place();
    let (tls, discovery) = place.start();
    let mut state = held(&tls).await;
    discovery.resolve("web.prod:80", soon()).await.unwrap();
    let first = discovery.snapshot().borrow().clone();
    for _ in 0..3 {
        state = another(&tls, &state).await;
    }
    eventually("streams with newer certificates", || discovery.status().streams >= 3).await;
    let last = discovery.snapshot().borrow().clone();
    assert!(std::sync::Arc::ptr_eq(&first.destinations["web.prod:80"], &last.destinations["web.prod:80"]));
    assert_eq!(discovery.status().drifts, 0);
}

#[tokio::test]
async fn the_root_is_replaced_while_everything_runs() {
    let old = forms::ca("old", &rcgen::PKCS_ECDSA_P256_SHA256);
    let new = forms::ca("new", &rcgen::PKCS_ECDSA_P256_SHA256);
    let mut real = Real::with_ca("10s", &old);
    let _running = real.start().await;
    let place = real.place();
    let (tls, discovery) = place.start();
    held(&tls).await;
    discovery.resolve("web.prod:80", soon()).await.unwrap();
    let trusts = |roots: &[&Ca]| {
        let state = tls.current().expect("there is always a certificate");
        let found: Vec<&[u8]> = state.roots().der().collect();
        found.len() == roots.len() && roots.iter().all(|ca| found.contains(&ca.der.as_slice()))
    };
    assert!(trusts(&[&old]));
    // Announce the new root, sign with it, drop the old one.
    real.also_trust(&new);
    eventually("both roots", || trusts(&[&old, &new])).await;
    let of_old = tls.current().unwrap();
    real.sign_with(&new);
    real.also_trust(&old);
    let is_signed_by = |state: &TlsState, ca: &Ca| {
        let roots = Roots::new("cluster.local", std::slice::from_ref(&ca.der)).unwrap();
        svid::verify(&roots, &state.chain()[0], &[], UnixTime::now(), svid::Usage::Server).is_ok()
    };
    assert!(is_signed_by(&of_old, &old));
    eventually("a leaf of the new root", || tls.current().is_some_and(|s| is_signed_by(&s, &new))).await;
    std::fs::remove_file(real.dir.path().join("state/extra-roots.pem")).unwrap();
    eventually("the new root alone", || trusts(&[&new])).await;
    eventually("the stream stands", || discovery.status().connected).await;
    assert!(discovery.resolve("late.prod:80", soon()).await.is_ok());
}

#[tokio::test]
async fn a_token_that_proves_nothing_yields_nothing_until_it_is_replaced() {
    let mut real = Real::new("24h");
    let _running = real.start().await;
    let mut place = real.place();
    place.settings.state = None;
    let token_file = place.settings.identity.token_file.clone();
    let good = std::fs::read_to_string(&token_file).unwrap();
    let (head, tail) = good.split_at(good.len() - 8);
    let forged = format!("{head}{}", tail.chars().rev().collect::<String>());
    for wrong in [forged, real.token("other"), "nothing".to_owned()] {
        replace(&token_file, &wrong);
        let (tls, _discovery) = place.start();
        tokio::time::sleep(Duration::from_millis(700)).await; // several attempts, none of which may get through
        assert!(tls.current().is_none());
        replace(&token_file, &good);
        held(&tls).await;
    }
}
