//! The images: the same bytes each time, and nothing in them that is not needed.

use std::path::Path;
use std::process::Command;

use causeway_tests::binaries::binary;
use causeway_tests::capability::{Need, has};
use causeway_tests::process::run;
use serde_json::Value;

use super::root;

fn build(out: &Path) {
    let bins = binary("causeway-proxy").parent().unwrap().to_owned();
    // A person's own mask must not get into the image.
    let script = root().join("deploy/images/build");
    run(Command::new("sh")
        .args(["-c", "umask 077; exec \"$0\" \"$@\""])
        .arg(script)
        .arg("--bin-dir")
        .arg(bins)
        .arg("--out")
        .arg(out))
    .ok();
}

fn file(archive: &Path, name: &str) -> Vec<u8> {
    let output = Command::new("tar").arg("-xOf").arg(archive).arg(name).output().unwrap();
    assert!(output.status.success(), "{name} of {}", archive.display());
    output.stdout
}

#[test]
fn images_are_the_same_bytes_each_time_and_hold_only_what_they_need() {
    if !has(&[Need::Program("strip"), Need::Program("nft"), Need::Program("dpkg")]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("1"), folder.path().join("2"));
    build(&first);
    build(&second);
    for (name, user, also) in [("control-plane", "65532:65532", None), ("proxy", "2102:2102", Some("./usr/sbin/nft"))] {
        let archive = first.join(format!("causeway-{name}.tar"));
        let same =
            std::fs::read(&archive).unwrap() == std::fs::read(second.join(format!("causeway-{name}.tar"))).unwrap();
        assert!(same, "{name} differs from build to build");

        let manifest: Value = serde_json::from_slice(&file(&archive, "manifest.json")).unwrap();
        assert_eq!(manifest[0]["RepoTags"][0], format!("causeway/{name}:{}", env!("CARGO_PKG_VERSION")));
        let config: Value = serde_json::from_slice(&file(&archive, "config.json")).unwrap();
        assert_eq!(config["config"]["User"], user);
        assert_eq!(config["config"]["Entrypoint"][0], format!("/usr/bin/causeway-{name}"));
        let environment: Vec<&str> =
            config["config"]["Env"].as_array().unwrap().iter().flat_map(Value::as_str).collect();
        assert!(environment[0].starts_with("PATH="), "{environment:?}");
        assert_eq!(environment.len(), 1 + usize::from(name == "proxy"), "{environment:?}");
        environment[1..].iter().for_each(|variable| tunes(variable));

        let layer = folder.path().join("layer.tar");
        std::fs::write(&layer, file(&archive, "layer.tar")).unwrap();
        let listing = run(Command::new("tar").args(["-tvf"]).arg(&layer)).ok();
        let program = format!("./usr/bin/causeway-{name}");
        for line in listing.lines() {
            let (mode, path) = (&line[..10], line.split_whitespace().nth(5).unwrap());
            assert!(!mode[1..].contains(['s', 'S']), "{line}: no set-uid programs");
            assert!(mode.starts_with('d') || mode.starts_with('l') || !mode[5..].contains('w'), "{line}: writable");
            let known = path.ends_with('/')
                || path.contains(".so")
                || path.starts_with("./etc/")
                || [program.as_str(), "./var/run"].contains(&path)
                || Some(path) == also;
            assert!(known, "{path} is not needed in the image of {name}");
        }
        assert!(!listing.contains("/sh\n") && !listing.contains("busybox"));
        starts(&layer, &folder.path().join(name), name);
    }
}

/// That the loader takes a variable's tunable as it is set: it ignores what it does not know or cannot read.
fn tunes(variable: &str) {
    let (key, tunable) = variable.split_once('=').unwrap();
    let (name, value) = tunable.split_once('=').unwrap();
    let value: u64 = value.parse().unwrap();
    let libraries = run(Command::new("ldd").arg(binary("causeway-proxy"))).ok();
    let loader = libraries.split_whitespace().find(|word| word.contains("/ld-linux")).unwrap();
    let tunables = run(Command::new(loader).arg("--list-tunables").env(key, tunable)).ok();
    // glibc has it for x86 only.
    if cfg!(target_arch = "x86_64") {
        let found = tunables.lines().find(|line| line.starts_with(&format!("{name}: "))).expect(name);
        assert!(found.contains(&format!(": {value:#x} ")), "{found}");
    }
}

#[test]
fn a_build_refuses_what_it_does_not_know_before_it_compiles() {
    for arguments in [&["--plain", "webhook"][..], &["proxy", "--out"]] {
        let done = Command::new(root().join("deploy/build")).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(arguments[1]) && done.stdout.is_empty(), "{arguments:?}: {said}");
    }
}

/// Every library is there: the program starts with nothing but its own root.
fn starts(layer: &Path, fs: &Path, name: &str) {
    if !has(&[Need::Namespaces]) {
        return;
    }
    std::fs::create_dir(fs).unwrap();
    run(Command::new("tar").arg("-xf").arg(layer).arg("-C").arg(fs)).ok();
    let said = run(Command::new("/usr/sbin/chroot")
        .arg("--userspec=2102:2102")
        .arg(fs)
        .arg(format!("/usr/bin/causeway-{name}"))
        .arg("--version"));
    assert!(said.ok().contains(env!("CARGO_PKG_VERSION")));
    if name == "proxy" {
        run(Command::new("/usr/sbin/chroot").arg(fs).args(["/usr/sbin/nft", "--version"])).ok();
    }
}
