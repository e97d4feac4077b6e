//! Checks the `spec` of a resource against its schema: types, limits, unknown fields, fields that are not implemented.
//!
//! The API server makes the same checks with the same schema; a directory of files has no API server. Unknown fields are
//! no error there either, but silence about them is how a typo opens a policy.

use crate::manifest::manifests;
use crate::support::{Effect, effect};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// One thing found in a spec.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// `spec.http[0].route[1].weight`
    pub path: String,
    /// What was found there.
    pub what: What,
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// The value may not stand there: the resource is refused.
    Invalid {
        /// Stable: `wrong_type`, `out_of_range`, `negative_weight`, `unknown_value`, `too_long`, `too_many`, `missing_field`.
        code: &'static str,
        /// One sentence without the path.
        message: String,
    },
    /// No such field.
    Unknown {
        /// A field of that place with a similar name.
        suggestion: Option<String>,
    },
    /// The field is known but does nothing yet.
    NotImplemented(&'static Effect),
    /// A list or value of a policy that is there but empty: it would match everybody.
    Empty,
}

/// Checks `spec` of `kind` (one of ours, or of the Gateway API's). Findings come in the order of the spec.
pub fn check(kind: &str, spec: &Value) -> Vec<Finding> {
    static SCHEMAS: OnceLock<BTreeMap<String, Value>> = OnceLock::new();
    let schemas = SCHEMAS.get_or_init(|| {
        let all = manifests().into_iter().chain(crate::gateway::schemas());
        all.filter_map(|m| Some((m.kind.clone(), m.spec_schema()?.clone()))).collect()
    });
    let mut walk = Walk { kind, found: Vec::new() };
    if let Some(schema) = schemas.get(kind) {
        walk.value("spec", "spec", schema, spec);
    }
    walk.found
}

struct Walk<'a> {
    kind: &'a str,
    found: Vec<Finding>,
}

impl Walk<'_> {
    fn add(&mut self, path: &str, what: What) {
        self.found.push(Finding { path: path.to_owned(), what });
    }

    fn invalid(&mut self, path: &str, code: &'static str, message: String) {
        self.add(path, What::Invalid { code, message });
    }

    /// `pattern` is the path with `[]` for every index and `{}` for every key of a map.
    fn value(&mut self, path: &str, pattern: &str, schema: &Value, value: &Value) {
        if let Some(effect) = effect(self.kind, pattern) {
            self.add(path, What::NotImplemented(effect));
            return;
        }
        let expected = schema.get("type").and_then(Value::as_str).unwrap_or("object");
        match (expected, value) {
            ("object", Value::Object(map)) => self.object(path, pattern, schema, map),
            ("array", Value::Array(items)) => self.array(path, pattern, schema, items),
            ("string", Value::String(text)) => self.string(path, schema, text),
            ("boolean", Value::Bool(_)) => {}
            ("integer", Value::Number(n)) if n.as_i64().is_some() || n.as_u64().is_some() => {
                self.number(path, schema, n.as_f64().unwrap_or_default());
            }
            ("number", Value::Number(n)) => self.number(path, schema, n.as_f64().unwrap_or_default()),
            (_, found) => {
                self.invalid(path, "wrong_type", format!("expected {}, found {}", article(expected), kind_of(found)));
            }
        }
    }

    fn object(&mut self, path: &str, pattern: &str, schema: &Value, map: &Map<String, Value>) {
        if let Some(inner) = schema.get("additionalProperties") {
            if let Some(max) = schema.get("maxProperties").and_then(Value::as_u64)
                && map.len() as u64 > max
            {
                self.invalid(path, "too_many", format!("at most {max} entries are allowed, there are {}", map.len()));
            }
            for (key, value) in map {
                self.value(&format!("{path}.{key}"), &format!("{pattern}{{}}"), inner, value);
            }
            return;
        }
        let none = Map::new();
        let known = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if map.get(name).is_none_or(Value::is_null) {
                self.invalid(&format!("{path}.{name}"), "missing_field", "this field is required".into());
            }
        }
        for (key, value) in map {
            let inner = format!("{path}.{key}");
            match known.get(key) {
                None => self.add(&inner, What::Unknown { suggestion: nearest(key, known.keys()) }),
                Some(_) if is_empty_in_rule(self.kind, pattern, value) => self.add(&inner, What::Empty),
                // Kubernetes reads null as absent.
                Some(_) if value.is_null() => {}
                Some(schema) => self.value(&inner, &format!("{pattern}.{key}"), schema, value),
            }
        }
        if map.is_empty() && matches!(pattern, "spec.rules[].from[].source" | "spec.rules[].to[].operation") {
            self.add(path, What::Empty);
        }
    }

    fn array(&mut self, path: &str, pattern: &str, schema: &Value, items: &[Value]) {
        if let Some(max) = schema.get("maxItems").and_then(Value::as_u64)
            && items.len() as u64 > max
        {
            self.invalid(path, "too_many", format!("at most {max} entries are allowed, there are {}", items.len()));
            return;
        }
        if let Some(inner) = schema.get("items") {
            for (index, item) in items.iter().enumerate() {
                self.value(&format!("{path}[{index}]"), &format!("{pattern}[]"), inner, item);
            }
        }
    }

    fn string(&mut self, path: &str, schema: &Value, text: &str) {
        let length = text.chars().count() as u64;
        if let Some(max) = schema.get("maxLength").and_then(Value::as_u64)
            && length > max
        {
            self.invalid(path, "too_long", format!("at most {max} characters are allowed, there are {length}"));
        }
        if schema.get("minLength").and_then(Value::as_u64).is_some_and(|min| length < min) {
            self.invalid(path, "missing_field", "this text must not be empty".into());
        }
        if let Some(choices) = schema.get("enum").and_then(Value::as_array)
            && !choices.iter().any(|c| c.as_str() == Some(text))
        {
            let choices: Vec<&str> = choices.iter().filter_map(Value::as_str).collect();
            self.invalid(
                path,
                "unknown_value",
                format!("`{}` is not one of {}", text.escape_debug(), choices.join(", ")),
            );
        }
    }

    fn number(&mut self, path: &str, schema: &Value, number: f64) {
        let limit = |name: &str| schema.get(name).and_then(Value::as_f64);
        if path.ends_with(".weight") && number < 0.0 {
            self.invalid(path, "negative_weight", format!("a weight must not be negative, this one is {number}"));
        } else if limit("minimum").is_some_and(|min| number < min) || limit("maximum").is_some_and(|max| number > max) {
            let text = |n: Option<f64>, none: &str| n.map_or_else(|| none.to_owned(), |n| n.to_string());
            let (min, max) = (text(limit("minimum"), "any"), text(limit("maximum"), "any"));
            self.invalid(path, "out_of_range", format!("{number} is outside {min} to {max}"));
        }
    }
}

/// An explicitly empty list in a rule of a policy would widen it to everybody; so would a null, which is what a
/// template leaves where its value was empty.
fn is_empty_in_rule(kind: &str, pattern: &str, value: &Value) -> bool {
    kind == "AuthorizationPolicy"
        && pattern.starts_with("spec.rules[]")
        && (value.is_null() || value.as_array().is_some_and(Vec::is_empty))
}

fn article(expected: &str) -> &'static str {
    match expected {
        "array" => "a list",
        "string" => "a text",
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        _ => "a mapping",
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

/// The known name that differs least from `name`, when it differs little enough to be a typo.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> Option<String> {
    let limit = 1 + name.len() / 4;
    known
        .map(|k| (distance(&name.to_lowercase(), &k.to_lowercase()), k))
        .filter(|(d, _)| *d <= limit)
        .min_by_key(|(d, _)| *d)
        .map(|(_, k)| k.clone())
}

/// Levenshtein distance by characters.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > 64 || b.len() > 64 {
        return usize::MAX;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = replaced.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
