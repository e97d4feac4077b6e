//! The components of a node: their programs, flags and configuration files.

use std::path::{Path, PathBuf};

use super::node::{NAME, Place};
use super::pki::Pki;
use super::{api_server, program as kubernetes};
use crate::capability;

const ETCD: &str = "http://127.0.0.1:2379";

/// The program of a component.
pub(super) fn program(name: &str) -> PathBuf {
    match name {
        "containerd" => capability::program(name).expect("containerd; tests/setup installs it"),
        _ => kubernetes(name),
    }
}

/// The flags of a component on a node that lives in `directory`.
///
/// # Panics
/// When there is no component of this name.
pub(super) fn flags(name: &str, directory: &Path, place: &Place, pki: &Pki) -> Vec<String> {
    let file = |name: &str| directory.join(name).display().to_string();
    let own = |flags: &[&str]| flags.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>();
    match name {
        "etcd" => api_server::etcd_flags(&directory.join("etcd"), ETCD, "http://127.0.0.1:2380"),
        "kube-apiserver" => {
            let services = place.both(&place.services, |six| six.services.clone());
            let mut flags = api_server::server_flags(pki, ETCD, &services);
            flags.extend(own(&["--secure-port=6443", &format!("--advertise-address={}", place.node)]));
            flags
        }
        "containerd" => own(&["-c", &file("containerd.toml")]),
        "kubelet" => own(&[
            &format!("--config={}", file("kubelet.json")),
            &format!("--kubeconfig={}", file("kubelet.kubeconfig")),
            &format!("--hostname-override={NAME}"),
            &format!("--node-ip={}", place.both(&place.node.to_string(), |six| six.node.to_string())),
        ]),
        "kube-controller-manager" => {
            let mut flags = api_server::controller_flags(pki, &directory.join("kube-controller-manager.kubeconfig"));
            flags.extend(own(&[
                "--allocate-node-cidrs=true",
                &format!("--cluster-cidr={}", place.both(&place.pods, |six| six.pods.clone())),
                &format!("--service-cluster-ip-range={}", place.both(&place.services, |six| six.services.clone())),
            ]));
            // Each of these is refused where the other belongs.
            flags.extend(match place.six {
                Some(_) => own(&["--node-cidr-mask-size-ipv4=24", "--node-cidr-mask-size-ipv6=64"]),
                None => own(&["--node-cidr-mask-size=24"]),
            });
            flags
        }
        "kube-scheduler" => own(&[
            &format!("--kubeconfig={}", file("kube-scheduler.kubeconfig")),
            "--leader-elect=false",
            "--kube-api-qps=300",
            "--kube-api-burst=600",
            "--profiling=false",
        ]),
        "kube-proxy" => own(&[&format!("--config={}", file("kube-proxy.json"))]),
        other => panic!("a node has no component {other}"),
    }
}

/// Writes the files that the flags name.
pub(super) fn write_configuration(directory: &Path, place: &Place, pki: &Pki) {
    for user in ["kubelet", "kube-proxy", "kube-controller-manager", "kube-scheduler"] {
        pki.kubeconfig(user, "https://127.0.0.1:6443", &directory.join(format!("{user}.kubeconfig")));
    }
    let write = |name: &str, text: &str| std::fs::write(directory.join(name), text).expect("a file of a component");
    write("resolv.conf", &format!("nameserver {}\n", place.dns));
    std::fs::create_dir(directory.join("cni")).expect("directory of the network's configuration");
    write("cni/10-pods.conflist", &network(place).to_string());
    write("containerd.toml", &containerd(directory));
    write("kubelet.json", &kubelet(directory, place, pki).to_string());
    write("kube-proxy.json", &kube_proxy(directory, place).to_string());
}

/// Makes the control group of the node's pods in every hierarchy, v1 or v2.
pub(super) fn make_group(place: &Place) {
    let (root, name) = (Path::new("/sys/fs/cgroup"), place.group());
    if root.join("cgroup.controllers").exists() {
        let group = root.join(name);
        std::fs::create_dir_all(&group).expect("control group");
        for directory in [root, &group] {
            let controllers = std::fs::read_to_string(directory.join("cgroup.controllers")).unwrap_or_default();
            for controller in controllers.split_whitespace() {
                // One that cannot be had is missed by nothing that the suites measure.
                let _ = std::fs::write(directory.join("cgroup.subtree_control"), format!("+{controller}"));
            }
        }
        return;
    }
    for hierarchy in std::fs::read_dir(root).expect("control groups").flatten() {
        let (parent, group) = (hierarchy.path(), hierarchy.path().join(&name));
        std::fs::create_dir_all(&group).expect("control group");
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(value) = std::fs::read(parent.join(file)) {
                std::fs::write(group.join(file), value).expect("what a group of cpuset cannot do without");
            }
        }
    }
}

/// One bridge for all pods; the node routes between it and the host.
fn network(place: &Place) -> serde_json::Value {
    let subnets = std::iter::once(&place.pods).chain(place.six.iter().map(|six| &six.pods));
    let ranges: Vec<_> = subnets.map(|subnet| serde_json::json!([{"subnet": subnet}])).collect();
    let everywhere = [Some("0.0.0.0/0"), place.six.as_ref().map(|_| "::/0")];
    let routes: Vec<_> = everywhere.iter().flatten().map(|dst| serde_json::json!({"dst": dst})).collect();
    serde_json::json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [{
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": true,
            "ipMasq": false,
            "hairpinMode": true,
            "ipam": {
                "type": "host-local",
                "dataDir": "/run/cni-addresses",
                "ranges": ranges,
                "routes": routes,
            },
        }],
    })
}

fn containerd(directory: &Path) -> String {
    let plugins = "io.containerd.grpc.v1.cri";
    let root = directory.display();
    format!(
        r#"version = 2
root = "{root}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{root}/containerd/opt"
[plugins."{plugins}"]
  sandbox_image = "docker.io/causeway-test/pause:1"
  disable_apparmor = true
  restrict_oom_score_adj = true
  tolerate_missing_hugetlb_controller = true
[plugins."{plugins}".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "{root}/cni"
[plugins."{plugins}".containerd]
  snapshotter = "overlayfs"
"#
    )
}

fn kubelet(directory: &Path, place: &Place, pki: &Pki) -> serde_json::Value {
    serde_json::json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": pki.path("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": pki.path("server.crt"),
        "tlsPrivateKeyFile": pki.path("server.key"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", place.group()),
        "failCgroupV1": false,
        "failSwapOn": false,
        "clusterDNS": [place.dns],
        "clusterDomain": "cluster.local",
        "resolvConf": directory.join("resolv.conf"),
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        // A machine that is short of space or memory is not to evict what a test has just started.
        "evictionHard": {"memory.available": "0%"},
        "imageGCHighThresholdPercent": 100,
        "localStorageCapacityIsolation": false,
        "serializeImagePulls": false,
        "eventRecordQPS": 0,
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
    })
}

fn kube_proxy(directory: &Path, place: &Place) -> serde_json::Value {
    serde_json::json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clusterCIDR": place.both(&place.pods, |six| six.pods.clone()),
        "hostnameOverride": NAME,
        "clientConnection": {"kubeconfig": directory.join("kube-proxy.kubeconfig")},
        // The kernel's limits belong to the whole machine.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "iptables": {"minSyncPeriod": "100ms"},
    })
}
