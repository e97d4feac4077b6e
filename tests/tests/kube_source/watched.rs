//! The source of the control plane, watching an API server, and what came of it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use causeway_control_plane::index::{Index, Resources};
use causeway_control_plane::source::{Event, kubernetes};
use causeway_tests::eventually;
use kube::Client;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::objects;

#[derive(Default)]
struct Seen {
    index: Index,
    /// Number of events of each batch.
    batches: Vec<usize>,
}

/// A running source. Ends when dropped.
pub struct Watched {
    pub runtime: Runtime,
    pub client: Client,
    seen: Arc<Mutex<Seen>>,
}

impl Watched {
    /// Watches with the rights of a kubeconfig; through `port` of loopback where one is given.
    pub fn start(admin: &Path, watcher: PathBuf, port: Option<u16>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let client = runtime.block_on(objects::client(admin, None));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (sender, mut receiver) = mpsc::channel::<Vec<Event>>(16);
        runtime.spawn(async move {
            let client = objects::client(&watcher, port).await;
            kubernetes::watch(client, sender).await;
        });
        let told = Arc::clone(&seen);
        runtime.spawn(async move {
            while let Some(batch) = receiver.recv().await {
                let mut seen = told.lock().unwrap();
                seen.batches.push(batch.len());
                seen.index.apply(batch);
            }
        });
        Self { runtime, client, seen }
    }

    /// As [`Self::start`], until everything is read.
    pub fn synced(admin: &Path, port: Option<u16>) -> Self {
        let watched = Self::start(admin, admin.to_owned(), port);
        eventually("everything is read", || watched.is_synced());
        watched
    }

    pub fn snapshot(&self) -> Arc<Resources> {
        self.seen.lock().unwrap().index.snapshot()
    }

    pub fn is_synced(&self) -> bool {
        self.seen.lock().unwrap().index.is_synced()
    }

    /// The sizes of the batches so far.
    pub fn batches(&self) -> Vec<usize> {
        self.seen.lock().unwrap().batches.clone()
    }

    /// Waits until what is in force is as it should be.
    pub fn until(&self, what: &str, condition: impl Fn(&Resources) -> bool) {
        eventually(what, || condition(&self.snapshot()));
    }

    /// `code resource` of the problems of the source itself.
    pub fn reported(&self) -> Vec<String> {
        self.snapshot().reported.iter().map(|p| format!("{} {}", p.code, p.resource)).collect()
    }

    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }
}

/// A way to the API server that can be cut, on loopback.
pub struct Way {
    pub port: u16,
    open: tokio::sync::watch::Sender<bool>,
    _runtime: Runtime,
}

impl Way {
    /// Open at first.
    pub fn to(target: u16) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind(("127.0.0.1", 0))).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (open, is_open) = tokio::sync::watch::channel(true);
        runtime.spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let mut is_open = is_open.clone();
                tokio::spawn(async move {
                    if !*is_open.borrow_and_update() {
                        return;
                    }
                    let Ok(mut to) = tokio::net::TcpStream::connect(("127.0.0.1", target)).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut from, &mut to) => {}
                        _ = is_open.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Self { port, open, _runtime: runtime }
    }

    pub fn cut(&self) {
        self.open.send_replace(false);
    }

    pub fn mend(&self) {
        self.open.send_replace(true);
    }
}
