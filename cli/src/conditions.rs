//! Conditions in the status of a custom resource, as `kubectl wait` reads them: one of an older generation is none.

use serde_json::Value;

/// The condition of this type, unless it speaks of an older generation than the resource's.
pub fn current<'r>(resource: &'r Value, condition: &str) -> Option<&'r Value> {
    let generation = resource.pointer("/metadata/generation").and_then(Value::as_i64);
    let all = resource.pointer("/status/conditions")?.as_array()?;
    let found = all.iter().find(|found| found["type"] == condition)?;
    let of = found["observedGeneration"].as_i64();
    let is_old = matches!((of, generation), (Some(of), Some(generation)) if of < generation);
    (!is_old).then_some(found)
}

/// `VirtualService dev/prod-service-route`
pub fn name(resource: &Value) -> String {
    let word = |path: &str| resource.pointer(path).and_then(Value::as_str).unwrap_or_default();
    format!("{} {}/{}", word("/kind"), word("/metadata/namespace"), word("/metadata/name"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_condition_of_an_older_generation_is_none() {
        let resource = |generation: i64| {
            json!({
                "kind": "VirtualService", "metadata": {"namespace": "dev", "name": "x", "generation": generation},
                "status": {"conditions": [{"type": "Accepted", "status": "True", "observedGeneration": 2}]},
            })
        };
        assert!(current(&resource(2), "Accepted").is_some());
        assert!(current(&resource(3), "Accepted").is_none());
        assert!(current(&resource(2), "Programmed").is_none());
        assert_eq!(name(&resource(1)), "VirtualService dev/x");
    }
}
