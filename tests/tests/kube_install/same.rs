//! Chart, rendered manifest and command line say the same.

use super::{causeway, documents, manifest, outcome, root, template, try_helm};

/// As `deploy/render` calls Helm.
const RENDERED: [&str; 4] = ["--set", "namespace.create=true", "--set", "crds.keep=false"];

#[test]
fn the_manifest_is_what_helm_makes_of_the_chart() {
    let manifest = manifest();
    let body: String = manifest.lines().skip(2).map(|line| format!("{line}\n")).collect();
    assert!(body == template(&RENDERED), "deploy/causeway.yaml is out of date: run deploy/render");
}

#[test]
fn the_charts_copies_are_the_originals() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let chart = "deploy/helm/causeway/files";
    assert!(
        read(&format!("{chart}/admission.yaml")) == read("control-plane/src/webhook/configuration.yaml"),
        "the chart's admission.yaml is out of date: run deploy/render"
    );
    let names = |folder: &str| {
        let entries = std::fs::read_dir(root().join(folder)).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let originals = names("crds/manifests");
    assert_eq!(originals, names(&format!("{chart}/crds")));
    for name in originals {
        let same = read(&format!("crds/manifests/{name}")) == read(&format!("{chart}/crds/{name}"));
        assert!(same, "the chart's {name} is out of date: run deploy/render");
    }
}

#[test]
fn the_command_line_installs_what_the_chart_installs() {
    let (code, text) = outcome(causeway(None, &["install"]));
    assert_eq!(code, 0);
    assert!(text == manifest(), "`causeway install` differs from deploy/causeway.yaml");

    let pairs: [(&str, &str); 12] = [
        ("--replicas=3", "replicas=3"),
        ("--image-registry=registry.example.com:5000/mirror", "image.registry=registry.example.com:5000/mirror"),
        ("--tag=v9", "image.tag=v9"),
        ("--pull-policy=Always", "image.pullPolicy=Always"),
        ("--trust-domain=example.org", "trustDomain=example.org"),
        ("--cluster-domain=k8s.example.org", "clusterDomain=k8s.example.org"),
        ("--leaf-ttl=90m", "leafTtl=90m"),
        ("--default-policy=deny", "defaultPolicy=deny"),
        ("--egress=deny", "egress=deny"),
        ("--ca-secret=corporate-ca", "caSecret=corporate-ca"),
        ("--log=debug", "log.filter=debug"),
        ("--log-format=json", "log.format=json"),
    ];
    let compare = |pairs: &[(&str, &str)]| {
        let flags: Vec<&str> = ["install"].into_iter().chain(pairs.iter().map(|(flag, _)| *flag)).collect();
        // A number is a number, and a version that looks like one is a text.
        let set = |value: &str| if value.starts_with("replicas=") { "--set" } else { "--set-string" };
        let values = pairs.iter().flat_map(|(_, value)| [set(value), value]);
        let values: Vec<&str> = RENDERED.into_iter().chain(values).collect();
        let (code, text) = outcome(causeway(None, &flags));
        assert_eq!(code, 0, "{text}");
        assert_eq!(documents(&text), documents(&template(&values)), "{pairs:?}");
    };
    for pair in pairs {
        compare(&[pair]);
    }
    compare(&pairs);
}

#[test]
fn helm_finds_no_fault_with_the_chart() {
    let said = try_helm(None, &["lint", "--strict", "deploy/helm/causeway", "--namespace", "causeway-system"]).unwrap();
    assert!(said.contains("0 chart(s) failed"), "{said}");
    let chart = std::fs::read_to_string(root().join("deploy/helm/causeway/Chart.yaml")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert!(
        chart.contains(&format!("\nversion: {version}\n")) && chart.contains(&format!("\nappVersion: {version}\n"))
    );
}

#[test]
fn a_value_that_cannot_be_is_refused_by_name() {
    for (value, named) in [
        ("replicas=0", "replicas"),
        ("replicas=many", "replicas"),
        ("replica=3", "replica"),
        ("leafTtl=forever", "leafTtl"),
        ("trustDomain=Not A Domain", "trustDomain"),
        ("defaultPolicy=maybe", "defaultPolicy"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("image.tag=a b", "tag"),
        ("crds.install=perhaps", "install"),
        ("networkPolicy.apiServerPorts={0}", "apiServerPorts"),
        ("caSecret=Upper", "caSecret"),
    ] {
        let fixed = ["template", "causeway", "deploy/helm/causeway", "--namespace", "causeway-system", "--set", value];
        let error = try_helm(None, &fixed).unwrap_err();
        assert!(
            error.contains("don't meet the specifications of the schema") && error.contains(named),
            "{value}: {error}"
        );
    }
    let error = try_helm(None, &["template", "causeway", "deploy/helm/causeway", "--namespace", "mesh"]).unwrap_err();
    assert!(error.contains("causeway-system") && error.contains("--create-namespace"), "{error}");
}

#[test]
fn a_choice_that_cannot_be_is_refused_by_the_command_line_too() {
    for (flag, code, said) in [
        ("--leaf-ttl=1s", 1, "5s to 90d"),
        ("--trust-domain=Not A Domain", 1, "trust domain"),
        ("--replicas=0", 2, "--replicas"),
        ("--tag=a b", 2, "tag"),
        ("--wait", 2, "--apply"),
    ] {
        let (got, text) = outcome(causeway(None, &["install", flag]));
        assert!(got == code && text.contains(said), "{flag}: {got}: {text}");
    }
}
