//! What the control plane still waits for before it may be asked: gates that parts open once they can do their work.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The gates of one control plane; a copy is the same ones.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    gates: Arc<Mutex<Gates>>,
}

#[derive(Debug, Default)]
struct Gates {
    next: u64,
    closed: Vec<(u64, &'static str)>,
}

/// Keeps the control plane from being ready until it is opened. Dropped unopened it stays closed: what failed before it
/// could work is not ready.
#[derive(Debug)]
#[must_use = "the control plane is not ready before the gate is opened"]
pub struct Gate {
    readiness: Readiness,
    id: u64,
}

impl Readiness {
    /// A closed gate; `what` completes "waiting for ...".
    pub fn gate(&self, what: &'static str) -> Gate {
        let mut gates = self.gates();
        let id = gates.next;
        gates.next += 1;
        gates.closed.push((id, what));
        Gate { readiness: self.clone(), id }
    }

    /// The first gate that is still closed; None when all are open.
    pub fn awaited(&self) -> Option<&'static str> {
        self.gates().closed.first().map(|(_, what)| *what)
    }

    fn gates(&self) -> MutexGuard<'_, Gates> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate {
    /// This part works now.
    pub fn open(self) {
        self.readiness.gates().closed.retain(|(id, _)| *id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_ready_once_every_gate_is_open_and_not_before() {
        let readiness = Readiness::default();
        assert_eq!(readiness.awaited(), None);
        let (first, second) = (readiness.gate("a"), readiness.gate("b"));
        second.open();
        assert_eq!(readiness.awaited(), Some("a"));
        first.open();
        assert_eq!(readiness.awaited(), None);
    }

    #[test]
    fn a_part_that_gave_up_keeps_it_from_being_ready() {
        let readiness = Readiness::default();
        drop(readiness.gate("a"));
        assert_eq!(readiness.awaited(), Some("a"));
    }
}
