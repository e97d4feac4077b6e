//! The admin face.

use crate::client::{Plane, SHOP, hello};

#[tokio::test]
async fn every_page_of_the_catalogue_answers() {
    let plane = Plane::start(&[]).await;
    let (status, catalogue) = plane.get("/").await;
    assert_eq!(status, 200);
    for page in ["/healthz", "/readyz", "/metrics", "/resources", "/problems", "/proxies", "/trust"] {
        assert!(catalogue.contains(page));
        let (status, body) = plane.get(page).await;
        assert_eq!(status, 200, "{page}: {body}");
    }
    assert_eq!(plane.get("/nothing").await.0, 404);
    assert_eq!(plane.get("/destination").await.0, 400);
    assert_eq!(plane.json("/trust").await["trust_domain"], "cluster.local");
    let shown = plane.json("/destination?client=dev%2Fweb&name=SHOP.prod:80").await;
    assert_eq!(shown["canonical"], "shop.prod:80");
    assert_eq!(shown["endpoints"]["shop.prod:80"][0]["identity"], "spiffe://cluster.local/ns/prod/sa/shop");
}

#[tokio::test]
async fn no_page_shows_a_secret() {
    let plane = Plane::start(&[]).await;
    let token = plane.token("dev", "web", None);
    let key = plane.key("dev", "web").await;
    let mut stream = plane.watch_with(Some(key), hello("dev/web-1")).await.unwrap();
    stream.apply().await;
    for page in ["/", "/metrics", "/resources", "/problems", "/proxies", "/trust"] {
        let (_, body) = plane.get(page).await;
        assert!(!body.contains(&token) && !body.contains("PRIVATE"), "{page}");
    }
}

#[tokio::test]
async fn a_connected_proxy_is_shown_with_what_it_has_acknowledged() {
    let plane = Plane::start(&[]).await;
    let mut hello = hello("dev/web-1");
    hello.destinations.push(SHOP.into());
    let mut stream = plane.watch("dev/web", hello).await.unwrap();
    let update = stream.next().await.unwrap().unwrap();
    let shown = plane.json("/proxies").await["proxies"][0].clone();
    assert_eq!((shown["acked"].as_u64(), shown["total"].as_u64()), (Some(0), Some(update.resources.len() as u64)));
    assert_eq!(shown["spiffe_id"], "spiffe://cluster.local/ns/dev/sa/web");
    assert_eq!(shown["workload"], "dev/web-1");
    stream
        .send(causeway_mesh::wire::watch_request::Request::Ack(causeway_mesh::wire::Ack { nonce: update.nonce }))
        .await;
    for _ in 0..500 {
        let shown = plane.json("/proxies").await["proxies"][0].clone();
        if shown["acked"] == shown["total"] {
            assert_eq!(plane.metric("causeway_control_plane_connected_proxies").await, 1.0);
            drop(stream);
            for _ in 0..500 {
                if plane.metric("causeway_control_plane_connected_proxies").await == 0.0 {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            panic!("a proxy that went away is still shown");
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the acknowledgement is not shown");
}

/// Every literal after `=> "` or `reason: "` or `refused("` in these files is a code.
#[test]
fn every_code_is_documented() {
    let sources = [
        include_str!("../../src/token.rs"),
        include_str!("../../src/identity.rs"),
        include_str!("../../src/identity/csr.rs"),
        include_str!("../../src/publish.rs"),
        include_str!("../../src/server.rs"),
        include_str!("../../src/server/accept.rs"),
    ];
    let docs = include_str!("../../../docs/control-plane.md");
    let mut found = 0;
    for source in sources {
        for marker in ["=> \"", "reason: \"", "refused(\"", "map_or(\""] {
            for rest in source.split(marker).skip(1) {
                let code = rest.split('"').next().unwrap();
                assert!(docs.contains(&format!("| `{code}` |")), "{code} is not in docs/control-plane.md");
                found += 1;
            }
        }
    }
    assert!(found > 20, "{found}");
}
