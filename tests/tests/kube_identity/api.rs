//! An API server, and a client of it in this process.

use std::path::Path;

use causeway_tests::capability::{Need, has};
use causeway_tests::kube::ApiServer;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::runtime::Runtime;

pub struct Api {
    pub kube: ApiServer,
    pub runtime: Runtime,
    pub client: Client,
}

impl Api {
    /// None, with a printed reason, where there is no Kubernetes.
    pub fn start() -> Option<Self> {
        has(&[Need::Kubernetes]).then(|| {
            let kube = ApiServer::start();
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            let client = runtime.block_on(client(kube.kubeconfig()));
            kube.create_namespace("causeway-system", &[]);
            Self { kube, runtime, client }
        })
    }

    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }
}

async fn client(file: &Path) -> Client {
    let config = Kubeconfig::read_from(file).unwrap();
    Client::try_from(Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap()).unwrap()
}
