//! The certificate rule in real handshakes, both directions, with the configurations that the proxy uses.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use causeway_mesh::spiffe::SpiffeId;
use causeway_mesh::svid::{self, ClientVerifier, Roots, RootsSource, ServerVerifier};
use causeway_proxy::tls::{Alpn, Credential, Tls, TlsState, peer_identity};
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, NamedGroup, ProtocolVersion, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::watch;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

#[allow(dead_code)]
#[path = "../../mesh/src/svid/tests/forms.rs"]
mod forms;

use forms::{Form, ID, TRUST_DOMAIN, World};

const CALLER: &str = "spiffe://cluster.local/ns/dev/sa/caller";

fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

fn roots(world: &World) -> Arc<Roots> {
    Arc::new(Roots::new(TRUST_DOMAIN, &world.roots()).unwrap())
}

/// A proxy of `identity`.
fn proxy(world: &World, identity: &str) -> TlsState {
    let (chain, key) = world.good.leaf(identity);
    TlsState::new(&Credential { chain, key, issued_at: 0 }, roots(world), 0).unwrap()
}

/// What a peer that obeys no rule presents.
fn presented(form: &Form) -> Arc<CertifiedKey> {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(form.key.clone()));
    let key = svid::provider().key_provider.load_private_key(key).unwrap();
    Arc::new(CertifiedKey::new(form.chain.iter().cloned().map(CertificateDer::from).collect(), key))
}

fn source(world: &World) -> RootsSource {
    let roots = roots(world);
    Arc::new(move || Some(roots.clone()))
}

type Ends = (std::io::Result<client::TlsStream<DuplexStream>>, std::io::Result<server::TlsStream<DuplexStream>>);

/// Both ends of one handshake; a byte is read on either side, since a client learns of its refusal only then.
async fn handshake(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Ends {
    let (near, far) = duplex(64 * 1024);
    let name = ServerName::from(IpAddr::from(Ipv4Addr::LOCALHOST));
    let connect = async {
        let mut stream = TlsConnector::from(client).connect(name, near).await?;
        stream.write_all(b"?").await?;
        stream.read_u8().await?;
        Ok(stream)
    };
    let accept = async {
        let mut stream = TlsAcceptor::from(server).accept(far).await?;
        stream.read_u8().await?;
        stream.write_all(b"!").await?;
        Ok(stream)
    };
    tokio::join!(connect, accept)
}

fn code<T>(end: &std::io::Result<T>) -> Option<&'static str> {
    let error = end.as_ref().err()?;
    Some(svid::cause(error).map_or("not a certificate's fault", svid::SvidError::code))
}

#[tokio::test]
async fn wrong_client_certificates_are_refused_by_the_server() {
    let world = World::new();
    let server = proxy(&world, ID).server_config();
    let mut faults = Vec::new();
    for form in world.wrong().iter().chain(&world.right()) {
        let verifier = ServerVerifier::new(id(ID), source(&world));
        let client = svid::client_config(Some(presented(form)), verifier, &[Alpn::H2.name()]).unwrap();
        let (near, far) = handshake(Arc::new(client), server.clone()).await;
        if code(&far) != form.as_client || near.is_ok() != form.as_client.is_none() {
            faults.push(format!(
                "{}: {:?}, not {:?}; client {:?}",
                form.name,
                code(&far),
                form.as_client,
                near.is_ok()
            ));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[tokio::test]
async fn wrong_server_certificates_are_refused_by_the_client() {
    let world = World::new();
    let client = proxy(&world, CALLER).client_config(&id(ID), Alpn::H2).unwrap();
    let mut faults = Vec::new();
    for form in world.wrong().iter().chain(&world.right()) {
        let verifier = ClientVerifier::required(source(&world));
        let server = svid::server_config(presented(form), verifier, &[Alpn::H2.name()]).unwrap();
        let (near, far) = handshake(client.clone(), Arc::new(server)).await;
        if code(&near) != form.as_server || far.is_ok() != form.as_server.is_none() {
            faults.push(format!(
                "{}: {:?}, not {:?}; server {:?}",
                form.name,
                code(&near),
                form.as_server,
                far.is_ok()
            ));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[tokio::test]
async fn a_handshake_tells_each_side_who_the_other_is() {
    let world = World::new();
    let (caller, callee) = (proxy(&world, CALLER), proxy(&world, ID));
    for alpn in Alpn::ALL {
        let (near, far) = handshake(caller.client_config(&id(ID), alpn).unwrap(), callee.server_config()).await;
        let (near, far) = (near.unwrap(), far.unwrap());
        let (near, far) = (near.get_ref().1, far.get_ref().1);
        assert_eq!(peer_identity(near), Some(id(ID)));
        assert_eq!(peer_identity(far), Some(id(CALLER)));
        assert_eq!((Alpn::agreed(near), Alpn::agreed(far)), (Some(alpn), Some(alpn)));
        assert_eq!(far.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(far.negotiated_key_exchange_group().unwrap().name(), NamedGroup::X25519MLKEM768);
        assert_eq!(far.server_name(), None, "no SNI is sent");
    }
}

#[tokio::test]
async fn another_identity_of_the_same_mesh_is_not_the_endpoint() {
    let world = World::new();
    for other in ["spiffe://cluster.local/ns/prod/sa/web2", "spiffe://cluster.local/ns/dev/sa/web"] {
        let client = proxy(&world, CALLER).client_config(&id(ID), Alpn::Tcp).unwrap();
        let (near, far) = handshake(client, proxy(&world, other).server_config()).await;
        assert_eq!(code(&near), Some("svid_identity"));
        assert!(far.is_err());
    }
}

#[tokio::test]
async fn dots_in_an_account_match_only_themselves() {
    let world = World::new();
    let dotted = "spiffe://cluster.local/ns/prod/sa/a.b";
    let client = proxy(&world, CALLER).client_config(&id(dotted), Alpn::Tcp).unwrap();
    let (near, _) = handshake(client.clone(), proxy(&world, dotted).server_config()).await;
    assert_eq!(code(&near), None);
    let (near, _) = handshake(client, proxy(&world, "spiffe://cluster.local/ns/prod/sa/axb").server_config()).await;
    assert_eq!(code(&near), Some("svid_identity"));
}

#[tokio::test]
async fn a_client_without_certificate_is_refused() {
    let world = World::new();
    let verifier = ServerVerifier::new(id(ID), source(&world));
    let client = svid::client_config(None, verifier, &[Alpn::H2.name()]).unwrap();
    let (near, far) = handshake(Arc::new(client), proxy(&world, ID).server_config()).await;
    assert!(near.is_err() && far.is_err());
}

#[tokio::test]
async fn a_client_of_another_alpn_is_refused_and_one_of_none_is_told_apart() {
    let world = World::new();
    let config = |alpn: &[&[u8]]| {
        let form = world.right().remove(0);
        let verifier = ServerVerifier::new(id(ID), source(&world));
        Arc::new(svid::client_config(Some(presented(&form)), verifier, alpn).unwrap())
    };
    let server = proxy(&world, ID);
    let (near, far) = handshake(config(&[b"h2", b"http/1.1"]), server.server_config()).await;
    assert!(near.is_err() && far.is_err());
    let (_, far) = handshake(config(&[]), server.server_config()).await;
    assert_eq!(Alpn::agreed(far.unwrap().get_ref().1), None);
}

/// Would resume, if it were ever given anything to resume by.
#[derive(Debug, Default)]
struct Tickets(Mutex<usize>);

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }
    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}
    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }
    fn remove_tls12_session(&self, _: &ServerName<'static>) {}
    fn insert_tls13_ticket(&self, _: ServerName<'static>, _: Tls13ClientSessionValue) {
        *self.0.lock().unwrap() += 1;
    }
    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        None
    }
}

#[tokio::test]
async fn no_ticket_is_issued_and_no_early_data_taken() {
    let world = World::new();
    let server = proxy(&world, ID).server_config();
    assert_eq!((server.max_early_data_size, server.send_tls13_tickets), (0, 0));
    let ours = proxy(&world, CALLER).client_config(&id(ID), Alpn::H2).unwrap();
    assert!(!ours.enable_early_data && !ours.enable_sni);
    let tickets = Arc::new(Tickets::default());
    let mut eager = ClientConfig::clone(&ours);
    eager.resumption = Resumption::store(tickets.clone());
    let eager = Arc::new(eager);
    for _ in 0..3 {
        let (near, far) = handshake(eager.clone(), server.clone()).await;
        assert!(far.is_ok());
        assert_eq!(near.unwrap().get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
    assert_eq!(*tickets.0.lock().unwrap(), 0);
}

#[test]
fn client_configurations_are_built_once_and_their_number_is_bounded() {
    let world = World::new();
    let state = proxy(&world, CALLER);
    let config = |text: &str, alpn| state.client_config(&id(text), alpn).unwrap();
    let first = config(ID, Alpn::H2);
    assert!(Arc::ptr_eq(&first, &config(ID, Alpn::H2)));
    assert!(!Arc::ptr_eq(&first, &config(ID, Alpn::Tcp)));
    for i in 0..3000 {
        config(&format!("spiffe://cluster.local/ns/prod/sa/a{i}"), Alpn::H2);
    }
    assert!(!Arc::ptr_eq(&first, &config(ID, Alpn::H2)), "the cache began anew meanwhile");
}

#[tokio::test]
async fn a_renewal_keeps_connections_and_is_used_by_the_next_handshake() {
    let world = World::new();
    let (publish, state) = watch::channel(Some(Arc::new(proxy(&world, ID))));
    let tls = Tls::new(state);
    let caller = proxy(&world, CALLER);
    let before = tls.current().unwrap();
    let connect = |server: Arc<ServerConfig>| handshake(caller.client_config(&id(ID), Alpn::Tcp).unwrap(), server);
    let (near, far) = connect(before.server_config()).await;
    let (mut near, mut far) = (near.unwrap(), far.unwrap());

    publish.send_replace(Some(Arc::new(proxy(&world, ID))));
    let after = tls.current().unwrap();
    assert_ne!(before.leaf().serial, after.leaf().serial);
    let (newer, _) = connect(after.server_config()).await;
    assert_eq!(newer.unwrap().get_ref().1.peer_certificates().unwrap(), after.chain());

    drop((before, publish));
    near.write_all(b"still").await.unwrap();
    let mut heard = [0; 5];
    far.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"still");
    assert!(tls.current().is_some(), "a sender that is gone means: keep the last");
}

#[test]
fn a_key_that_is_not_of_the_leaf_is_refused() {
    let world = World::new();
    let ((chain, _), (_, key)) = (world.good.leaf(ID), world.good.leaf(ID));
    let credential = Credential { chain, key, issued_at: 0 };
    assert!(credential.check_key().is_err());
    assert!(TlsState::new(&credential, roots(&world), 0).is_err());
}

#[test]
fn nothing_that_is_printed_shows_the_key() {
    let world = World::new();
    let (chain, key) = world.good.leaf(ID);
    let secret = key[40..44].iter().map(|b| format!("{b}, ")).collect::<String>();
    let credential = Credential { chain, key, issued_at: 7 };
    let state = TlsState::new(&credential, roots(&world), 0).unwrap();
    for shown in [format!("{credential:?}"), format!("{state:?}")] {
        assert!(!shown.contains(secret.trim_end_matches(", ")) && !shown.contains("key"), "{shown}");
    }
}
