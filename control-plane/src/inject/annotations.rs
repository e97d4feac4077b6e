//! The annotations by which a Pod tunes its proxy. What is not in this table has no effect at all.

use serde_json::{Map, Value, json};

use super::Refused;

const CPU_REQUEST: &str = "causeway.dev/proxy-cpu-request";
const CPU_LIMIT: &str = "causeway.dev/proxy-cpu-limit";
const MEMORY_REQUEST: &str = "causeway.dev/proxy-memory-request";
const MEMORY_LIMIT: &str = "causeway.dev/proxy-memory-limit";
const DRAIN: &str = "causeway.dev/drain-seconds";
const EXCLUDE_OUTBOUND: &str = "causeway.dev/exclude-outbound-ports";
const EXCLUDE_INBOUND: &str = "causeway.dev/exclude-inbound-ports";

/// A drain longer than this is a mistake.
const DRAIN_MOST: u32 = 3600;

/// What a Pod asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    cpu_request: String,
    cpu_limit: Option<String>,
    memory_request: String,
    memory_limit: Option<String>,
    /// Seconds.
    pub drain_seconds: u32,
    /// Sorted, each once.
    pub exclude_outbound_ports: Vec<u16>,
    /// Sorted, each once.
    pub exclude_inbound_ports: Vec<u16>,
}

impl Tuning {
    /// Reads all of them.
    ///
    /// # Errors
    /// [`Refused::Annotation`]: a value that is not understood is never passed over.
    pub fn read(annotations: &Map<String, Value>) -> Result<Self, Refused> {
        let text = |name: &'static str| match annotations.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(other) => Err(refused(name, &other.to_string(), "must be a string")),
        };
        let quantity = |name| match text(name)? {
            Some(value) if is_quantity(value) => Ok(Some(value.to_owned())),
            Some(value) => Err(refused(name, value, "must be a quantity such as 100m, 0.5, 64Mi")),
            None => Ok(None),
        };
        let ports = |name| text(name)?.map_or(Ok(Vec::new()), |value| ports(name, value));
        let drain_seconds = match text(DRAIN)? {
            None => 30,
            Some(value) => value
                .parse()
                .ok()
                .filter(|n| *n <= DRAIN_MOST)
                .ok_or_else(|| refused(DRAIN, value, "must be a number of seconds, at most 3600"))?,
        };
        Ok(Self {
            cpu_request: quantity(CPU_REQUEST)?.unwrap_or_else(|| "10m".to_owned()),
            cpu_limit: quantity(CPU_LIMIT)?,
            memory_request: quantity(MEMORY_REQUEST)?.unwrap_or_else(|| "32Mi".to_owned()),
            memory_limit: quantity(MEMORY_LIMIT)?,
            drain_seconds,
            exclude_outbound_ports: ports(EXCLUDE_OUTBOUND)?,
            exclude_inbound_ports: ports(EXCLUDE_INBOUND)?,
        })
    }

    /// `resources` of the proxy's container.
    pub fn resources(&self) -> Value {
        let mut resources = json!({"requests": {"cpu": self.cpu_request, "memory": self.memory_request}});
        for (name, limit) in [("cpu", &self.cpu_limit), ("memory", &self.memory_limit)] {
            if let Some(limit) = limit {
                resources["limits"][name] = json!(limit);
            }
        }
        resources
    }
}

fn refused(name: &'static str, value: &str, message: &'static str) -> Refused {
    Refused::Annotation { name, value: value.escape_debug().to_string(), message }
}

/// A decimal number with a suffix of Kubernetes' quantities (API conventions, "Quantity"), above zero.
fn is_quantity(text: &str) -> bool {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let suffix = &text[number.len()..];
    let is_number = number.len() <= 15
        && number.starts_with(|c: char| c.is_ascii_digit())
        && number.ends_with(|c: char| c.is_ascii_digit())
        && number.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && number.bytes().filter(|b| *b == b'.').count() <= 1;
    is_number
        && number.parse::<f64>().is_ok_and(|n| n > 0.0)
        && ["", "m", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti"].contains(&suffix)
}

fn ports(name: &'static str, value: &str) -> Result<Vec<u16>, Refused> {
    let message = "must be ports from 1 to 65535, separated by commas";
    let mut ports = value
        .split(',')
        .map(|port| port.trim().parse::<u16>().ok().filter(|p| *p > 0))
        .collect::<Option<Vec<u16>>>()
        .ok_or_else(|| refused(name, value, message))?;
    ports.sort_unstable();
    ports.dedup();
    Ok(ports)
}
