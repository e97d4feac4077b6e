//! Progress as replicas tell it to one another.

use std::collections::BTreeMap;
use std::sync::Arc;

use causeway_mesh::wire;
use prost::Message as _;

use super::{Progress, Refusal, Tally};
use crate::source::{Key, Kind};

/// The answer of the replica of this name.
pub fn to_wire(replica: &str, progress: &Progress) -> wire::ProgressReply {
    let mut reply = wire::ProgressReply {
        replica: replica.to_owned(),
        digest: 0,
        unchanged: false,
        tallies: progress.tallies.iter().map(|(key, tally)| tally_to_wire(key, tally)).collect(),
        connected: progress.connected.iter().cloned().collect(),
    };
    reply.digest = xxhash_rust::xxh3::xxh3_64(&reply.encode_to_vec()).max(1);
    reply
}

/// What an answer says. A kind that is not known here is of a newer version and is passed over.
pub fn from_wire(reply: wire::ProgressReply) -> Progress {
    let kinds: BTreeMap<String, Kind> = Kind::with_status().map(|kind| (name(kind), kind)).collect();
    let tally = |tally: wire::Tally| Some(tally_from_wire(*kinds.get(&tally.kind)?, tally));
    Progress {
        tallies: reply.tallies.into_iter().filter_map(tally).collect(),
        connected: reply.connected.into_iter().collect(),
    }
}

fn tally_to_wire(key: &Key, tally: &Tally) -> wire::Tally {
    let refusal = |r: &Refusal| wire::Refusal {
        workload: r.workload.clone(),
        resource: r.resource.clone(),
        field: r.field.clone(),
        message: r.message.clone(),
    };
    wire::Tally {
        kind: name(key.kind),
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        group: key.group.clone(),
        version: tally.version,
        total: tally.total,
        acked: tally.acked,
        settled: tally.settled,
        behind: tally.behind.clone(),
        refusals: tally.faults.iter().map(refusal).collect(),
    }
}

/// As the wire has it.
fn name(kind: Kind) -> String {
    format!("{kind:?}")
}

fn tally_from_wire(kind: Kind, tally: wire::Tally) -> (Arc<Key>, Tally) {
    let key = Key { kind, namespace: tally.namespace, name: tally.name, group: tally.group };
    let refusal =
        |r: wire::Refusal| Refusal { workload: r.workload, resource: r.resource, field: r.field, message: r.message };
    let wire::Tally { version, total, acked, settled, behind, refusals, .. } = tally;
    let faults = refusals.into_iter().map(refusal).collect();
    (Arc::new(key), Tally { version, total, acked, settled, behind, faults })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_what_is_read_and_another_progress_has_another_digest() {
        let mut progress = Progress::default();
        for (number, kind) in Kind::with_status().enumerate() {
            let key = Key { kind, namespace: "dev".into(), name: format!("r{number}"), group: "causeway.dev".into() };
            let faults = vec![Refusal { workload: "dev/web".into(), field: "f".into(), ..Refusal::default() }];
            let behind = vec!["dev/web".into()];
            let tally = Tally { version: 7, total: 3, acked: 2, settled: true, behind, faults };
            progress.tallies.insert(Arc::new(key), tally);
        }
        progress.connected.insert("dev/web".into());
        let reply = to_wire("cp-1", &progress);
        assert_eq!(from_wire(reply.clone()), progress);
        progress.connected.insert("dev/api".into());
        assert_ne!(to_wire("cp-1", &progress).digest, reply.digest);
    }
}
