//! What the demo claims when it ends, judged by what it counted. Pure.

use super::board::{Epoch, Facts, Refusal};
use super::directory::Weights;
use crate::terminal::grouped;

/// One claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// Whether it was true.
    pub holds: bool,
    /// What is claimed, with the figures.
    pub text: String,
}

/// What the applications saw, for comparison with what the clients saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Callers {
    /// Requests that reached an application from the expected client.
    pub expected: u64,
    /// Requests that reached one from anybody else.
    pub others: u64,
}

/// Judges everything.
pub(super) fn judge(facts: &Facts, callers: Callers) -> Vec<Claim> {
    let mut claims: Vec<Claim> = facts.epochs.iter().filter(|e| e.is_in_force).map(share).collect();
    claims.push(no_failure(facts));
    claims.push(identities(facts));
    claims.push(refused("a foreign identity", facts.intruder.as_ref()));
    claims.push(refused("a plain text client", facts.plaintext.as_ref()));
    claims.push(Claim {
        holds: callers.others == 0 && callers.expected > 0,
        text: format!(
            "the applications saw {} requests of dev/web and {} of anybody else",
            grouped(callers.expected),
            grouped(callers.others)
        ),
    });
    claims
}

/// Whether a share fits its weights: within four standard deviations of a binomial draw, and exact where a weight is 0.
pub(super) fn fits(weights: Weights, canary: u64, total: u64) -> bool {
    let (p, margin) = expected(weights, total);
    total > 0 && (canary as f64 / total as f64 - p).abs() <= margin
}

/// The canary's share that the weights ask for, and how far `total` draws may be from it (both 0 to 1).
fn expected(weights: Weights, total: u64) -> (f64, f64) {
    let sum = f64::from(weights.stable) + f64::from(weights.canary);
    let p = f64::from(weights.canary) / sum.max(1.0);
    (p, 4.0 * (p * (1.0 - p) / total.max(1) as f64).sqrt())
}

fn share(epoch: &Epoch) -> Claim {
    let Weights { stable, canary } = epoch.weights;
    let total = epoch.share.total();
    let percent = epoch.share.of_canary() * 100.0;
    let (_, margin) = expected(epoch.weights, total);
    let allowed = if margin > 0.0 { format!("within {:.1} points", margin * 100.0) } else { "exact".to_owned() };
    Claim {
        holds: fits(epoch.weights, epoch.share.canary, total),
        text: format!(
            "weights {stable}/{canary}: {:.1} % stable, {percent:.1} % canary of {} ({allowed})",
            if total == 0 { 0.0 } else { 100.0 - percent },
            grouped(total),
        ),
    }
}

fn no_failure(facts: &Facts) -> Claim {
    let answered = facts.answered();
    let first = facts.failures.first().map(|f| format!("; the first: {f}")).unwrap_or_default();
    Claim {
        holds: facts.failed == 0 && answered > 0,
        text: format!(
            "{} of {} requests failed, weight changes included{first}",
            grouped(facts.failed),
            grouped(answered + facts.failed)
        ),
    }
}

fn identities(facts: &Facts) -> Claim {
    let found = &facts.identities;
    let is = |id: &Option<String>, path: &str| id.as_deref() == Some(&format!("spiffe://cluster.local/{path}"));
    let holds = is(&found.caller, "ns/dev/sa/web")
        && is(&found.stable, "ns/prod/sa/prodsvc")
        && is(&found.canary, "ns/prod/sa/prodsvc-canary");
    let text = if holds {
        "both sides proved the identity of their own ServiceAccount".to_owned()
    } else {
        format!("identities were not as expected: {found:?}")
    };
    Claim { holds, text }
}

fn refused(who: &str, refusal: Option<&Refusal>) -> Claim {
    match refusal {
        Some(Refusal { holds: true, what }) => Claim { holds: true, text: format!("{who} was refused: {what}") },
        Some(Refusal { holds: false, what }) => Claim { holds: false, text: format!("{who} was NOT refused: {what}") },
        None => Claim { holds: false, text: format!("{who} was never tried") },
    }
}

#[cfg(test)]
mod tests {
    use super::super::board::{Identities, Share};
    use super::*;

    fn good() -> Facts {
        let mut facts = Facts::new(crate::clock::now(), 3);
        let epoch = |stable, canary, share| Epoch { weights: Weights { stable, canary }, is_in_force: true, share };
        facts.epochs = vec![
            epoch(90, 10, Share { stable: 903, canary: 97 }),
            Epoch {
                weights: Weights { stable: 0, canary: 100 },
                is_in_force: false,
                share: Share { stable: 9, canary: 1 },
            },
            epoch(0, 100, Share { stable: 0, canary: 100 }),
        ];
        let id = |path: &str| Some(format!("spiffe://cluster.local/{path}"));
        facts.identities = Identities {
            caller: id("ns/dev/sa/web"),
            stable: id("ns/prod/sa/prodsvc"),
            canary: id("ns/prod/sa/prodsvc-canary"),
        };
        facts.intruder = Some(Refusal { holds: true, what: "403".into() });
        facts.plaintext = Some(Refusal { holds: true, what: "closed".into() });
        facts
    }

    const CALLERS: Callers = Callers { expected: 1110, others: 0 };

    fn broken(change: impl Fn(&mut Facts)) -> usize {
        let mut facts = good();
        change(&mut facts);
        judge(&facts, CALLERS).iter().filter(|c| !c.holds).count()
    }

    #[test]
    fn everything_holds_when_all_went_well() {
        assert_eq!(broken(|_| {}), 0);
    }

    #[test]
    fn each_thing_that_goes_wrong_breaks_one_claim() {
        assert_eq!(broken(|f| f.failed = 1), 1);
        assert_eq!(broken(|f| f.intruder = None), 1);
        assert_eq!(broken(|f| f.plaintext = Some(Refusal { holds: false, what: "200".into() })), 1);
        assert_eq!(broken(|f| f.identities.canary.clone_from(&f.identities.stable.clone())), 1);
        assert_eq!(broken(|f| f.epochs[2].share.stable = 1), 1, "weight 0 is exact");
        assert_eq!(broken(|f| f.epochs[0].share.canary = 200), 1);
        let uninvited = judge(&good(), Callers { expected: 5, others: 1 });
        assert_eq!(uninvited.iter().filter(|c| !c.holds).count(), 1);
    }

    #[test]
    fn a_demo_without_traffic_claims_nothing() {
        let claims = judge(&Facts::new(crate::clock::now(), 3), Callers::default());
        assert!(claims.iter().all(|c| !c.holds), "{claims:?}");
    }
}
