//! The certificate's life: asked for, judged, renewed, kept; against a control plane that errs at will, and against the
//! true one.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use causeway_mesh::spiffe::SpiffeId;
use causeway_mesh::wire::CertifyResponse;
use causeway_proxy::tls::{Tls, TlsState};
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose as Eku, IsCa, date_time_ymd};
use time::OffsetDateTime;
use tonic::Status;

#[allow(dead_code)]
#[path = "../../mesh/src/svid/tests/forms.rs"]
mod forms;
#[path = "discovery/peer.rs"]
mod peer;
#[path = "identity/real.rs"]
mod real;

use forms::ID;
use peer::{PATIENCE, Peer, Place, eventually, issue, pem, replace, token, trust, unix, workload};

async fn held(tls: &Tls) -> Arc<TlsState> {
    eventually("a certificate", || tls.current().is_some()).await;
    tls.current().unwrap()
}

async fn another(tls: &Tls, than: &TlsState) -> Arc<TlsState> {
    eventually("another certificate", || tls.current().is_some_and(|s| s.leaf().serial != than.leaf().serial)).await;
    tls.current().unwrap()
}

fn root_count(state: &TlsState) -> usize {
    state.roots().der().count()
}

/// A leaf that ends in so many seconds.
fn ends_in(seconds: i64) -> impl Fn(&mut rcgen::CertificateParams) + Copy {
    move |params| params.not_after = OffsetDateTime::now_utc() + Duration::from_secs(seconds.unsigned_abs())
}

#[tokio::test]
async fn a_certificate_is_asked_for_judged_and_published() {
    let peer = Peer::start().await;
    let place = Place::of(&peer);
    let (tls, _discovery) = place.start();
    assert!(tls.current().is_none(), "nothing before the first certificate");
    let state = held(&tls).await;
    assert_eq!(state.own_id().to_string(), ID);
    assert_eq!(state.roots().der().collect::<Vec<_>>(), [peer.ca.der.as_slice()]);
    assert!(state.renew_at() > unix());
    assert_eq!(peer.certified(), 1);
}

/// What an authority may get wrong, each to be refused by our own rule before anybody sees it.
fn wrong_answers() -> Vec<(&'static str, Box<peer::Answer>)> {
    vec![
        ("another namespace", Box::new(|r, ca| issue(r, ca, "spiffe://cluster.local/ns/dev/sa/web", |_| {}))),
        ("another trust domain", Box::new(|r, ca| issue(r, ca, "spiffe://other.local/ns/prod/sa/web", |_| {}))),
        ("a CA", Box::new(|r, ca| issue(r, ca, ID, |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)))),
        ("one role alone", Box::new(|r, ca| issue(r, ca, ID, |p| p.extended_key_usages = vec![Eku::ServerAuth]))),
        ("expired", Box::new(|r, ca| issue(r, ca, ID, |p| p.not_after = date_time_ymd(2024, 1, 1)))),
        ("not yet valid", Box::new(|r, ca| issue(r, ca, ID, |p| p.not_before = date_time_ymd(2098, 1, 1)))),
        (
            "somebody else's key",
            Box::new(|r, ca| Ok(CertifyResponse { chain_der: ca.leaf(ID).0, ..issue(r, ca, ID, |_| {})? })),
        ),
        (
            "roots that did not sign it",
            Box::new(|r, ca| {
                let stranger = forms::ca("stranger", &rcgen::PKCS_ECDSA_P256_SHA256);
                Ok(CertifyResponse { roots_der: vec![stranger.der], ..issue(r, ca, ID, |_| {})? })
            }),
        ),
        ("no chain", Box::new(|r, ca| Ok(CertifyResponse { chain_der: vec![], ..issue(r, ca, ID, |_| {})? }))),
        ("no roots", Box::new(|r, ca| Ok(CertifyResponse { roots_der: vec![], ..issue(r, ca, ID, |_| {})? }))),
        (
            "no certificate",
            Box::new(|r, ca| Ok(CertifyResponse { chain_der: vec![vec![7]], ..issue(r, ca, ID, |_| {})? })),
        ),
        ("unavailable", Box::new(|_, _| Err(Status::unavailable("no")))),
    ]
}

#[tokio::test]
async fn what_our_peers_would_refuse_is_never_published_and_the_next_attempt_may_succeed() {
    for (name, answer) in wrong_answers() {
        let peer = Peer::start().await;
        peer.answer(answer);
        let place = Place::of(&peer);
        let (tls, _discovery) = place.start();
        peer.certified_at_least(2).await;
        assert!(tls.current().is_none(), "{name}");
        peer.answer(|request, ca| issue(request, ca, ID, |_| {}));
        held(&tls).await;
    }
}

#[tokio::test]
async fn an_impostor_never_sees_the_token() {
    let ca = Arc::new(forms::ca("root", &rcgen::PKCS_ECDSA_P256_SHA256));
    // A workload of the same mesh, and a control plane of another mesh that has the same name.
    let workload = Peer::start_as("spiffe://cluster.local/ns/prod/sa/thief", ca.clone()).await;
    let foreign = Peer::start().await;
    let places = [Place::new(workload.address, &ca.der), Place::new(foreign.address, &ca.der)];
    let started: Vec<_> = places.iter().map(Place::start).collect();
    eventually("attempts", || workload.accepted() >= 3 && foreign.accepted() >= 3).await;
    assert_eq!((workload.certified(), foreign.certified()), (0, 0));
    assert!(started.iter().all(|(tls, _)| tls.current().is_none()));
}

#[tokio::test]
async fn the_token_is_read_anew_for_each_request() {
    let peer = Peer::start().await;
    peer.answer(|request, ca| match request.token == token("prod", "web") {
        true => issue(request, ca, ID, |_| {}),
        false => Err(Status::unauthenticated("token_expired: it is")),
    });
    let place = Place::of(&peer);
    replace(&place.settings.identity.token_file, &token("prod", "old"));
    let (tls, _discovery) = place.start();
    peer.certified_at_least(2).await;
    assert!(tls.current().is_none());
    replace(&place.settings.identity.token_file, &format!("{}\n", token("prod", "web")));
    held(&tls).await;
}

#[tokio::test]
async fn files_that_are_missing_at_first_are_waited_for() {
    let peer = Peer::start().await;
    let place = Place::of(&peer);
    let identity = &place.settings.identity;
    let (bundle, token) = (std::fs::read_to_string(&identity.trust_bundle).unwrap(), token("prod", "web"));
    std::fs::remove_file(&identity.trust_bundle).unwrap();
    std::fs::remove_file(&identity.token_file).unwrap();
    let (tls, _discovery) = place.start();
    replace(&identity.trust_bundle, "-----BEGIN CERTIFICATE-----\nbroken");
    replace(&identity.token_file, &token);
    tokio::time::sleep(Duration::from_millis(300)).await; // a while in which nothing may happen
    assert_eq!(peer.certified(), 0);
    replace(&identity.trust_bundle, &bundle);
    held(&tls).await;
}

#[tokio::test]
async fn a_certificate_is_renewed_before_it_ends_and_there_is_always_one() {
    let peer = Peer::start().await;
    peer.answer(|request, ca| issue(request, ca, ID, ends_in(4)));
    let place = Place::of(&peer);
    let (tls, _discovery) = place.start();
    let mut state = held(&tls).await;
    let gap = Arc::new(AtomicBool::new(false));
    let watching = tokio::spawn({
        let (mut states, gap) = (tls.subscribe(), gap.clone());
        async move {
            if states.wait_for(Option::is_none).await.is_ok() {
                gap.store(true, Ordering::SeqCst);
            }
        }
    });
    for _ in 0..3 {
        let next = another(&tls, &state).await;
        assert!(unix() <= i64::try_from(state.leaf().not_after).unwrap(), "renewed in time");
        assert_ne!(state.chain(), next.chain());
        state = next;
    }
    assert!(!gap.load(Ordering::SeqCst));
    watching.abort();
}

#[tokio::test]
async fn a_certificate_that_cannot_be_renewed_serves_until_it_ends_and_not_longer() {
    let peer = Peer::start().await;
    peer.answer(|request, ca| issue(request, ca, ID, ends_in(4)));
    let place = Place::of(&peer);
    let (tls, _discovery) = place.start();
    let first = held(&tls).await;
    peer.answer(|_, _| Err(Status::unavailable("ca_unavailable: away")));
    peer.certified_at_least(2).await;
    assert!(tls.current().is_some(), "the old one still serves");
    eventually("the end", || tls.current().is_none()).await;
    assert!(unix() >= i64::try_from(first.leaf().not_after).unwrap());
    peer.answer(|request, ca| issue(request, ca, ID, |_| {}));
    another(&tls, &first).await;
}

#[tokio::test]
async fn a_clock_that_is_wrong_by_an_hour_does_not_move_the_renewal() {
    let peer = Peer::start().await;
    // By its own clock the control plane issues for one hour; by ours, the leaf would end at once or in two.
    for skew in [3600, -3600] {
        peer.answer(move |request, ca| {
            let end = OffsetDateTime::now_utc() + time::Duration::seconds(3600 + skew);
            let answer = issue(request, ca, ID, |p| p.not_after = end)?;
            Ok(CertifyResponse { now_unix: unix() + skew, ..answer })
        });
        let before = peer.certified();
        let place = Place::of(&peer);
        let (tls, _discovery) = place.start();
        let state = held(&tls).await;
        let left = state.renew_at() - (unix() + skew);
        assert!((2200..=2800).contains(&left), "65 to 75 % of an hour from now: {left}");
        assert_eq!(peer.certified(), before + 1);
    }
}

#[tokio::test]
async fn roots_of_the_stream_are_in_force_at_once_and_a_lost_root_means_a_new_certificate() {
    let mut peer = Peer::start().await;
    let place = Place::of(&peer);
    let (tls, _discovery) = place.start();
    let first = held(&tls).await;
    let mut stream = peer.stream().await;
    let next = Arc::new(forms::ca("next", &rcgen::PKCS_ECDSA_P256_SHA256));

    // The successor is announced: both are trusted, nothing else changes.
    let both = [workload(1), trust(1, &[&peer.ca, &next])];
    stream.tell(1, &both, &[], &both);
    stream.acked().await;
    eventually("both roots", || tls.current().is_some_and(|s| root_count(&s) == 2)).await;
    assert_eq!(tls.current().unwrap().leaf().serial, first.leaf().serial);

    // The old root goes: our leaf is of no use any more, so a new one is asked for at once, signed by the successor.
    let signer = next.clone();
    peer.answer(move |request, _| issue(request, &signer, ID, |_| {}));
    let one = [workload(1), trust(2, &[&next])];
    stream.tell(2, &one[1..], &[], &one);
    stream.acked().await;
    let second = another(&tls, &first).await;
    assert_eq!(second.roots().der().collect::<Vec<_>>(), [next.der.as_slice()]);
    assert_eq!(peer.certified(), 2);
}

#[tokio::test]
async fn a_restart_without_control_plane_serves_at_once_from_what_was_kept() {
    let mut peer = Peer::start().await;
    let place = Place::of(&peer).with_state();
    let (tls, discovery) = place.start();
    let first = held(&tls).await;
    let mut stream = peer.stream().await;
    let all = [workload(1), trust(1, &[&peer.ca]), peer::destination("a.b:80", 1), peer::endpoints("a.b:80", 1, &[80])];
    stream.tell(1, &all, &[], &all);
    stream.acked().await;
    let files = ["identity", "config"].map(|f| place.state().join(f));
    eventually("the files", || files.iter().all(|f| f.exists())).await;
    drop((tls, discovery, stream));
    peer.stop().await;

    let (tls, discovery) = place.start();
    assert_eq!(tls.current().expect("at once").leaf(), first.leaf());
    let snapshot = discovery.snapshot().borrow().clone();
    assert!(snapshot.workload.is_some() && snapshot.trust.is_some() && snapshot.endpoints.contains_key("a.b:80"));
    let soon = tokio::time::Instant::now() + PATIENCE;
    assert!(discovery.resolve("a.b:80", soon).await.is_ok());

    peer.resume().await;
    let stream = peer.stream().await;
    assert_eq!(stream.hello.held.len(), 4, "resumed by version");
    assert_eq!(stream.hello.destinations, ["a.b:80"]);
    assert_eq!(peer.certified(), 1);
}

#[tokio::test]
async fn what_was_kept_for_somebody_else_or_is_out_of_date_is_not_used() {
    let mut peer = Peer::start().await;
    let mut place = Place::of(&peer).with_state();
    peer.answer(|request, ca| issue(request, ca, ID, ends_in(5)));
    let (tls, discovery) = place.start();
    let first = held(&tls).await;
    let mut stream = peer.stream().await;
    stream.tell(1, &[workload(1)], &[], &[workload(1)]);
    stream.acked().await;
    let files = ["identity", "config"].map(|f| place.state().join(f));
    eventually("the files", || files.iter().all(|f| f.exists())).await;
    drop((tls, discovery, stream));
    peer.stop().await;
    let kept = files.each_ref().map(|f| std::fs::read(f).unwrap());

    let identity = place.settings.identity.clone();
    let none = |place: &Place| place.start().0.current().is_none();
    // Another pod.
    place.settings.identity.pod = "web-1".to_owned();
    let (tls, discovery) = place.start();
    assert!(tls.current().is_none() && discovery.snapshot().borrow().workload.is_none());
    // Another account's token, another trust domain.
    place.settings.identity = identity.clone();
    replace(&identity.token_file, &token("prod", "other"));
    assert!(none(&place));
    replace(&identity.token_file, &token("prod", "web"));
    place.settings.identity.trust_domain = "other.local".to_owned();
    assert!(none(&place));
    // One flipped bit.
    place.settings.identity = identity;
    let mut broken = kept[0].clone();
    broken[200] ^= 1;
    std::fs::write(&files[0], broken).unwrap();
    assert!(none(&place));
    assert!(!files[0].exists(), "a broken file is deleted");
    // Expired meanwhile.
    std::fs::write(&files[0], &kept[0]).unwrap();
    eventually("the end", || unix() > i64::try_from(first.leaf().not_after).unwrap()).await;
    assert!(none(&place));
}

#[tokio::test]
async fn the_peer_that_we_speak_to_is_told_by_its_identity_not_by_its_name() {
    let peer = Peer::start().await;
    let mut place = Place::of(&peer);
    let uri = format!("https://localhost:{}", peer.address.port());
    place.settings.control_plane = uri.parse().unwrap();
    let (tls, _discovery) = place.start();
    assert_eq!(*held(&tls).await.own_id(), ID.parse::<SpiffeId>().unwrap());
}

/// Everything that was logged, by whomever.
#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_shows_neither_token_nor_key_at_any_level() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    let _scope = tracing::subscriber::set_default(subscriber);
    let peer = Peer::start().await;
    let place = Place::of(&peer).with_state();
    peer.answer(|_, _| Err(Status::unauthenticated("token_expired: it is")));
    let (tls, _discovery) = place.start();
    peer.certified_at_least(1).await;
    peer.answer(|request, ca| issue(request, ca, ID, |_| {}));
    held(&tls).await;
    eventually("the file", || place.state().join("identity").exists()).await;
    let log = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(log.contains("certificate not issued") && log.contains("certificate held"), "the log was seen");
    let token = token("prod", "web");
    for part in token.split('.').filter(|part| part.len() > 8) {
        assert!(!log.contains(part));
    }
    // The key, as it lies in the file, in the forms in which bytes are printed.
    let stored = std::fs::read(place.state().join("identity")).unwrap();
    let pkcs8 = [0x30, 0x81, 0x87, 0x02, 0x01, 0x00];
    let at = stored.windows(pkcs8.len()).position(|w| w == pkcs8).expect("a P-256 key in PKCS#8");
    let secret = &stored[at + 36..at + 68];
    let decimal = secret[..8].iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    let hex = secret[..8].iter().map(|b| format!("{b:02x}")).collect::<String>();
    assert!(!log.contains(&decimal) && !log.contains(&hex));
}

#[test]
fn settings_that_can_never_work_are_refused_at_once() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let place = Place::new(([127, 0, 0, 1], 1).into(), b"x");
    for uri in ["http://127.0.0.1:15010", "127.0.0.1:15010", "https://127.0.0.1:15010/path", "/"] {
        let settings =
            causeway_proxy::discovery::Settings { control_plane: uri.parse().unwrap(), ..place.settings.clone() };
        let error = causeway_proxy::discovery::start(&settings).unwrap_err().to_string();
        assert!(error.contains("--control-plane"), "{error}");
    }
    let mut settings = place.settings.clone();
    settings.identity.trust_domain = "Upper".to_owned();
    assert!(causeway_proxy::discovery::start(&settings).unwrap_err().to_string().contains("--trust-domain"));
    let state = Some(place.settings.identity.token_file.join("below-a-file"));
    let settings = causeway_proxy::discovery::Settings { state, ..place.settings };
    assert!(causeway_proxy::discovery::start(&settings).unwrap_err().to_string().contains("--state"));
    assert!(pem(b"x").contains("BEGIN"));
}
