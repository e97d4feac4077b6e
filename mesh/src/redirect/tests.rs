//! The rules against golden files, and networks against their grammar.
#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn full() -> Settings {
    Settings {
        outbound_port: 25001,
        inbound_port: 25006,
        proxy_uid: 1337,
        exclude_outbound_ports: vec![5432, 22, 22],
        exclude_inbound_ports: vec![9090, 15020],
        exclude_outbound_cidrs: ["10.1.0.0/16", "10.0.0.0/8", "169.254.169.254", "fd00::/8", "fd00::1", "10.1.0.0/16"]
            .map(|text| text.parse().unwrap())
            .to_vec(),
        exclude_uids: vec![65534, 7],
        include_inbound_ports: Some(vec![8443, 8080]),
        ipv6: true,
    }
}

#[test]
fn default_rules_are_the_golden_ones() {
    assert_eq!(rules(&Settings::default()), include_str!("golden/default.nft"));
}

#[test]
fn rules_with_every_setting_are_the_golden_ones() {
    assert_eq!(rules(&full()), include_str!("golden/full.nft"));
}

#[test]
fn ipv6_is_refused_and_not_passed_by_when_the_proxy_does_not_serve_it() {
    let settings = Settings { ipv6: false, ..Settings::default() };
    assert_eq!(rules(&settings), include_str!("golden/no-ipv6.nft"));
}

#[test]
fn an_empty_inclusion_captures_nothing_on_the_way_in() {
    let settings = Settings { include_inbound_ports: Some(vec![]), ..Settings::default() };
    assert!(!rules(&settings).contains("redirect to :15006"));
}

#[test]
fn a_script_deletes_the_earlier_table_first() {
    assert!(rules(&full()).starts_with("add table inet causeway\ndelete table inet causeway\ntable inet causeway {"));
}

#[test]
fn the_shadow_has_the_same_chains_and_is_dormant() {
    let (load, remove) = shadow(&full(), "inet causeway_check");
    let body = rules(&full());
    let body = body.split_once("{\n").unwrap().1;
    assert_eq!(
        load,
        format!("{remove}table inet causeway_check {{\n\tflags dormant\n{body}"),
        "only the name and the flag differ"
    );
    assert!(!load.contains("inet causeway\n"));
}

#[test]
fn networks_are_read_strictly() {
    for (text, shown) in [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("1.2.3.4", "1.2.3.4"),
        ("1.2.3.4/32", "1.2.3.4"),
        ("::/0", "::/0"),
        ("0.0.0.0/0", "0.0.0.0/0"),
    ] {
        assert_eq!(text.parse::<Network>().unwrap().to_string(), shown);
    }
    for text in [
        "",
        "10.0.0.0/",
        "10.0.0.0/+8",
        "10.0.0.0/8/8",
        "10.0.0/8",
        "fd00::/129",
        "10.0.0.0/33",
        "a/8",
        " 10.0.0.0/8",
        "10.0.0.0/256",
    ] {
        assert!(text.parse::<Network>().is_err(), "{text:?}");
    }
    let error = "10.1.2.3/8".parse::<Network>().unwrap_err();
    assert_eq!(error.to_string(), "`10.1.2.3/8` has bits set behind its prefix; did you mean 10.0.0.0/8?");
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
    ]
}

fn networks() -> impl Strategy<Value = Vec<Network>> {
    let one = (address(), 0_u8..=128).prop_map(|(address, prefix)| {
        Network::new(address, if address.is_ipv4() { prefix.min(32) } else { prefix }).unwrap()
    });
    prop::collection::vec(one, 0..12)
}

proptest! {
    #[test]
    fn a_network_contains_its_address_and_round_trips(address in address(), prefix in 0_u8..=32) {
        let network = Network::new(address, prefix).unwrap();
        prop_assert!(network.contains(address));
        prop_assert_eq!(network.to_string().parse::<Network>().unwrap(), network);
    }

    #[test]
    fn outermost_networks_cover_the_same_and_do_not_overlap(networks in networks(), probe in address()) {
        let kept = network::outermost(&networks);
        prop_assert_eq!(networks.iter().any(|n| n.contains(probe)), kept.iter().any(|n| n.contains(probe)));
        for (index, one) in kept.iter().enumerate() {
            for other in &kept[index + 1..] {
                let (one, other) = (one.to_string(), other.to_string());
                prop_assert_ne!(&one, &other);
            }
        }
        prop_assert!(network::outermost(&kept) == kept);
    }

    #[test]
    fn the_order_of_settings_changes_nothing(seed in prop::collection::vec(any::<u16>(), 0..8)) {
        let mut backwards = seed.clone();
        backwards.reverse();
        let with = |ports: Vec<u16>| rules(&Settings { exclude_outbound_ports: ports, ..Settings::default() });
        prop_assert_eq!(with(seed), with(backwards));
    }
}
