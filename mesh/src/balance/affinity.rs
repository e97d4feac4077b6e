//! Which endpoint a client stays with: the one that it was given, while it comes back in time. Who may be given at all, and
//! what is drawn, is left to others.

use std::time::Duration;

/// What is remembered of one client. Times are durations since one instant that the caller keeps.
#[derive(Clone, Debug)]
pub struct Affinity<E> {
    /// The endpoint that it was given and when it came last; None: it never came.
    given: Option<(E, Duration)>,
}

impl<E> Default for Affinity<E> {
    fn default() -> Self {
        Self { given: None }
    }
}

/// What is to be done for a client that comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coming<E> {
    /// It stays with this endpoint.
    Stays(E),
    /// Any endpoint may be chosen for it, by the key that it always has: it comes for the first time, or its endpoint is
    /// gone.
    Anew,
    /// Any endpoint may be chosen for it, by a new draw: it was silent for so long that what it had is forgotten.
    Forgotten,
}

impl<E: Clone> Affinity<E> {
    /// What is to be done for the client that comes at `now`, forgotten after a silence of `timeout`; `is_there` says
    /// whether an endpoint may take requests. A clock that goes back is no silence.
    pub fn come(&self, now: Duration, timeout: Duration, is_there: impl FnOnce(&E) -> bool) -> Coming<E> {
        match &self.given {
            None => Coming::Anew,
            Some((_, last)) if now.saturating_sub(*last) >= timeout => Coming::Forgotten,
            Some((endpoint, _)) if is_there(endpoint) => Coming::Stays(endpoint.clone()),
            Some(_) => Coming::Anew,
        }
    }

    /// Notes that the client came at `now` and was given `endpoint`.
    pub fn give(&mut self, endpoint: E, now: Duration) {
        let last = self.given.as_ref().map_or(now, |(_, last)| now.max(*last));
        self.given = Some((endpoint, last));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Affinity, Coming};

    const TIMEOUT: Duration = Duration::from_millis(100);

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_client_stays_while_it_comes_back_in_time_and_its_endpoint_is_there() {
        let mut client = Affinity::default();
        assert_eq!(client.come(at(0), TIMEOUT, |_| true), Coming::Anew);
        client.give(7, at(0));
        for now in [0, 50, 99] {
            assert_eq!(client.come(at(now), TIMEOUT, |_| true), Coming::Stays(7), "{now}");
        }
        assert_eq!(client.come(at(99), TIMEOUT, |_| false), Coming::Anew, "its endpoint is gone");
        assert_eq!(client.come(at(100), TIMEOUT, |_| true), Coming::Forgotten);
    }

    proptest! {
        /// Against what a reader of the rule would count: pauses between one coming and the next, never their sum.
        #[test]
        fn only_a_silence_counts_and_never_how_long_it_has_stayed(
            pauses in prop::collection::vec(0u64..200, 1..40),
            gone in prop::collection::vec(prop::bool::weighted(0.1), 40),
        ) {
            let (mut client, mut now, mut number) = (Affinity::default(), 0, 0);
            client.give(number, at(now));
            for (pause, is_gone) in pauses.iter().zip(&gone) {
                now += pause;
                let wanted = match (*pause >= 100, is_gone) {
                    (true, _) => Coming::Forgotten,
                    (false, true) => Coming::Anew,
                    (false, false) => Coming::Stays(number),
                };
                prop_assert_eq!(client.come(at(now), TIMEOUT, |_| !is_gone), wanted);
                number += u32::from(wanted != Coming::Stays(number));
                client.give(number, at(now));
            }
        }

        #[test]
        fn a_clock_that_goes_back_forgets_nobody(first in 0u64..1000, second in 0u64..1000) {
            let mut client = Affinity::default();
            client.give(1, at(first.max(second)));
            client.give(2, at(first.min(second)));
            prop_assert_eq!(client.come(at(first.min(second)), TIMEOUT, |_| true), Coming::Stays(2));
            prop_assert_eq!(client.come(at(first.max(second) + 99), TIMEOUT, |_| true), Coming::Stays(2));
        }
    }
}
