//! A closed-loop HTTP load generator that counts every request's fate, since `wrk` does not say who answered.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;

use super::Options;

#[derive(Default)]
struct Tally {
    sent: u64,
    failed: u64,
    errors: BTreeMap<String, u64>,
    statuses: BTreeMap<u16, u64>,
    apps: BTreeMap<String, u64>,
    micros: Vec<u32>,
}

impl Tally {
    fn note(&mut self, outcome: Result<(u16, String), String>, took: Duration) {
        match outcome {
            Ok((status, app)) => {
                self.failed += u64::from(status >= 400);
                *self.statuses.entry(status).or_default() += 1;
                *self.apps.entry(app).or_default() += 1;
                self.micros.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
            }
            Err(error) => {
                self.failed += 1;
                *self.errors.entry(error).or_default() += 1;
            }
        }
    }
}

struct Plan {
    authority: String,
    path: String,
    headers: Vec<(String, String)>,
    requests: u64,
    until: Option<Instant>,
    stop_file: Option<String>,
    terminated: Rc<Cell<bool>>,
    keep_alive: bool,
    pause: Duration,
    timeout: Duration,
}

/// `--url http://host:port/path [--requests N] [--seconds S] [--stop-file F] [--concurrency C] [--header n:v]
/// [--keepalive no] [--pause-ms P] [--via proxy:port]`; ends at the first bound reached, or at SIGTERM, and prints one
/// JSON object. A header value may hold `{n}`, the number of the request.
pub(super) async fn run(options: &Options) -> anyhow::Result<()> {
    let url: hyper::Uri = options.text("url")?.parse()?;
    let authority = url.authority().ok_or_else(|| anyhow::anyhow!("--url needs a host"))?.as_str().to_owned();
    let target = match options.optional("via") {
        Some(via) => via.to_owned(),
        None if authority.rsplit_once(':').is_some_and(|(_, p)| p.parse::<u16>().is_ok()) => authority.clone(),
        None => format!("{authority}:80"),
    };
    let path = url.path_and_query().map_or("/", |p| p.as_str());
    let plan = Rc::new(Plan {
        path: if options.optional("via").is_some() { format!("http://{authority}{path}") } else { path.to_owned() },
        authority,
        headers: options
            .all("header")
            .iter()
            .filter_map(|h| h.split_once(':'))
            .map(|(n, v)| (n.to_owned(), v.trim().to_owned()))
            .collect(),
        requests: options.number("requests", u64::MAX)?,
        until: options
            .optional("seconds")
            .map(str::parse)
            .transpose()?
            .map(|s| Instant::now() + Duration::from_secs(s)),
        stop_file: options.optional("stop-file").map(str::to_owned),
        terminated: Rc::default(),
        keep_alive: options.optional("keepalive") != Some("no"),
        pause: Duration::from_millis(options.number("pause-ms", 0)?),
        timeout: Duration::from_millis(options.number("timeout-ms", 10_000)?),
    });
    let tally = Rc::new(RefCell::new(Tally::default()));
    let local = tokio::task::LocalSet::new();
    let terminated = Rc::clone(&plan.terminated);
    let listen = local.spawn_local(async move {
        super::terminated().await;
        terminated.set(true);
    });
    let mut workers = Vec::new();
    for _ in 0..options.number("concurrency", 1)? {
        workers.push(local.spawn_local(work(target.clone(), Rc::clone(&plan), Rc::clone(&tally))));
    }
    local
        .run_until(async {
            for worker in workers {
                let _ = worker.await;
            }
        })
        .await;
    listen.abort();
    report(&mut tally.borrow_mut());
    Ok(())
}

async fn work(target: String, plan: Rc<Plan>, tally: Rc<RefCell<Tally>>) {
    let mut connection: Option<SendRequest<Full<Bytes>>> = None;
    loop {
        let number = tally.borrow().sent;
        if number >= plan.requests || plan.terminated.get() || plan.until.is_some_and(|t| Instant::now() >= t) {
            return;
        }
        if number.is_multiple_of(16) && plan.stop_file.as_ref().is_some_and(|f| std::path::Path::new(f).exists()) {
            return;
        }
        tally.borrow_mut().sent += 1;
        let begun = Instant::now();
        let outcome = tokio::time::timeout(plan.timeout, once(&mut connection, &target, &plan, number)).await;
        let outcome = outcome.unwrap_or_else(|_| Err("timeout".to_owned()));
        if outcome.is_err() || !plan.keep_alive {
            connection = None;
        }
        tally.borrow_mut().note(outcome, begun.elapsed());
        if !plan.pause.is_zero() {
            tokio::time::sleep(plan.pause).await;
        }
    }
}

async fn once(
    connection: &mut Option<SendRequest<Full<Bytes>>>,
    target: &str,
    plan: &Plan,
    number: u64,
) -> Result<(u16, String), String> {
    let mut kept = connection.take();
    if let Some(sender) = &mut kept
        && sender.ready().await.is_err()
    {
        kept = None; // the other side said goodbye between two requests; that loses nothing
    }
    let mut sender = match kept {
        Some(sender) => sender,
        None => connect(target).await?,
    };
    let mut request = hyper::Request::get(&plan.path);
    if !plan.headers.iter().any(|(name, _)| name == "host") {
        request = request.header("host", &plan.authority);
    }
    for (name, value) in &plan.headers {
        request = request.header(name, value.replace("{n}", &number.to_string()));
    }
    let request = request.body(Full::default()).map_err(|e| e.to_string())?;
    let response = sender.send_request(request).await.map_err(|e| format!("request: {e}"))?;
    let (head, body) = response.into_parts();
    body.collect().await.map_err(|e| format!("body: {e}"))?;
    let app = head.headers.get("x-app").or_else(|| head.headers.get("causeway-error"));
    let app = app.and_then(|v| v.to_str().ok()).unwrap_or("?").to_owned();
    *connection = Some(sender);
    Ok((head.status.as_u16(), app))
}

async fn connect(target: &str) -> Result<SendRequest<Full<Bytes>>, String> {
    let stream = TcpStream::connect(target).await.map_err(|e| format!("connect: {e}"))?;
    let _ = stream.set_nodelay(true);
    let (mut sender, driver) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| format!("handshake: {e}"))?;
    tokio::task::spawn_local(driver);
    sender.ready().await.map_err(|e| format!("connection: {e}"))?;
    Ok(sender)
}

fn report(tally: &mut Tally) {
    tally.micros.sort_unstable();
    let at = |share: f64| {
        let index = (tally.micros.len() as f64 * share) as usize;
        tally.micros.get(index.min(tally.micros.len().saturating_sub(1))).copied().unwrap_or(0)
    };
    let document = json!({
        "sent": tally.sent, "failed": tally.failed, "errors": tally.errors, "statuses": tally.statuses,
        "apps": tally.apps, "micros": {"p50": at(0.5), "p99": at(0.99), "max": at(1.0)},
    });
    println!("{document}");
}
