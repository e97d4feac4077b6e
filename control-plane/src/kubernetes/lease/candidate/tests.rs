#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn record(holder: &str, version: u64) -> Record {
    Record { holder: holder.to_owned(), version: version.to_string(), transitions: 0 }
}

#[test]
fn a_missing_lease_is_made_and_a_free_one_taken_at_once() {
    let mut a = Candidate::new("a".to_owned());
    assert_eq!(a.saw(None, SECOND), Step::Create);
    assert_eq!(a.saw(Some(record("", 3)), SECOND), Step::Write(record("", 3)));
    assert!(!a.leads(SECOND), "it leads once the write was accepted, not before");
}

#[test]
fn a_lease_is_taken_when_it_was_watched_unchanged_for_its_length() {
    let mut a = Candidate::new("a".to_owned());
    let of_b = |version| Some(record("b", version));
    assert_eq!(a.saw(of_b(1), SECOND), Step::Leave);
    assert_eq!(a.saw(of_b(2), 10 * SECOND), Step::Leave);
    assert_eq!(a.saw(of_b(2), 24 * SECOND), Step::Leave);
    assert_eq!(a.wait(24 * SECOND, false), SECOND);
    assert_eq!(a.saw(of_b(2), 25 * SECOND), Step::Write(record("b", 2)));
}

#[test]
fn a_holder_that_cannot_renew_stops_before_the_lease_ends() {
    let mut a = Candidate::new("a".to_owned());
    a.wrote(record("a", 1), SECOND, 2 * SECOND);
    assert!(a.leads(10 * SECOND));
    assert!(!a.leads(11 * SECOND));
}

#[test]
fn a_holder_that_sees_another_name_stops_at_once() {
    let mut a = Candidate::new("a".to_owned());
    a.wrote(record("a", 1), SECOND, SECOND);
    assert_eq!(a.saw(Some(record("b", 2)), 2 * SECOND), Step::Leave);
    assert!(!a.leads(2 * SECOND));
}

/// The API server's part: one Lease, written under the condition of its version.
#[derive(Default)]
struct Store {
    lease: Option<Record>,
    version: u64,
}

impl Store {
    fn write(&mut self, holder: &str, expected: Option<&Record>) -> Option<Record> {
        let is_current = self.lease.as_ref().map(|l| &l.version) == expected.map(|e| &e.version);
        if !is_current {
            return None;
        }
        self.version += 1;
        self.lease = Some(record(holder, self.version));
        self.lease.clone()
    }
}

/// A request that is under way: when it reaches the store, when its answer comes, and whether either is lost.
#[derive(Clone, Debug)]
struct Network {
    there: u64,
    back: u64,
    request_lost: bool,
    answer_lost: bool,
}

fn network() -> impl Strategy<Value = Network> {
    (0u64..4000, 0u64..4000, prop::bool::weighted(0.2), prop::bool::weighted(0.2))
        .prop_map(|(there, back, request_lost, answer_lost)| Network { there, back, request_lost, answer_lost })
}

enum At {
    Read,
    ReadArrives,
    ReadAnswered(Option<Record>),
    WriteArrives(Step),
    WriteAnswered(Option<Record>),
}

struct Replica {
    candidate: Candidate,
    name: String,
    next: u64,
    at: At,
    began: u64,
    net: Network,
}

impl Replica {
    fn new(index: usize) -> Self {
        let name = format!("r{index}");
        let net = Network { there: 0, back: 0, request_lost: false, answer_lost: false };
        Self { candidate: Candidate::new(name.clone()), name, next: 0, at: At::Read, began: 0, net }
    }

    fn rest(&mut self, now: u64, failed: bool) {
        let wait = self.candidate.wait(Duration::from_millis(now), failed);
        (self.at, self.next) = (At::Read, now + u64::try_from(wait.as_millis()).unwrap());
    }

    fn step(&mut self, now: u64, store: &mut Store, mut net: impl FnMut() -> Network) {
        let clock = Duration::from_millis(now);
        match std::mem::replace(&mut self.at, At::Read) {
            At::Read => {
                self.net = net();
                (self.at, self.next) = (At::ReadArrives, now + self.net.there);
            }
            At::ReadArrives if self.net.request_lost => self.rest(now, true),
            At::ReadArrives => (self.at, self.next) = (At::ReadAnswered(store.lease.clone()), now + self.net.back),
            At::ReadAnswered(_) if self.net.answer_lost => self.rest(now, true),
            At::ReadAnswered(record) => match self.candidate.saw(record, clock) {
                Step::Leave => self.rest(now, false),
                step => {
                    (self.net, self.began) = (net(), now);
                    (self.at, self.next) = (At::WriteArrives(step), now + self.net.there);
                }
            },
            At::WriteArrives(_) if self.net.request_lost => self.rest(now, true),
            At::WriteArrives(step) => {
                let expected = if let Step::Write(record) = &step { Some(record) } else { None };
                let answer = store.write(&self.name, expected);
                (self.at, self.next) = (At::WriteAnswered(answer), now + self.net.back);
            }
            At::WriteAnswered(_) if self.net.answer_lost => self.rest(now, true),
            At::WriteAnswered(None) => self.rest(now, true),
            At::WriteAnswered(Some(record)) => {
                self.candidate.wrote(record, Duration::from_millis(self.began), clock);
                self.rest(now, false);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// However late and lossy the network: never two at once.
    #[test]
    fn never_do_two_lead(nets in prop::collection::vec(network(), 60..200), count in 2usize..5) {
        let mut store = Store::default();
        let mut replicas: Vec<_> = (0..count).map(Replica::new).collect();
        let mut nets = nets.into_iter();
        loop {
            let now = replicas.iter().map(|r| r.next).min().unwrap();
            let index = replicas.iter().position(|r| r.next == now).unwrap();
            let mut over = false;
            replicas[index].step(now, &mut store, || nets.next().unwrap_or_else(|| {
                over = true;
                Network { there: 0, back: 0, request_lost: true, answer_lost: true }
            }));
            let leaders = replicas.iter().filter(|r| r.candidate.leads(Duration::from_millis(now))).count();
            prop_assert!(leaders <= 1, "{leaders} lead at {now} ms");
            if over {
                break;
            }
        }
    }

    /// On a network that works somebody leads soon, and still does later.
    #[test]
    fn on_a_good_network_somebody_leads(there in 0u64..300, back in 0u64..300, count in 1usize..5) {
        let mut store = Store::default();
        let mut replicas: Vec<_> = (0..count).map(Replica::new).collect();
        let good = Network { there, back, request_lost: false, answer_lost: false };
        for _ in 0..400 {
            let now = replicas.iter().map(|r| r.next).min().unwrap();
            let index = replicas.iter().position(|r| r.next == now).unwrap();
            replicas[index].step(now, &mut store, || good.clone());
            if now > 5_000 {
                let now = Duration::from_millis(now);
                prop_assert_eq!(replicas.iter().filter(|r| r.candidate.leads(now)).count(), 1);
            }
        }
    }
}
