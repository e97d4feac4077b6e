//! The annotations by which a Pod tunes its proxy. What is not in this table has no effect at all.

use serde_json::{Map, Value, json};

use super::{Refused, malformed, quantity};

const CPU_REQUEST: &str = "causeway.dev/proxy-cpu-request";
const CPU_LIMIT: &str = "causeway.dev/proxy-cpu-limit";
const MEMORY_REQUEST: &str = "causeway.dev/proxy-memory-request";
const MEMORY_LIMIT: &str = "causeway.dev/proxy-memory-limit";
/// Seconds that open requests get once the proxy is told to end.
pub(super) const DRAIN: &str = "causeway.dev/drain-seconds";
const EXCLUDE_OUTBOUND: &str = "causeway.dev/exclude-outbound-ports";
const EXCLUDE_INBOUND: &str = "causeway.dev/exclude-inbound-ports";
const TLS_SECRET: &str = "causeway.dev/proxy-tls-secret";

/// A drain longer than this is a mistake.
const DRAIN_MOST: u32 = 3600;
/// Where nothing is asked for and there is room.
const DRAIN_USUAL: u32 = 30;
/// Kubernetes' own (`terminationGracePeriodSeconds`).
const GRACE_USUAL: u32 = 30;
/// Left for the rest of the pod's end: the application ends first, then the proxy drains, then kubelet kills.
const DRAIN_ROOM: u32 = 5;
const CPU_USUAL: &str = "10m";
const MEMORY_USUAL: &str = "32Mi";

/// What a Pod asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    cpu: Amounts,
    memory: Amounts,
    /// Seconds.
    pub drain_seconds: u32,
    /// Sorted, each once.
    pub exclude_outbound_ports: Vec<u16>,
    /// Sorted, each once.
    pub exclude_inbound_ports: Vec<u16>,
    /// Secret of the Pod's namespace whose files the proxy may use for TLS that it begins.
    pub tls_secret: Option<String>,
}

/// Request and limit of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Amounts {
    request: Option<String>,
    limit: Option<String>,
}

impl Tuning {
    /// Reads all of them; `spec` is the Pod's.
    ///
    /// # Errors
    /// [`Refused::Annotation`]: a value that is not understood is never passed over. [`Refused::NoRoomToDrain`].
    pub fn read(annotations: &Map<String, Value>, spec: &Map<String, Value>) -> Result<Self, Refused> {
        let text = |name: &'static str| match annotations.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(other) => Err(refused(name, &other.to_string(), "must be a string")),
        };
        let ports = |name| text(name)?.map_or(Ok(Vec::new()), |value| ports(name, value));
        let grace = match spec.get("terminationGracePeriodSeconds") {
            None | Some(Value::Null) => GRACE_USUAL,
            Some(value) => {
                let seconds = value.as_u64().and_then(|n| u32::try_from(n).ok());
                seconds.ok_or_else(|| malformed("spec.terminationGracePeriodSeconds", "must be a number of seconds"))?
            }
        };
        // A Pod with resources of its own as a whole shares them out; ours would come on top of what it has.
        let is_shared = spec.get("resources").and_then(Value::as_object).is_some_and(|r| !r.is_empty());
        let usual = |amount| (!is_shared).then_some(amount);
        Ok(Self {
            cpu: amounts((CPU_REQUEST, text(CPU_REQUEST)?), (CPU_LIMIT, text(CPU_LIMIT)?), usual(CPU_USUAL))?,
            memory: amounts(
                (MEMORY_REQUEST, text(MEMORY_REQUEST)?),
                (MEMORY_LIMIT, text(MEMORY_LIMIT)?),
                usual(MEMORY_USUAL),
            )?,
            drain_seconds: drain(text(DRAIN)?, grace)?,
            exclude_outbound_ports: ports(EXCLUDE_OUTBOUND)?,
            exclude_inbound_ports: ports(EXCLUDE_INBOUND)?,
            tls_secret: text(TLS_SECRET)?.map(secret).transpose()?,
        })
    }

    /// `resources` of both containers: as init containers run one after the other, the second costs nothing more.
    pub fn resources(&self) -> Value {
        let mut resources = json!({});
        for (name, amounts) in [("cpu", &self.cpu), ("memory", &self.memory)] {
            for (part, amount) in [("requests", &amounts.request), ("limits", &amounts.limit)] {
                if let Some(amount) = amount {
                    resources[part][name] = json!(amount);
                }
            }
        }
        resources
    }
}

fn drain(asked: Option<&str>, grace: u32) -> Result<u32, Refused> {
    let most = grace.saturating_sub(DRAIN_ROOM);
    let Some(value) = asked else { return Ok(DRAIN_USUAL.min(most)) };
    let drain = value
        .parse()
        .ok()
        .filter(|n| *n <= DRAIN_MOST)
        .ok_or_else(|| refused(DRAIN, value, "must be a number of seconds, at most 3600"))?;
    if drain > most { Err(Refused::NoRoomToDrain { drain, grace, room: DRAIN_ROOM }) } else { Ok(drain) }
}

type Asked<'a> = (&'static str, Option<&'a str>);

/// A limit below the usual request lowers the request: the API server refuses a request above its limit.
fn amounts(request: Asked<'_>, limit: Asked<'_>, usual: Option<&str>) -> Result<Amounts, Refused> {
    let read = |(name, value): Asked<'_>| match value.map(|v| (v, quantity::parse(v))) {
        None => Ok(None),
        Some((_, Some(amount))) if amount > 0 => Ok(Some(amount)),
        Some((value, _)) => Err(refused(name, value, "must be a quantity such as 100m, 0.5, 64Mi")),
    };
    let (asked, most) = (read(request)?, read(limit)?);
    if let (Some(asked), Some(most), Some(value)) = (asked, most, request.1)
        && asked > most
    {
        return Err(refused(request.0, value, "is above the limit that another annotation sets"));
    }
    let below = usual.filter(|u| most.is_none_or(|most| quantity::parse(u).is_some_and(|u| u <= most)));
    let request = request.1.or(below).or(usual.and(limit.1));
    Ok(Amounts { request: request.map(str::to_owned), limit: limit.1.map(str::to_owned) })
}

fn secret(value: &str) -> Result<String, Refused> {
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let is_name = value.len() <= 253
        && value.chars().all(is_inner)
        && value.split('.').all(|part| !part.is_empty() && !part.starts_with('-') && !part.ends_with('-'));
    if is_name {
        Ok(value.to_owned())
    } else {
        Err(refused(TLS_SECRET, value, "must be the name of a Secret in the pod's namespace"))
    }
}

fn refused(name: &'static str, value: &str, message: &'static str) -> Refused {
    Refused::Annotation { name, value: value.escape_debug().to_string(), message }
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
