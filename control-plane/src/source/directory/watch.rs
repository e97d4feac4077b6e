//! Looks at a directory when something is heard of it, and now and then when nothing is.

use super::{Directory, Ears, Settled};
use crate::source::Event;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;

/// How often a directory is looked at in which nothing is heard: what another machine writes, and what links lead to, is not.
const PERIOD: Duration = Duration::from_secs(1);
/// When a change was seen that may not be complete: how soon to look again.
const SETTLE: Duration = Duration::from_millis(50);
/// After something was heard: what was done with it is seen in the same look.
const SOON: Duration = Duration::from_millis(1);
/// Whoever changes something unheard mostly changes more: so many looks after a change are as soon as [`SETTLE`].
const LIVELY: u32 = 60;
/// So many of the unheard looks are for one that reads every file: the others pass over those that look as when they were
/// read.
const THOROUGH: u32 = 60;

/// Why it is looked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    First,
    Heard,
    /// Something is not complete yet.
    Settling,
    Time,
}

/// Sends what the directory holds, then what changes in it, until `events` is closed.
pub async fn watch(root: PathBuf, events: mpsc::Sender<Vec<Event>>) {
    let mut directory = Directory::new(root);
    directory.ears = Ears::new()
        .inspect_err(|error| tracing::warn!(%error, "changes of files are not heard of; the directory is polled"))
        .ok();
    let mut cause = Cause::First;
    let mut synced = false;
    let mut told = Vec::new();
    let (mut lively, mut looks) = (0, 0);
    loop {
        let is_thorough = cause == Cause::First || looks == THOROUGH;
        let looked = tokio::task::spawn_blocking(move || {
            let events = match cause {
                Cause::First => directory.look(Settled::AtOnce, true),
                Cause::Heard | Cause::Settling => directory.look_where_heard(),
                Cause::Time => directory.look(Settled::Twice, is_thorough),
            };
            (directory, events)
        });
        let (back, mut batch) = match looked.await {
            Ok(looked) => looked,
            Err(error) => {
                tracing::error!(%error, "reading the directory failed; the last good state is kept");
                return events.closed().await;
            }
        };
        directory = back;
        if !synced {
            let hidden = directory.hidden_policies();
            if hidden.is_empty() {
                batch.push(Event::Synced);
                synced = true;
            } else if hidden != told {
                for problem in &hidden {
                    tracing::error!("nothing is served: this file may hold a policy and was never read: {problem}");
                }
                told = hidden;
            }
        }
        if cause == Cause::Time {
            let is_quiet = batch.is_empty() && !directory.is_settling();
            lively = if is_quiet { u32::saturating_sub(lively, 1) } else { LIVELY };
            looks = if is_thorough { 0 } else { looks + 1 };
        }
        if !batch.is_empty() && events.send(batch).await.is_err() {
            return;
        }
        cause = tokio::select! {
            () = events.closed() => return,
            cause = next(&directory, lively > 0) => cause,
        };
    }
}

/// Waits until it is time to look again.
async fn next(directory: &Directory, is_lively: bool) -> Cause {
    if directory.is_settling() {
        // What is heard meanwhile waits, so that two looks at the same file are never closer than this.
        tokio::time::sleep(SETTLE).await;
        return Cause::Settling;
    }
    if !directory.heard.is_nothing() {
        tokio::time::sleep(SOON).await;
        return Cause::Heard;
    }
    let heard = async {
        match &directory.ears {
            Some(ears) => ears.ready().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = heard => {
            tokio::time::sleep(SOON).await;
            Cause::Heard
        }
        () = tokio::time::sleep(if is_lively { SETTLE } else { PERIOD }) => Cause::Time,
    }
}
