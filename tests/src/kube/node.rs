//! A whole one-node Kubernetes in namespaces of its own: API server, controllers, scheduler, kubelet with containerd,
//! kube-proxy and CoreDNS. Needs root. The host reaches pods and Services directly; nothing leads out of the machine.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use super::cluster::Cluster;
use super::guard::Guard;
use super::pki::Pki;
use super::{components, images};
use crate::poll::until;
use crate::process::{Process, run};

/// Name of the node.
pub const NAME: &str = "node1";

/// Longest wait for a part of the node, on a machine that is busy with other tests.
const START: Duration = Duration::from_secs(120);

/// A running node, used through [`Cluster`]'s methods.
#[derive(Debug)]
pub struct Node {
    cluster: Cluster,
    components: Mutex<BTreeMap<&'static str, Process>>,
    init: Process,
    pid: u32,
    place: Place,
    pki: Pki,
    // Last, so that it ends after the processes above: it removes their directory.
    guard: Guard,
}

/// The addresses of one node among those that run side by side.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Number, 0..32.
    number: u8,
    /// Process that has it: a node that ends must not clean up after the next of its number.
    pid: u32,
    /// The host's end of the link to the node.
    pub(super) host: Ipv4Addr,
    /// The node's address.
    pub(super) node: Ipv4Addr,
    /// Pods' addresses.
    pub(super) pods: String,
    /// Services' addresses.
    pub(super) services: String,
    /// The cluster's DNS.
    pub(super) dns: Ipv4Addr,
    /// IPv6 beside IPv4, where the node has both.
    pub(super) six: Option<Six>,
}

/// The IPv6 addresses of a node that has both families. They stay within it: nothing on the host leads to them.
#[derive(Clone, Debug)]
pub(super) struct Six {
    /// The node's address.
    pub(super) node: Ipv6Addr,
    /// Pods' addresses.
    pub(super) pods: String,
    /// Services' addresses.
    pub(super) services: String,
}

/// Which addresses the pods and Services of a node have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// IPv4 alone.
    Four,
    /// IPv4 first, and IPv6.
    Both,
}

impl Place {
    fn numbered(number: u8, pid: u32) -> Self {
        let link = |last| Ipv4Addr::new(172, 29, 200 + number, last);
        Self {
            number,
            pid,
            host: link(1),
            node: link(2),
            pods: format!("10.{}.0.0/24", 150 + number),
            services: format!("10.{}.0.0/16", 190 + number),
            dns: Ipv4Addr::new(10, 190 + number, 0, 10),
            six: None,
        }
    }

    fn with(self, families: Families) -> Self {
        let number = u16::from(self.number);
        let six = Six {
            node: Ipv6Addr::new(0xfd00, 0xca, number, 0, 0, 0, 0, 2),
            pods: format!("fd00:ca:{number:x}:1::/64"),
            services: format!("fd00:ca:{number:x}:2::/112"),
        };
        Self { six: (families == Families::Both).then_some(six), ..self }
    }

    /// What holds for one family, and after a comma for the other where the node has both.
    pub(super) fn both(&self, four: &str, six: impl FnOnce(&Six) -> String) -> String {
        self.six.as_ref().map_or_else(|| four.to_owned(), |s| format!("{four},{}", six(s)))
    }

    fn link(&self) -> String {
        format!("cwnode{}", self.number)
    }

    /// The control group over everything of the node's pods.
    pub(super) fn group(&self) -> String {
        format!("causeway-node{}-{}", self.number, self.pid)
    }

    /// First address of the Services, which is the API server's.
    pub(super) fn api(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 190 + self.number, 0, 1)
    }
}

impl Node {
    /// Starts a node and waits until it is ready, with its DNS.
    pub fn start() -> Self {
        Self::start_with(Families::Four)
    }

    /// As [`Node::start`], with these addresses.
    pub fn start_with(families: Families) -> Self {
        let guard = Guard::new("causeway-node-");
        let directory = guard.directory().to_owned();
        std::fs::create_dir(directory.join("log")).expect("directory of the logs");
        let init = start_init(&directory);
        guard.watch(&init);
        let pid = wait_for_init(&init, &directory);
        let place = claim_place(pid, &directory).with(families);
        let (host, node, api) = (place.host.to_string(), place.node.to_string(), place.api().to_string());
        let names = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "localhost",
            NAME,
            "127.0.0.1",
            &node,
            &host,
            &api,
        ];
        let pki = Pki::new(directory.join("pki"), &names, NAME);
        let kubeconfig = directory.join("kubeconfig");
        pki.kubeconfig("admin", &format!("https://{node}:6443"), &kubeconfig);
        components::write_configuration(&directory, &place, &pki);
        let cluster = Cluster::new(kubeconfig);
        let this = Self { cluster, components: Mutex::default(), init, pid, place, pki, guard };
        this.bring_up();
        this
    }

    fn bring_up(&self) {
        self.connect();
        for name in ["etcd", "containerd", "kube-apiserver"] {
            self.start_component(name);
        }
        let out = self.guard.directory().join("images");
        let mut basic = vec![images::pause(&out)];
        basic.push(images::coredns(&out));
        until("containerd answers", START, || {
            let answer = run(self.enter("ctr").arg("version"));
            if answer.code == Some(0) { Ok(()) } else { Err(answer.stderr) }
        });
        for image in basic {
            self.load_image(&image);
        }
        self.start_component("kubelet");
        self.wait_for_path("/readyz", START);
        for name in ["kube-controller-manager", "kube-scheduler", "kube-proxy"] {
            self.start_component(name);
        }
        let dns = include_str!("../../kube/coredns.yaml")
            .replace("@ADDRESS@", &self.place.dns.to_string())
            .replace("@OUTSIDE@", &self.address().to_string());
        until("the manifest of the DNS is applied", START, || self.apply(&dns));
        until("the node is ready", START, || {
            self.wait(&[&format!("node/{NAME}")], "condition=Ready", Duration::from_secs(1))
        });
        until("the DNS is ready", START, || {
            self.wait(&["-n", "kube-system", "deploy/coredns"], "condition=Available", Duration::from_secs(1))
        });
        until("the controllers made the namespace's account", START, || {
            self.kubectl(&["get", "serviceaccount", "default"])
        });
    }

    /// A program inside the node's namespaces, e.g. `ctr`, `tcpdump`. Killing it kills the program.
    pub fn enter(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "-t",
            &self.pid.to_string(),
            "-m",
            "-p",
            "-n",
            "-u",
            "-i",
            "--",
            "setpriv",
            "--pdeathsig",
            "KILL",
        ]);
        command.arg(program);
        command
    }

    /// Imports a docker-archive, so that pods can use the image.
    pub fn load_image(&self, archive: &Path) {
        let file = std::fs::File::open(archive).unwrap_or_else(|e| panic!("{}: {e}", archive.display()));
        let mut command = self.enter("ctr");
        let output = command.args(["-n", "k8s.io", "images", "import", "-"]).stdin(file).output().expect("ctr");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}: {text}", archive.display());
    }

    /// Runs a program in a container; its standard output, or what went wrong.
    pub fn exec(&self, namespace: &str, pod: &str, container: &str, command: &[&str]) -> Result<String, String> {
        self.kubectl(&[&["-n", namespace, "exec", pod, "-c", container, "--"], command].concat())
    }

    /// Starts a component by its name, `kubelet`, `kube-apiserver` and so on; see `components`.
    pub fn start_component(&self, name: &'static str) {
        let mut command = self.enter(components::program(name));
        command.args(components::flags(name, self.guard.directory(), &self.place, &self.pki));
        let log = self.guard.directory().join(format!("log/{name}.log"));
        let process = Process::start(name, &mut command, &log).untold();
        self.components.lock().expect("components").insert(name, process);
    }

    /// Kills a component with SIGKILL; pods go on. `start_component` brings it back.
    pub fn kill_component(&self, name: &str) {
        drop(self.components.lock().expect("components").remove(name));
    }

    /// What a component printed so far.
    pub fn component_log(&self, name: &str) -> String {
        std::fs::read_to_string(self.guard.directory().join(format!("log/{name}.log"))).unwrap_or_default()
    }

    /// A directory that lives as long as the node, for files of the test.
    pub fn directory(&self) -> &Path {
        self.guard.directory()
    }

    /// The node's address; probes of the kubelet come from the pods' bridge, `gateway`.
    pub fn address(&self) -> Ipv4Addr {
        self.place.node
    }

    /// The host's address as pods see it.
    pub fn host_address(&self) -> Ipv4Addr {
        self.place.host
    }

    /// Process id, as the host sees it, of the first process of a container.
    pub fn container_pid(&self, namespace: &str, pod: &str, container: &str) -> u32 {
        let pod = self.get(&["-n", namespace, "pod", pod]).expect("the pod");
        let statuses = ["containerStatuses", "initContainerStatuses"].map(|l| pod["status"][l].as_array().cloned());
        let id = statuses.into_iter().flatten().flatten().find(|s| s["name"] == container);
        let id = id.and_then(|s| s["containerID"].as_str().map(str::to_owned)).expect("the container's id");
        let id = id.rsplit('/').next().expect("an id").to_owned();
        let tasks = run(self.enter("ctr").args(["-n", "k8s.io", "tasks", "ls"])).ok();
        let line = tasks.lines().find(|l| l.starts_with(&id)).unwrap_or_else(|| panic!("no task {id}: {tasks}"));
        let inside = line.split_whitespace().nth(1).expect("a process id").to_owned();
        self.host_pid(&inside)
    }

    /// Resident memory and processor time of a container's first process.
    pub fn usage(&self, namespace: &str, pod: &str, container: &str) -> Usage {
        let pid = self.container_pid(namespace, pod, container);
        Usage { rss_kib: crate::process::rss_kib(pid), cpu: crate::process::cpu(pid) }
    }

    /// The host's number of a process that the node knows by `inside`.
    fn host_pid(&self, inside: &str) -> u32 {
        let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
        let found = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find(|pid| {
            // The numbers of a process from the host's view inwards: the second is the node's.
            status(*pid, "NSpid:").get(1).is_some_and(|n| n == inside) && self.holds(*pid)
        });
        found.unwrap_or_else(|| panic!("no process {inside} in the node"))
    }

    /// Whether a process descends from the node's first; other nodes may run beside this one.
    fn holds(&self, pid: u32) -> bool {
        let parent = |pid: &u32| status(*pid, "PPid:").first()?.parse::<u32>().ok().filter(|p| *p > 0);
        std::iter::successors(Some(pid), parent).any(|p| p == self.pid)
    }

    /// Names and addresses the network inside, and adds the host's routes to pods and Services.
    fn connect(&self) {
        let Place { host, node, .. } = &self.place;
        let link = self.place.link();
        let inside = |arguments: &[&str]| run(self.enter(arguments[0]).args(&arguments[1..])).ok();
        inside(&["ip", "addr", "add", &format!("{node}/30"), "dev", "eth0"]);
        inside(&["ip", "link", "set", "eth0", "up"]);
        run(Command::new("ip").args(["addr", "add", &format!("{host}/30"), "dev", &link])).ok();
        run(Command::new("ip").args(["link", "set", &link, "up"])).ok();
        inside(&["ip", "route", "add", "default", "via", &host.to_string()]);
        // Without the bridge's packets passing iptables, a pod could not reach its neighbour through a Service.
        run(Command::new("modprobe").args(["-q", "br_netfilter"]));
        inside(&["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.bridge.bridge-nf-call-iptables=1"]);
        if let Some(six) = &self.place.six {
            let both = ["net.ipv6.conf.all.forwarding=1", "net.bridge.bridge-nf-call-ip6tables=1"];
            inside(&[&["sysctl", "-qw"], &both[..]].concat());
            inside(&["ip", "addr", "add", &format!("{}/64", six.node), "dev", "eth0", "nodad"]);
        }
        for range in [&self.place.pods, &self.place.services] {
            run(Command::new("ip").args(["route", "replace", range, "via", &node.to_string()])).ok();
        }
    }
}

/// What a process has used.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Resident memory, KiB.
    pub rss_kib: u64,
    /// Processor time.
    pub cpu: Duration,
}

impl Deref for Node {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // All at once, before the components' own ends, each of which would be waited for.
        self.init.kill();
    }
}

/// The values of a line of `/proc/PID/status`.
fn status(pid: u32, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().map(str::to_owned).collect()
}

fn start_init(directory: &Path) -> Process {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--net", "--uts", "--ipc"]);
    command.arg(super::scripts().join("node-init")).arg(directory).arg(NAME);
    Process::start("node", &mut command, &directory.join("log/node.log"))
}

/// The host's number of the node's first process, once that has made its file systems.
fn wait_for_init(init: &Process, directory: &Path) -> u32 {
    until("the node's namespaces are there", START, || {
        let children = run(Command::new("pgrep").args(["-P", &init.pid().to_string()])).stdout;
        let ready = directory.join("init.ready").exists();
        children.trim().parse::<u32>().ok().filter(|_| ready).ok_or_else(|| init.log())
    })
}

/// Takes the first free number by making the link that carries it, and tells the guard how to clean up after it.
fn claim_place(pid: u32, directory: &Path) -> Place {
    let place = (0..32).map(|number| Place::numbered(number, pid)).find(|place| {
        let link = place.link();
        let peer = ["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &pid.to_string()];
        run(Command::new("ip").args(peer)).code == Some(0)
    });
    let place = place.expect("fewer than 32 nodes on this machine, and the right to make network links");
    // By this the cleanup knows the link from a later node's of the same name.
    run(Command::new("ip").args(["link", "set", &place.link(), "alias", &place.group()])).ok();
    components::make_group(&place);
    let cleanup =
        format!("#!/bin/bash\nexec {} {} {}\n", script("node-cleanup").display(), place.link(), place.group());
    let file = directory.join("cleanup");
    std::fs::write(&file, cleanup).expect("cleanup");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&file, mode).expect("its mode");
    place
}

fn script(name: &str) -> PathBuf {
    super::scripts().join(name)
}
