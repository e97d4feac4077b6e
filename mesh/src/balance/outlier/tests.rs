use proptest::prelude::*;

use super::*;

fn rules() -> Outlier {
    Outlier {
        server_errors: Some(3),
        gateway_errors: None,
        connect_failures: Some(2),
        latency_percent: None,
        interval: Duration::from_secs(10),
        base_ejection: Duration::from_secs(30),
        max_ejection_percent: 50,
        min_health_percent: 0,
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn only_failures_in_a_row_eject() {
    let mut record = Record::default();
    for status in [500, 500, 200, 500, 501] {
        assert_eq!(record.note(Ending::Answered(status), &rules()), None, "{status}");
    }
    assert_eq!(record.note(Ending::Answered(503), &rules()), Some(Reason::ServerErrors));
    let mut record = Record::default();
    assert_eq!(record.note(Ending::Failed, &rules()), None);
    assert_eq!(record.note(Ending::Answered(404), &rules()), None);
    assert!(record.is_clean());
    record.note(Ending::Failed, &rules());
    assert_eq!(record.note(Ending::Failed, &rules()), Some(Reason::ConnectFailures));
}

#[test]
fn gateway_errors_are_counted_apart() {
    let rules = Outlier { gateway_errors: Some(2), server_errors: None, ..rules() };
    let mut record = Record::default();
    for status in [502, 500, 504] {
        assert_eq!(record.note(Ending::Answered(status), &rules), None);
    }
    assert_eq!(record.note(Ending::Answered(503), &rules), Some(Reason::GatewayErrors));
}

#[test]
fn a_reason_that_is_off_ejects_nobody() {
    let rules = Outlier { server_errors: None, connect_failures: None, ..rules() };
    let mut record = Record::default();
    for _ in 0..100 {
        assert_eq!(record.note(Ending::Failed, &rules), None);
    }
}

#[test]
fn an_ejection_ends_in_probation_which_five_good_answers_end() {
    let mut record = Record::default();
    record.eject(Reason::ServerErrors, SECOND, &rules());
    assert_eq!(record.note(Ending::Answered(200), &rules()), None, "what was in flight says nothing new");
    assert!(!record.settle(SECOND * 30));
    assert!(record.settle(SECOND * 31));
    for _ in 0..4 {
        record.note(Ending::Answered(200), &rules());
        assert!(matches!(record.standing, Standing::Probation { .. }));
    }
    record.note(Ending::Answered(404), &rules());
    assert!(record.is_clean());
}

#[test]
fn one_failure_in_probation_ejects_again_and_for_longer() {
    let mut record = Record::default();
    record.eject(Reason::ServerErrors, SECOND, &rules());
    record.settle(SECOND * 31);
    assert_eq!(record.note(Ending::Answered(500), &rules()), Some(Reason::ServerErrors));
    record.eject(Reason::ServerErrors, SECOND * 32, &rules());
    assert_eq!(record.standing, Standing::Ejected { until: SECOND * 92, reason: Reason::ServerErrors });
    // Quiet time forgives one ejection for each interval.
    record.settle(SECOND * 92);
    record.eject(Reason::ServerErrors, SECOND * 200, &rules());
    assert_eq!(record.standing, Standing::Ejected { until: SECOND * 230, reason: Reason::ServerErrors });
}

#[test]
fn who_is_ejected_again_is_so_for_what_failed_now() {
    let rules = Outlier { connect_failures: Some(2), ..rules() };
    let mut record = Record::default();
    record.eject(Reason::Latency, SECOND, &rules);
    record.settle(SECOND * 31);
    assert_eq!(record.note(Ending::Failed, &rules), Some(Reason::ConnectFailures));
}

#[test]
fn no_more_than_the_share_is_ejected_but_one_of_two_may_always_be() {
    assert!(may_eject(10, 4, 50) && !may_eject(10, 5, 50));
    assert!(may_eject(2, 0, 10) && !may_eject(2, 1, 10));
    assert!(!may_eject(1, 0, 10) && !may_eject(10, 0, 0));
    assert!(may_eject(1, 0, 100));
}

#[test]
fn when_too_few_are_left_all_are_used() {
    assert!(is_too_few(2, 2, 0));
    assert!(is_too_few(10, 6, 50) && !is_too_few(10, 5, 50));
    assert!(!is_too_few(3, 2, 0));
}

#[test]
fn the_slow_are_those_far_above_the_median() {
    assert_eq!(slow(&[10.0, 11.0, 100.0, 300.0, 12.0], 300), [3, 2]);
    assert_eq!(slow(&[10.0, 100.0], 300), [1]);
    assert!(slow(&[0.0, 100.0], 300).is_empty());
    assert!(slow(&[f64::NAN, 100.0, 1.0, 1.0], 200) == [1]);
}

proptest! {
    #[test]
    fn the_ejected_never_exceed_their_share(all in 1usize..50, percent in 0u32..=100) {
        let mut ejected = 0;
        while ejected < all && may_eject(all, ejected, percent) {
            ejected += 1;
        }
        let share = all * percent as usize / 100;
        prop_assert!(ejected <= share.max(1));
        prop_assert!(ejected < all || percent == 100);
    }

    #[test]
    fn an_ejection_is_never_shorter_than_the_first_nor_longer_than_the_limit(base in 1u64..1_000_000, times in 0u32..1000) {
        let base = Duration::from_millis(base);
        let length = length(base, times);
        prop_assert!(length >= base && length <= Duration::from_secs(300).max(base));
    }

    #[test]
    fn whatever_ends_how_the_record_is_out_only_by_eject(endings in prop::collection::vec(prop_oneof![(100u16..600).prop_map(Ending::Answered), Just(Ending::Failed)], 0..60)) {
        let mut record = Record::default();
        for ending in endings {
            record.note(ending, &rules());
            let is_ejected = matches!(record.standing, Standing::Ejected { .. });
            prop_assert!(!is_ejected);
        }
    }

    #[test]
    fn never_is_half_of_the_measured_slow(latencies in prop::collection::vec(0.1..1e6, 2..30), percent in 101u32..1000) {
        prop_assert!(slow(&latencies, percent).len() <= latencies.len() / 2);
    }
}
