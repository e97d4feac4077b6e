//! Which request a route takes.

use causeway_tests::until;

use crate::stage::{SOON, Stage, send};

const ROUTE: &str = include_str!("../../fixtures/traffic/matching.yaml");

/// Arguments of curl, Service and path, and who answers: v2 where the condition holds, else v1.
const ROWS: &[(&[&str], &str, &str)] = &[
    (&[], "matching/", "v1"),
    (&[], "matching/exact", "v2"),
    (&[], "matching/exact/x", "v1"),
    (&[], "matching/prefix/x", "v2"),
    (&[], "matching/prefix", "v1"),
    (&[], "matching/item/12", "v2"),
    (&[], "matching/item/12a", "v1"),
    (&[], "matching/CASE", "v2"),
    (&["-X", "DELETE"], "matching/method", "v2"),
    (&["-X", "POST"], "matching/method", "v1"),
    (&["-H", "x-exact: jo"], "matching/headers", "v2"),
    (&["-H", "x-exact: joe"], "matching/headers", "v1"),
    (&["-H", "x-prefix: red-1"], "matching/headers", "v2"),
    (&["-H", "x-prefix: blue"], "matching/headers", "v1"),
    (&["-H", "x-regex: aaa"], "matching/headers", "v2"),
    (&["-H", "x-regex: aab"], "matching/headers", "v1"),
    (&["-H", "x-both: 1", "-H", "x-too: any"], "matching/headers", "v2"),
    (&["-H", "x-both: 1"], "matching/headers", "v1"),
    (&["-H", "x-any: thing"], "matching/present", "v2"),
    (&[], "matching/present", "v1"),
    (&[], "matching/absent", "v2"),
    (&["-H", "x-no: 1"], "matching/absent", "v1"),
    (&[], "matching/query?q=1&z", "v2"),
    (&[], "matching/query?q=12", "v1"),
    (&[], "matching/query?r=abc", "v2"),
    (&[], "matching/query?r=abcd", "v1"),
    (&["-H", "host: canary.shop"], "matching/authority", "v2"),
    (&[], "matching/authority", "v1"),
    (&[], "matching/scheme/http", "v2"),
    (&[], "matching/scheme/tls", "v1"),
    (&[], "matching:8080/port", "v2"),
    (&[], "matching/port", "v1"),
    (&["--http2-prior-knowledge"], "matching/exact", "v2"),
    (&["--http2-prior-knowledge", "-H", "x-exact: joe"], "matching/headers", "v1"),
];

/// Path, who answers the client, and who answers the guest.
const SOURCES: &[(&str, &str, &str)] = &[
    ("matching/from/labels", "v2", "v1"),
    ("matching/from/namespace", "v1", "v2"),
    ("matching/from/account", "v2", "v1"),
];

pub fn each_condition_decides(stage: &Stage) {
    stage.apply(ROUTE);
    for (arguments, at, app) in ROWS {
        let reply = stage.get(at, arguments);
        assert_eq!((reply.status, reply.header("x-app")), (200, *app), "{arguments:?} {at}: {reply:?}");
    }
    for (at, of_client, of_guest) in SOURCES {
        for (from, app) in [(&stage.client, of_client), (&stage.guest, of_guest)] {
            let reply = send(from, at, &[]);
            assert_eq!((reply.status, reply.header("x-app")), (200, *app), "{at}: {reply:?}");
        }
    }
    // The two clients that have used it, and the five pods of the Service's own namespace, which have it unasked.
    until("the status counts everybody", SOON, || {
        let status = stage.node.get(&["-n", "prod", "virtualservices.causeway.dev", "matching"])?["status"].take();
        let counted = ["acked", "total"].map(|name| status[name].as_u64());
        if counted == [Some(7); 2] { Ok(()) } else { Err(status.to_string()) }
    });
}
