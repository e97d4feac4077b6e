//! AuthorizationPolicies as the wire has them. Whatever is not understood fails closed: in an ALLOW policy the rule never
//! matches, in a DENY policy it matches without the part that is not understood.

use super::Settings;
use super::matching::is_token;
use super::principal::{self, Accounts};
use super::selected::{Selected, selecting};
use crate::index::Resources;
use crate::problem::{Problem, Severity};
use crate::source::Key;
use crate::source::resource::AuthorizationPolicy;
use causeway_crds::authorization_policy::{Action, From, Operation, Rule, To};
use causeway_mesh::wire;
use std::collections::BTreeMap;

/// Every policy, in order of namespace and name.
#[derive(Debug, Default)]
pub(super) struct Policies {
    all: Vec<Selected<wire::Policy>>,
}

/// A part of a rule that cannot be used, already reported.
pub(super) struct Unusable;

impl Policies {
    pub(super) fn new(resources: &Resources, settings: &Settings, problems: &mut Vec<Problem>) -> Self {
        let mut all = Vec::new();
        let accounts = Accounts::new(resources);
        for policy in resources.authorization_policies.values() {
            if policy.spec.action == Some(Action::Audit) {
                let message = "the action AUDIT is not implemented yet; the policy has no effect".to_owned();
                problems.push(policy.meta.problem(Severity::Warning, "not_implemented", "spec.action", message, ""));
                continue;
            }
            accounts.examine(policy, settings, problems);
            all.push(compiled(policy, settings, problems));
        }
        Self { all }
    }

    /// The policies that select a pod of `namespace` with these labels.
    pub(super) fn of(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<wire::Policy> {
        selecting(&self.all, namespace, labels).map(|c| c.what.clone()).collect()
    }

    /// The resources that [`Policies::of`] is made from.
    pub(super) fn parts<'a>(
        &'a self,
        namespace: &'a str,
        labels: &'a BTreeMap<String, String>,
    ) -> impl Iterator<Item = &'a Key> {
        selecting(&self.all, namespace, labels).map(|c| &c.key)
    }
}

fn compiled(policy: &AuthorizationPolicy, settings: &Settings, problems: &mut Vec<Problem>) -> Selected<wire::Policy> {
    let (meta, spec) = (&policy.meta, &policy.spec);
    // CUSTOM asks somebody else; nobody can be asked, so what it selects is denied.
    let is_allow = matches!(spec.action, None | Some(Action::Allow));
    if spec.action == Some(Action::Custom) {
        let message = "the action CUSTOM is not implemented yet: what the rules match is denied".to_owned();
        problems.push(meta.problem(Severity::Error, "not_implemented", "spec.action", message, "Use ALLOW or DENY."));
    }
    let is_whole = |path: &String| !path.starts_with("spec.rules[") && path != "spec.provider";
    let mut maker = Maker { policy, settings, problems, is_allow };
    let rules = if meta.unsupported.iter().any(is_whole) {
        // The policy itself does not say what it seems to: allow nothing, or deny everything.
        if is_allow { Vec::new() } else { vec![wire::Rule::default()] }
    } else {
        spec.rules.iter().enumerate().filter_map(|(index, rule)| maker.rule(index, rule)).collect()
    };
    let is_selector_known =
        !["spec.selector", "spec.targetRef", "spec.targetRefs"].iter().any(|p| meta.is_unsupported(p));
    let labels =
        spec.selector.as_ref().filter(|_| is_selector_known).map(|s| s.match_labels.clone()).unwrap_or_default();
    let verdict = if is_allow { wire::Verdict::Allow } else { wire::Verdict::Deny };
    let what = wire::Policy { name: meta.key.path(), verdict: verdict.into(), rules };
    Selected::new(meta, labels, what, settings)
}

struct Maker<'a> {
    policy: &'a AuthorizationPolicy,
    settings: &'a Settings,
    problems: &'a mut Vec<Problem>,
    is_allow: bool,
}

impl Maker<'_> {
    fn refuse(&mut self, code: &'static str, field: &str, message: &str, advice: &str) -> Unusable {
        let closed =
            if self.is_allow { "this alternative never matches" } else { "the rule denies without this condition" };
        let message = format!("{message}; {closed}");
        self.problems.push(self.policy.meta.problem(Severity::Error, code, field, message, advice));
        Unusable
    }

    /// None: a rule of an ALLOW policy that never matches.
    fn rule(&mut self, index: usize, rule: &Rule) -> Option<wire::Rule> {
        let path = format!("spec.rules[{index}]");
        let from = rule.from.iter().enumerate().map(|(i, from)| self.source(&format!("{path}.from[{i}]"), from));
        let from: Vec<Result<wire::Source, Unusable>> = from.collect();
        let to = rule.to.iter().enumerate().map(|(i, to)| self.operation(&format!("{path}.to[{i}]"), to));
        let to: Vec<Result<wire::Operation, Unusable>> = to.collect();
        let unsupported = &self.policy.meta.unsupported;
        // An empty list would hold for everybody; the check has said so already.
        let is_empty = |part: &str| unsupported.iter().any(|u| *u == format!("{path}.{part}"));
        let from = self.alternatives(from, is_empty("from"));
        let to = self.alternatives(to, is_empty("to"));
        // A field beside from and to that is not understood, `when` above all.
        let part = |u: &String| u.strip_prefix(&path).filter(|r| r.starts_with(['.', '['])).map(str::to_owned);
        let is_known = |rest: &String| {
            [".from", ".to"].iter().any(|p| rest.strip_prefix(p).is_some_and(|r| r.is_empty() || r.starts_with('[')))
        };
        let is_beside = unsupported.iter().filter_map(part).any(|rest| !is_known(&rest));
        match (from, to) {
            (Some(from), Some(to)) if !(is_beside && self.is_allow) => Some(wire::Rule { from, to }),
            _ => None,
        }
    }

    /// The alternatives of `from` or `to`. None: an ALLOW rule in which none of them can match. No alternatives at all:
    /// everybody, which is what a DENY rule makes of one that it does not understand.
    fn alternatives<T>(&self, all: Vec<Result<T, Unusable>>, is_empty: bool) -> Option<Vec<T>> {
        let (written, usable): (usize, Vec<T>) = (all.len(), all.into_iter().filter_map(Result::ok).collect());
        match self.is_allow {
            true if is_empty || usable.is_empty() && written > 0 => None,
            true => Some(usable),
            false if usable.len() < written => Some(Vec::new()),
            false => Some(usable),
        }
    }

    fn source(&mut self, path: &str, from: &From) -> Result<wire::Source, Unusable> {
        if self.policy.meta.is_unsupported(path) {
            return Err(Unusable);
        }
        let source = &from.source;
        let own = self.policy.meta.key.namespace.clone();
        let trust_domain = &self.settings.trust_domain;
        let named = |field: &str, list: &[String]| -> Result<Vec<String>, (String, String)> {
            let parsed = list.iter().enumerate().map(|(i, text)| {
                let parsed = if field.ends_with("ccounts") {
                    principal::from_account(text, &own, trust_domain)
                } else {
                    principal::from_text(text, trust_domain)
                };
                parsed.map_err(|e| (format!("{path}.source.{field}[{i}]"), e))
            });
            parsed.collect()
        };
        let yes = named("principals", &source.principals).and_then(|principals| {
            let accounts = named("serviceAccounts", &source.service_accounts)?;
            principal::in_both(principals, accounts).ok_or_else(|| {
                let message = "no identity is in `principals` and in `serviceAccounts`, and both must hold the caller";
                (format!("{path}.source.serviceAccounts"), message.to_owned())
            })
        });
        let no = named("notPrincipals", &source.not_principals).and_then(|mut principals| {
            principals.extend(named("notServiceAccounts", &source.not_service_accounts)?);
            Ok(principals)
        });
        let advice = "Write cluster.local/ns/<namespace>/sa/<account> in full, or `*` for any identity.";
        let principals = yes.map_err(|(field, message)| self.refuse("invalid_principal", &field, &message, advice))?;
        let not_principals =
            no.map_err(|(field, message)| self.refuse("invalid_principal", &field, &message, advice))?;
        let lists = [("namespaces", &source.namespaces), ("notNamespaces", &source.not_namespaces)];
        for (field, list) in lists {
            if let Some(i) = list.iter().position(|n| !causeway_mesh::spiffe::is_dns_label(n)) {
                let message =
                    format!("`{}` is not the name of a namespace (patterns are not accepted)", list[i].escape_debug());
                let field = format!("{path}.source.{field}[{i}]");
                return Err(self.refuse("invalid_namespace", &field, &message, "List each namespace by its name."));
            }
        }
        Ok(wire::Source {
            principals,
            not_principals,
            namespaces: source.namespaces.clone(),
            not_namespaces: source.not_namespaces.clone(),
        })
    }

    fn operation(&mut self, path: &str, to: &To) -> Result<wire::Operation, Unusable> {
        if self.policy.meta.is_unsupported(path) {
            return Err(Unusable);
        }
        let Operation { hosts, not_hosts, ports, not_ports, methods, not_methods, paths, not_paths } = &to.operation;
        let path = format!("{path}.operation");
        let mut wire = wire::Operation {
            methods: self.methods(&format!("{path}.methods"), methods)?,
            not_methods: self.methods(&format!("{path}.notMethods"), not_methods)?,
            paths: self.patterns(&format!("{path}.paths"), paths, is_path)?,
            not_paths: self.patterns(&format!("{path}.notPaths"), not_paths, is_path)?,
            ports: self.ports(&format!("{path}.ports"), ports)?,
            not_ports: self.ports(&format!("{path}.notPorts"), not_ports)?,
            hosts: self.patterns(&format!("{path}.hosts"), &lower(hosts), is_host)?,
            not_hosts: self.patterns(&format!("{path}.notHosts"), &lower(not_hosts), is_host)?,
        };
        if methods.iter().any(|m| m == "*") {
            // Any method: still a condition that only HTTP can meet.
            wire.methods.clear();
            if wire.paths.is_empty() {
                wire.paths = vec![pattern("*")];
            }
        }
        Ok(wire)
    }

    fn methods(&mut self, path: &str, list: &[String]) -> Result<Vec<String>, Unusable> {
        let is_fine =
            |m: &String| m == "*" && path.ends_with(".methods") || is_token(m) && !m.contains('*') && m.len() <= 64;
        match list.iter().position(|m| !is_fine(m)) {
            None => Ok(list.to_vec()),
            Some(i) => {
                let message = format!("`{}` is not an HTTP method (patterns are not accepted)", list[i].escape_debug());
                Err(self.refuse("invalid_method", &format!("{path}[{i}]"), &message, "List each method by its name."))
            }
        }
    }

    fn ports(&mut self, path: &str, list: &[String]) -> Result<Vec<u32>, Unusable> {
        let mut ports = Vec::new();
        for (i, text) in list.iter().enumerate() {
            match text.parse::<u16>().ok().filter(|p| *p > 0) {
                Some(port) => ports.push(port.into()),
                None => {
                    let message = format!("`{}` is not a port number", text.escape_debug());
                    return Err(self.refuse("invalid_port", &format!("{path}[{i}]"), &message, "Write 1 to 65535."));
                }
            }
        }
        Ok(ports)
    }

    fn patterns(
        &mut self,
        path: &str,
        list: &[String],
        is_fine: fn(&str) -> bool,
    ) -> Result<Vec<wire::StringMatch>, Unusable> {
        match list.iter().position(|text| !is_fine(text)) {
            None => Ok(list.iter().map(|text| pattern(text)).collect()),
            Some(i) => {
                let message = format!("`{}` is not a pattern that is understood", list[i].escape_debug());
                let advice = "Write it in full, or with one `*` at its beginning or its end.";
                Err(self.refuse("invalid_pattern", &format!("{path}[{i}]"), &message, advice))
            }
        }
    }
}

fn lower(list: &[String]) -> Vec<String> {
    list.iter().map(|t| t.to_ascii_lowercase()).collect()
}

/// At most one `*`, at an end, and no template (`{*}`).
fn is_simple(text: &str) -> bool {
    let inner = text.strip_prefix('*').or(text.strip_suffix('*')).unwrap_or(text);
    !text.is_empty() && !inner.contains(['*', '{', '}'])
}

fn is_path(text: &str) -> bool {
    is_simple(text) && (text.starts_with(['/', '*']))
}

/// Hosts are compared without a port, so a port in the pattern could never match.
fn is_host(text: &str) -> bool {
    is_simple(text) && !text.contains(':')
}

fn pattern(text: &str) -> wire::StringMatch {
    use wire::string_match::Kind;
    let kind = match (text.strip_prefix('*'), text.strip_suffix('*')) {
        _ if text == "*" => Kind::Present(true),
        (Some(suffix), _) => Kind::Suffix(suffix.to_owned()),
        (_, Some(prefix)) => Kind::Prefix(prefix.to_owned()),
        (None, None) => Kind::Exact(text.to_owned()),
    };
    wire::StringMatch { kind: Some(kind) }
}
