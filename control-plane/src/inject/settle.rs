//! Puts what is ours among what is the user's, and leaves alone what the API server and others may do to it.

use serde_json::{Map, Value};

use super::{name_of, quantity};

/// Where ours go among the user's.
#[derive(Clone, Copy)]
pub(super) enum Place {
    First,
    Last,
}

/// The user's entries in their order with ours before or behind. What bears one of our names is replaced by ours, except
/// for what others may decide; where it is ours already it stays as it is written, so that nothing differs.
pub(super) fn settled(existing: &[Value], ours: &[Value], place: Place) -> Value {
    let is_ours = |v: &&Value| ours.iter().any(|o| name_of(o) == name_of(v));
    let found = |our: &Value| existing.iter().find(|v| name_of(v) == name_of(our));
    let ours_now = ours.iter().map(|our| found(our).map_or_else(|| our.clone(), |there| merged(there, our)));
    let theirs = existing.iter().filter(|v| !is_ours(v)).cloned();
    Value::Array(match place {
        Place::First => ours_now.chain(theirs).collect(),
        Place::Last => theirs.chain(ours_now).collect(),
    })
}

/// Ours, with what others may decide as it is `there`: how the image is pulled (AlwaysPullImages), how it is resized,
/// and resources that we do not ask for (LimitRanger).
fn merged(there: &Value, our: &Value) -> Value {
    let (Some(there_map), Some(our_map)) = (there.as_object(), our.as_object()) else { return our.clone() };
    let mut merged = our_map.clone();
    for name in ["imagePullPolicy", "resizePolicy"] {
        if let Some(value) = there_map.get(name) {
            merged.entry(name).or_insert_with(|| value.clone());
        }
    }
    if let (Some(Value::Object(ours)), Some(Value::Object(theirs))) =
        (our_map.get("resources"), there_map.get("resources"))
    {
        merged.insert("resources".to_owned(), Value::Object(resources(ours, theirs)));
    }
    let merged = Value::Object(merged);
    if pruned(&merged) == pruned(there) { there.clone() } else { merged }
}

fn resources(ours: &Map<String, Value>, theirs: &Map<String, Value>) -> Map<String, Value> {
    let mut all = ours.clone();
    for part in ["requests", "limits"] {
        let Some(Value::Object(theirs)) = theirs.get(part) else { continue };
        let entry = all.entry(part).or_insert_with(|| Value::Object(Map::new()));
        let Some(entry) = entry.as_object_mut() else { continue };
        for (name, amount) in theirs {
            // As the API server writes it, where it is the same amount.
            let is_ours = entry.get(name).is_some_and(|our| !is_same_amount(our, amount));
            if !is_ours {
                entry.insert(name.clone(), amount.clone());
            }
        }
    }
    all
}

fn is_same_amount(a: &Value, b: &Value) -> bool {
    let amount = |v: &Value| v.as_str().and_then(quantity::parse);
    a == b || amount(a).is_some() && amount(a) == amount(b)
}

/// Without what means the same absent as empty.
fn pruned(value: &Value) -> Value {
    let is_empty = |v: &Value| match v {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    match value {
        Value::Object(map) => {
            Value::Object(map.iter().map(|(k, v)| (k.clone(), pruned(v))).filter(|(_, v)| !is_empty(v)).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(pruned).collect()),
        other => other.clone(),
    }
}
