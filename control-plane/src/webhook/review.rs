//! AdmissionReview v1 in, AdmissionReview v1 out (`admission.k8s.io/v1`). Pure: bytes to bytes.

use base64::Engine as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::validate::{Judgement, judge};
use crate::index::Resources;
use crate::problem::Problem;
use crate::{compile, inject};

/// The API server cuts longer ones off.
const WARNING_LENGTH: usize = 250;
/// More than these nobody reads.
const WARNINGS: usize = 16;

/// What the API server asks, as far as it is used. What else a review holds is not kept.
#[derive(Debug, Deserialize)]
pub struct Review {
    request: Request,
}

/// The request of a [`Review`].
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    uid: String,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    sub_resource: String,
    #[serde(default)]
    object: Value,
    #[serde(default)]
    old_object: Value,
}

/// What is answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// Why not; None where it is allowed.
    pub refused: Option<Refusal>,
    /// What to change.
    pub patch: Vec<inject::Operation>,
    /// What the user is told beside.
    pub warnings: Vec<String>,
}

/// A refusal, as Kubernetes' `Status` has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// HTTP status.
    pub code: u16,
    /// `Invalid`, `Forbidden`.
    pub reason: &'static str,
    /// One text with everything in it.
    pub message: String,
    /// Field and message, one each.
    pub causes: Vec<(String, String)>,
    /// Kind and name of what is refused.
    pub about: (String, String),
}

/// Reads a review.
///
/// # Errors
/// What it is not.
pub fn read(bytes: &[u8]) -> Result<Request, String> {
    let review: Review = serde_json::from_slice(bytes).map_err(|e| format!("this is no AdmissionReview: {e}"))?;
    if review.request.uid.is_empty() || review.request.uid.len() > 128 {
        return Err("this is no AdmissionReview: request.uid must be there".to_owned());
    }
    Ok(review.request)
}

/// Injects the Pod that is being created.
pub fn inject(request: &Request, settings: &inject::Settings) -> Answer {
    let is_new_pod = request.operation == "CREATE"
        && request.sub_resource.is_empty()
        && request.object.get("kind").and_then(Value::as_str) == Some("Pod");
    if !is_new_pod {
        return Answer::default();
    }
    match inject::patch(&request.object, settings) {
        Ok(patch) => Answer { refused: None, patch, warnings: inject::warnings(&request.object) },
        Err(refused) => {
            let message = format!("Causeway cannot inject this pod: {refused}");
            let causes = vec![(refused.field(), refused.to_string())];
            let refused = Refusal { code: 403, reason: "Forbidden", message, causes, about: request.kind_and_name() };
            Answer { refused: Some(refused), ..Answer::default() }
        }
    }
}

/// Judges the resource that is being created or changed.
pub fn validate(request: &Request, resources: Option<&Resources>, settings: &compile::Settings) -> Answer {
    if !matches!(request.operation.as_str(), "CREATE" | "UPDATE") || !request.sub_resource.is_empty() {
        return Answer::default();
    }
    let old = (request.operation == "UPDATE").then_some(&request.old_object);
    let mut new = request.object.clone();
    // The name of a `generateName` is made later; whatever it will be, it is one.
    let has_name = |v: &Value| v.pointer("/metadata/name").and_then(Value::as_str).is_some_and(|n| !n.is_empty());
    if !has_name(&new)
        && let Some(metadata) = new.get_mut("metadata").and_then(Value::as_object_mut)
    {
        let name = if request.name.is_empty() { "generated" } else { &request.name };
        metadata.insert("name".to_owned(), json!(name));
    }
    if let Some(metadata) = new.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.entry("namespace").or_insert_with(|| json!(request.namespace));
    }
    let Judgement { what, errors, warnings } = judge(&new, old, resources, settings);
    let warnings = warnings.iter().map(sentence).collect();
    if errors.is_empty() {
        return Answer { warnings, ..Answer::default() };
    }
    let all: Vec<String> = errors.iter().map(sentence).collect();
    let message = format!("{what} is not valid: {}", all.join("; "));
    let causes = errors.iter().map(|p| (p.field.clone(), spoken(p))).collect();
    let refused = Refusal { code: 422, reason: "Invalid", message, causes, about: request.kind_and_name() };
    Answer { refused: Some(refused), patch: Vec::new(), warnings }
}

fn sentence(problem: &Problem) -> String {
    let field = if problem.field.is_empty() { &problem.resource } else { &problem.field };
    format!("{field}: {}", spoken(problem))
}

/// Of advice only what still holds when the object is not stored.
fn spoken(problem: &Problem) -> String {
    let advice = match problem.advice.as_str() {
        advice if advice.is_empty() || advice.starts_with("Until") => return problem.message.clone(),
        advice => advice.split("; until then").next().unwrap_or(advice).trim_end_matches('.'),
    };
    format!("{}. {advice}", problem.message.trim_end_matches('.'))
}

/// The review that answers `uid`.
pub fn written(uid: &str, answer: &Answer) -> Vec<u8> {
    let mut response = json!({"uid": uid, "allowed": answer.refused.is_none()});
    if let Some(Refusal { code, reason, message, causes, about: (kind, name) }) = &answer.refused {
        let causes: Vec<Value> = causes
            .iter()
            .map(|(field, message)| json!({"reason": "FieldValueInvalid", "field": field, "message": message}))
            .collect();
        response["status"] = json!({
            "status": "Failure", "code": code, "reason": reason, "message": message,
            "details": {"kind": kind, "name": name, "causes": causes},
        });
    }
    if !answer.patch.is_empty() {
        let patch = serde_json::to_vec(&answer.patch).unwrap_or_default();
        response["patchType"] = json!("JSONPatch");
        response["patch"] = json!(base64::engine::general_purpose::STANDARD.encode(patch));
    }
    if !answer.warnings.is_empty() {
        let warnings: Vec<String> = answer.warnings.iter().take(WARNINGS).map(|w| cut(w)).collect();
        response["warnings"] = json!(warnings);
    }
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    serde_json::to_vec(&review).unwrap_or_default()
}

fn cut(text: &str) -> String {
    if text.chars().count() <= WARNING_LENGTH {
        return text.to_owned();
    }
    text.chars().take(WARNING_LENGTH - 3).chain("...".chars()).collect()
}

impl Request {
    /// What the answer must name.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    fn kind_and_name(&self) -> (String, String) {
        let kind = self.object.get("kind").and_then(Value::as_str).unwrap_or_default();
        (kind.to_owned(), self.name.clone())
    }

    /// For the log: operation, and what it is about.
    pub fn about(&self) -> String {
        let kind = self.object.get("kind").and_then(Value::as_str).unwrap_or_default();
        format!("{} {kind} {}/{}", self.operation, self.namespace, self.name)
    }
}
