//! The one address of the control planes: carries each connection to one that their EndpointSlices name, as kube-proxy does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::world::World;

/// Ends with its runtime.
pub struct Front {
    /// On loopback.
    pub port: u16,
    replicas: watch::Sender<Vec<SocketAddr>>,
    carried: Arc<AtomicUsize>,
}

impl Front {
    pub fn start(runtime: &Runtime) -> Self {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (replicas, known) = watch::channel(Vec::<SocketAddr>::new());
        let carried = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&carried);
        runtime.spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                let known = known.borrow().clone();
                let turn = count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(carry(from, known, turn));
            }
        });
        Self { port, replicas, carried }
    }

    /// From now on to those that the EndpointSlices name.
    pub fn lead_to_replicas(&self, world: &World) {
        let slices = world.kube.get(&["-n", "causeway-system", "endpointslices"]).unwrap();
        let address = |slice: &serde_json::Value| {
            let ip = slice["endpoints"][0]["addresses"][0].as_str()?.parse().ok()?;
            Some(SocketAddr::new(ip, u16::try_from(slice["ports"][0]["port"].as_u64()?).ok()?))
        };
        let all: Vec<SocketAddr> = slices["items"].as_array().unwrap().iter().filter_map(address).collect();
        assert!(!all.is_empty(), "{slices}");
        self.replicas.send_replace(all);
    }

    /// How many there were.
    pub fn connections(&self) -> usize {
        self.carried.load(Ordering::SeqCst)
    }
}

async fn carry(mut from: TcpStream, replicas: Vec<SocketAddr>, turn: usize) {
    let Some(replica) = replicas.get(turn % replicas.len().max(1)) else { return };
    // One that died and still is in the list: the proxy tries again, as it must.
    let Ok(mut to) = TcpStream::connect(replica).await else { return };
    let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
}
