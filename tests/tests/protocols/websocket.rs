//! WebSocket, by `Upgrade` of HTTP/1.1 and by extended CONNECT of HTTP/2.

use std::time::Duration;

use causeway_tests::capability::{Need, has, python};
use causeway_tests::process::{Output, run};
use causeway_tests::until;

use super::{Pair, needs, pair};

#[test]
fn websocket_upgrades_and_carries_messages() {
    if !needs() || !has(&[Need::Python]) {
        return;
    }
    let mut pair = pair();
    let mut server = pair.python("ws_server.py");
    pair.server.spawn(server.arg("8765")).wait_for_log("listening", Duration::from_secs(20));
    let script = format!("{}/python/ws_client.py", env!("CARGO_MANIFEST_DIR"));
    let output = run(pair.client.net().command(python()).args([&script, "ws://server.prod:8765/"]));
    assert!(output.stdout.contains("closed with 1000"), "{output:?}");
    // An answer other than 101 is no upgrade: what follows it is not tunnelled.
    let request = "GET / HTTP/1.1\\r\\nHost: server.prod\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\nGET /headers/smuggled HTTP/1.1\\r\\nHost: server.prod\\r\\n\\r\\n";
    let answer = pair.talk(&["server.prod:80", "--send", request, "--timeout-ms", "1500"]);
    let text = answer["text"].as_str().unwrap();
    assert!(!text.contains("HTTP/1.1 101"), "{text}");
}

impl Pair {
    fn over_http2(&self, path: &str) -> Output {
        let script = format!("{}/python/ws_h2_client.py", env!("CARGO_MANIFEST_DIR"));
        let program = python();
        let mut command = self.client.net().command("timeout");
        run(command.arg("30").arg(program).args([&script, "server.prod", "8765", path]))
    }
}

#[test]
fn websocket_over_http2_goes_end_to_end_and_is_judged_as_the_get_that_it_is() {
    if !needs() || !has(&[Need::Python]) {
        return;
    }
    let mut pair = pair();
    let mut server = pair.python("ws_h2_server.py");
    pair.server.spawn(server.arg("8765")).wait_for_log("Running", Duration::from_secs(20));
    let output = pair.over_http2("/chat");
    assert!(output.stdout.contains("closed with 1000"), "{output:?}");
    // HTTP/2 to the application too, which knows the caller.
    let greeting =
        "greeted with 2 By=spiffe://cluster.local/ns/prod/sa/server;URI=spiffe://cluster.local/ns/dev/sa/client";
    assert!(output.stdout.contains(greeting), "{output:?}");
    assert!(pair.over_http2("/refused").stdout.contains("refused with 403 None"), "the application's own refusal");

    let rule = "[{to: [{operation: {methods: [GET], notPaths: [/secret]}}]}]";
    pair.mesh.write(
        "policy.yaml",
        &format!(
            "apiVersion: causeway.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{name: get, namespace: prod}}\nspec: \
             {{selector: {{matchLabels: {{app: server}}}}, rules: {rule}}}\n"
        ),
    );
    until("the policy holds for extended CONNECT", Duration::from_secs(20), || {
        let output = pair.over_http2("/secret").stdout;
        if output.contains("refused with 403 policy_denied") { Ok(()) } else { Err(output) }
    });
    let output = pair.over_http2("/chat");
    assert!(output.stdout.contains("closed with 1000"), "a GET is allowed, so is a WebSocket: {output:?}");
}

#[test]
fn an_application_without_extended_connect_is_told_apart() {
    if !needs() {
        return;
    }
    let pair = pair();
    // The recording server speaks HTTP/2, and does not announce RFC 8441.
    let script = format!("{}/python/ws_h2_client.py", env!("CARGO_MANIFEST_DIR"));
    let output = run(pair.client.net().command(python()).args([&script, "server.prod", "80", "/"]));
    assert!(output.stdout.contains("refused with 502 upgrade_refused"), "{output:?}");
}
