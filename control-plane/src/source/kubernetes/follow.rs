//! Follows one kind: lists it, watches from there, and lists anew where the API server has forgotten what came between.
//! What the objects come to is left to `known`.
//!
//! A list counts only when its last page has come, so that no failure and no half list ever looks like a deletion.

use super::fault::Fault;
use super::kinds::Target;
use super::known::Id;
use super::mask::{Object, Page, Shape};
use crate::clock;
use futures_util::TryStreamExt as _;
use http_body_util::BodyExt as _;
use kube::client::Body;
use kube::core::params::{ListParams, WatchParams};
use kube::core::{Request, Status, WatchEvent};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Longest wait for the first bytes of an answer, and between two pieces of one.
const ANSWER: Duration = Duration::from_secs(60);
/// How long the API server holds a watch before it ends it, seconds. A connection that died unseen is found out soon after.
const WATCH: u32 = 120;
/// What a watch may take longer than that.
const GRACE: Duration = Duration::from_secs(15);
/// A watch that ends sooner, with nothing told, counts as a failure: no endless loop of short watches.
const SHORT: Duration = Duration::from_secs(1);

/// What is heard of one kind.
#[derive(Debug)]
pub enum Step<T> {
    /// Everything that exists; what is not in it is gone. Ends what [`Step::Down`] told.
    Listed(Vec<T>),
    /// New or changed.
    Applied(T),
    /// Deleted.
    Deleted(Id),
    /// Not followed just now; what was heard stays true.
    Down(Fault),
    /// Followed again, with nothing missed.
    Up,
}

/// One kind and how it is read.
pub struct Follower<S, T> {
    /// Reaches the API server.
    pub client: kube::Client,
    /// What to follow.
    pub target: Target,
    /// Most objects of one page.
    pub page: u32,
    /// Makes of an object what is kept of it.
    pub read: fn(Target, Object<S>) -> T,
}

/// Nobody listens any more.
struct Closed;

/// Failures in a row, and whether they were told.
#[derive(Default)]
struct Trouble {
    failures: u32,
    told: Option<Fault>,
}

impl<S: Shape, T: Send + 'static> Follower<S, T> {
    /// Runs until nobody listens; `tell` sends on.
    pub async fn run<M, W>(self, steps: mpsc::Sender<M>, wrap: W)
    where
        W: Fn(Step<T>) -> M + Send,
    {
        let mut trouble = Trouble::default();
        let tell = Tell { steps, wrap };
        loop {
            let done = match self.list().await {
                Ok((objects, version)) => {
                    // The failures are forgotten only by a watch that lasts: one that is gone at once must not list on and on.
                    trouble.told = None;
                    match tell.send(Step::Listed(objects)).await {
                        Ok(()) => self.watch(version, &tell, &mut trouble).await,
                        closed => closed,
                    }
                }
                Err(fault) => trouble.pause(fault, &tell).await,
            };
            if done.is_err() {
                return;
            }
        }
    }

    /// All pages of one list, and the version that they are a picture of.
    async fn list(&self) -> Result<(Vec<T>, String), Fault> {
        let mut objects = Vec::new();
        let mut params = ListParams { limit: Some(self.page), ..ListParams::default() };
        loop {
            let page = self.page(&params).await?;
            objects.extend(page.items.unwrap_or_default().into_iter().map(|o| (self.read)(self.target, o)));
            let next = page.metadata.next.filter(|n| !n.is_empty());
            if next.is_none() {
                let version = page.metadata.resource_version.filter(|v| !v.is_empty());
                let version = version.ok_or_else(|| Fault::Unavailable("its list has no resourceVersion".into()))?;
                return Ok((objects, version));
            }
            params.continue_token = next;
        }
    }

    async fn page(&self, params: &ListParams) -> Result<Page<S>, Fault> {
        let broken = |error: &dyn std::error::Error| Fault::Unavailable(format!("a list cannot be read: {error}"));
        let request = Request::new(self.target.path()).list(params).map_err(|e| broken(&e))?;
        let response = timeout(ANSWER, self.client.send(request.map(Body::from))).await.map_err(|_| silent())?;
        let (head, mut body) = response.map_err(|e| Fault::of_error(&e))?.into_parts();
        let mut bytes = Vec::new();
        while let Some(frame) = timeout(ANSWER, body.frame()).await.map_err(|_| silent())? {
            if let Ok(data) = frame.map_err(|e| Fault::of_error(&e))?.into_data() {
                bytes.extend_from_slice(&data);
            }
        }
        if !head.status.is_success() {
            return Err(Fault::of_status(&refusal(head.status, &bytes)));
        }
        // A page may have megabytes: it must not hold up the runtime's threads.
        let parsed = tokio::task::spawn_blocking(move || serde_json::from_slice(&bytes)).await;
        parsed.map_err(|e| broken(&e))?.map_err(|e| broken(&e))
    }

    /// Watches from `version` on, again and again, until only a list helps.
    async fn watch<M, W>(&self, mut version: String, tell: &Tell<M, W>, trouble: &mut Trouble) -> Result<(), Closed>
    where
        W: Fn(Step<T>) -> M + Send,
    {
        loop {
            let (began, before) = (clock::now(), version.clone());
            match self.watch_once(&mut version, tell, trouble).await? {
                Ok(()) if began.elapsed() >= SHORT || version != before => trouble.failures = 0,
                Ok(()) => trouble.wait(&Fault::Busy(None)).await,
                Err(fault) => {
                    trouble.pause(fault.clone(), tell).await?;
                    if fault.calls_for_list(trouble.failures) {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// One watch, until it ends as it should. `version` follows what was told.
    async fn watch_once<M, W>(
        &self,
        version: &mut String,
        tell: &Tell<M, W>,
        trouble: &mut Trouble,
    ) -> Result<Result<(), Fault>, Closed>
    where
        W: Fn(Step<T>) -> M + Send,
    {
        let params = WatchParams { bookmarks: true, timeout: Some(WATCH), ..WatchParams::default() };
        let request = match Request::new(self.target.path()).watch(&params, version) {
            Ok(request) => request,
            Err(error) => return Ok(Err(Fault::Unavailable(error.to_string()))),
        };
        let events = match timeout(ANSWER, self.client.request_events::<Object<S>>(request)).await {
            Ok(Ok(events)) => events,
            Ok(Err(error)) => return Ok(Err(Fault::of_error(&error))),
            Err(_) => return Ok(Err(silent())),
        };
        let mut events = std::pin::pin!(events);
        let longest = Duration::from_secs(WATCH.into()) + GRACE;
        let mut is_first = true;
        loop {
            // An API server that cannot go on from `version` says so in the first event, not in the status code.
            let next = match timeout(if is_first { SHORT } else { longest }, events.try_next()).await {
                Err(_) if is_first => {
                    (is_first, trouble.failures) = (false, 0);
                    trouble.mended(tell).await?;
                    continue;
                }
                Err(_) => return Ok(Ok(())),
                Ok(Ok(None)) => return Ok(Ok(())),
                Ok(Ok(Some(event))) => event,
                Ok(Err(error)) if is_first => return Ok(Err(Fault::of_error(&error))),
                // Nothing to tell before going on from here has failed too.
                Ok(Err(error)) => {
                    tracing::debug!(%error, kind = self.target.name(), "a watch broke; going on");
                    return Ok(Ok(()));
                }
            };
            let (step, now) = match next {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    let now = object.metadata("resourceVersion").to_owned();
                    (Some(Step::Applied((self.read)(self.target, object))), now)
                }
                WatchEvent::Deleted(object) => {
                    (Some(Step::Deleted(id(&object))), object.metadata("resourceVersion").to_owned())
                }
                WatchEvent::Bookmark(bookmark) => (None, bookmark.metadata.resource_version),
                WatchEvent::Error(status) => return Ok(Err(Fault::of_status(&status))),
            };
            is_first = false;
            trouble.mended(tell).await?;
            if let Some(step) = step {
                tell.send(step).await?;
            }
            *version = now;
        }
    }
}

/// What names an object among its kind.
pub fn id<S>(object: &Object<S>) -> Id {
    (object.metadata("namespace").to_owned(), object.metadata("name").to_owned())
}

fn silent() -> Fault {
    Fault::Unavailable(format!("it did not answer for {} s", ANSWER.as_secs()))
}

/// The reason that comes with an answer that is an error; something between here and there may have made it.
fn refusal(code: http::StatusCode, body: &[u8]) -> Status {
    let mut status: Status = serde_json::from_slice(body).unwrap_or_default();
    if status.code == 0 {
        status.code = code.as_u16();
    }
    if status.message.is_empty() {
        status.message = code.canonical_reason().unwrap_or_default().to_owned();
    }
    status
}

struct Tell<M, W> {
    steps: mpsc::Sender<M>,
    wrap: W,
}

impl<M, W> Tell<M, W> {
    async fn send<T>(&self, step: Step<T>) -> Result<(), Closed>
    where
        W: Fn(Step<T>) -> M,
    {
        self.steps.send((self.wrap)(step)).await.map_err(|_| Closed)
    }
}

impl Trouble {
    /// Tells of a failure where it is news, and waits.
    async fn pause<T, M, W: Fn(Step<T>) -> M>(&mut self, fault: Fault, tell: &Tell<M, W>) -> Result<(), Closed> {
        if self.told.as_ref() != Some(&fault) && fault.is_told(self.failures) {
            self.told = Some(fault.clone());
            tell.send(Step::Down(fault.clone())).await?;
        }
        self.wait(&fault).await;
        Ok(())
    }

    async fn wait(&mut self, fault: &Fault) {
        let pause = fault.pause(self.failures, clock::unit());
        self.failures = self.failures.saturating_add(1);
        tokio::time::sleep(pause).await;
    }

    async fn mended<T, M, W: Fn(Step<T>) -> M>(&mut self, tell: &Tell<M, W>) -> Result<(), Closed> {
        match self.told.take() {
            Some(_) => tell.send(Step::Up).await,
            None => Ok(()),
        }
    }
}
