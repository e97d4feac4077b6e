//! The CA is replaced by one with another root while traffic flows: no request fails, and the old root is gone at the end.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use causeway_tests::binaries::binary;
use causeway_tests::capability::{Need, has};
use causeway_tests::certs::Authority;
use causeway_tests::laptop::{Laptop, Side};
use causeway_tests::ports::free_port;
use causeway_tests::{Process, until};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

/// A Service in `prod` behind one proxy, called through another one of `dev`.
fn start(ca: &Path) -> (Laptop, Side, Side) {
    let file = |name: &str| ca.join(name).display().to_string();
    let flags = ["--ca-cert", &file("ca.crt"), "--ca-key", &file("ca.key"), "--leaf-ttl", "20s"];
    let mut laptop = Laptop::start("", &flags);
    let (web, shop, app) = (laptop.side(), laptop.side(), free_port());
    let pod = |namespace: &str, name: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{app: {name}, \
             causeway.dev/injected: \"true\"}}}}\nspec: {{serviceAccountName: {name}, containers: [{{name: a, image: \
             a}}]}}\nstatus: {{phase: Running, podIP: 127.0.0.1, conditions: [{{type: Ready, status: \"True\"}}]}}\n"
        )
    };
    let service = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: shop, namespace: prod}}\nspec: {{selector: {{app: \
         shop}}, ports: [{{name: http, port: 80, targetPort: {}}}]}}\n",
        shop.inbound
    );
    laptop.write("mesh.yaml", &(pod("dev", "web") + &pod("prod", "shop") + &service));
    laptop.app("app", &["http", "--name", "shop", "--listen", &format!("127.0.0.1:{app}")]);
    laptop.proxy("prod/shop", "shop", shop, app, &[]);
    laptop.proxy("dev/web", "web", web, 9, &[]);
    (laptop, web, shop)
}

fn proxies_have(laptop: &Laptop, roots: usize, sides: [Side; 2]) {
    until(&format!("both proxies trust {roots} roots"), LIMIT, || {
        let told = laptop.control("/trust").json()["roots"].as_array().unwrap().len();
        let held: Vec<usize> = sides.iter().map(|s| held_roots(s.admin)).collect();
        if told == roots && held.iter().all(|n| *n == roots) { Ok(()) } else { Err(format!("{told} {held:?}")) }
    });
}

fn held_roots(admin: u16) -> usize {
    let url = format!("http://127.0.0.1:{admin}/certs");
    let output = Command::new("curl").args(["-sS", "--noproxy", "*", "-m", "5", &url]).output().unwrap();
    let certs: Value = serde_json::from_slice(&output.stdout).unwrap();
    certs["roots"].as_array().unwrap().len()
}

#[test]
fn a_new_root_costs_no_request_and_the_old_one_goes_by_itself() {
    if !has(&[Need::Program("curl")]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new("cluster.local"), Authority::new("cluster.local"));
    old.write(dir.path());
    let (mut laptop, web, shop) = start(dir.path());
    let (stop, log) = (laptop.path("stop"), laptop.path("load.json"));
    let mut load = Command::new(binary("causeway-test-app"));
    load.args(["load", "--url", "http://shop.prod/", "--concurrency", "4", "--pause-ms", "5", "--via"]);
    load.arg(format!("127.0.0.1:{}", web.outbound)).arg("--stop-file").arg(&stop);
    let mut load = Process::start("load", &mut load, &log);

    // Not announced: refused, the old CA stays.
    new.write(dir.path());
    let refused = |laptop: &Laptop| laptop.control("/metrics").ok().contains("causeway_control_plane_reload_failed 1");
    until("a root that nobody knows is refused", LIMIT, || if refused(&laptop) { Ok(()) } else { Err(String::new()) });
    old.write(dir.path());
    proxies_have(&laptop, 1, [web, shop]);

    // Announced, acknowledged, used.
    let spare = tempfile::tempdir().unwrap();
    let (root, _) = new.write(spare.path());
    std::fs::copy(root, laptop.path("state/extra-roots.pem")).unwrap();
    proxies_have(&laptop, 2, [web, shop]);
    // The root of the CA that signs comes first.
    let first = |laptop: &Laptop| laptop.control("/trust").json()["roots"][0]["serial"].clone();
    let before = first(&laptop);
    new.write(dir.path());
    until("the new CA signs", LIMIT, || {
        let now = first(&laptop);
        if now == before { Err(now.to_string()) } else { Ok(()) }
    });
    std::fs::remove_file(laptop.path("state/extra-roots.pem")).unwrap();
    // One leaf life later the old root is gone everywhere.
    proxies_have(&laptop, 1, [web, shop]);

    std::fs::write(stop, "").unwrap();
    load.wait(Duration::from_secs(30));
    let report: Value = serde_json::from_str(&load.log()).unwrap_or_else(|e| panic!("{e}: {}", load.log()));
    assert_eq!(report["failed"], 0, "{report}");
    assert!(report["sent"].as_u64().unwrap() > 1000, "{report}");
    // A proxy that begins now, with the bundle of now, joins.
    let late = laptop.side();
    laptop.proxy("dev/web", "web", late, 9, &[]);
}
