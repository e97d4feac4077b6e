//! Identities as policies write them. Always one whole identity or any: a prefix or suffix of an identity is how one
//! account passes for another.

use super::Settings;
use crate::index::Resources;
use crate::problem::{Problem, Severity};
use crate::source::resource::AuthorizationPolicy;
use causeway_mesh::spiffe::SpiffeId;
use std::collections::BTreeSet;

/// `cluster.local/ns/x/sa/y`, `spiffe://cluster.local/ns/x/sa/y` or `*`, as the wire has it.
///
/// `cluster.local` stands for the mesh's own trust domain, whatever its name, as it does in Istio.
pub(super) fn from_text(text: &str, trust_domain: &str) -> Result<String, String> {
    if text == "*" {
        return Ok("*".to_owned());
    }
    if text.contains('*') {
        return Err(format!("`{}` is a pattern; identities are compared as a whole", text.escape_debug()));
    }
    let full = if text.starts_with("spiffe://") { text.to_owned() } else { format!("spiffe://{text}") };
    let id: SpiffeId = full.parse().map_err(|e| format!("`{}` is not an identity: {e}", text.escape_debug()))?;
    let domain = if id.trust_domain() == "cluster.local" { trust_domain } else { id.trust_domain() };
    build(domain, id.namespace(), id.account(), text)
}

/// `namespace/account`, or `account` of the policy's own namespace.
pub(super) fn from_account(text: &str, own: &str, trust_domain: &str) -> Result<String, String> {
    let (namespace, account) = text.split_once('/').unwrap_or((own, text));
    build(trust_domain, namespace, account, text)
}

/// The identities of two lists that must both hold the caller; an empty list asks nothing. None: nobody is in both.
pub(super) fn in_both(principals: Vec<String>, accounts: Vec<String>) -> Option<Vec<String>> {
    if principals.is_empty() || accounts.is_empty() {
        return Some([principals, accounts].concat());
    }
    let is_any = principals.iter().any(|p| p == "*");
    let both: Vec<String> = accounts.into_iter().filter(|a| is_any || principals.contains(a)).collect();
    (!both.is_empty()).then_some(both)
}

fn build(trust_domain: &str, namespace: &str, account: &str, text: &str) -> Result<String, String> {
    let id = SpiffeId::new(trust_domain, namespace, account);
    id.map(|id| id.to_string()).map_err(|e| format!("`{}` is not an identity: {e}", text.escape_debug()))
}

/// The ServiceAccounts that exist, so that a policy for one that nobody has can be told from one that works.
pub(super) struct Accounts {
    namespaces: BTreeSet<String>,
    known: BTreeSet<(String, String)>,
}

impl Accounts {
    pub(super) fn new(resources: &Resources) -> Self {
        let declared = resources.service_accounts.keys().map(|k| (k.namespace.clone(), k.name.clone()));
        let used = resources.pods.values().map(|p| (p.meta.key.namespace.clone(), p.account.clone()));
        let known: BTreeSet<(String, String)> = declared.chain(used).collect();
        let namespaces = resources.namespaces.keys().map(|k| k.name.clone());
        Self { namespaces: namespaces.chain(known.iter().map(|(n, _)| n.clone())).collect(), known }
    }

    /// Warns of every account that the policy names and that nobody has.
    pub(super) fn examine(&self, policy: &AuthorizationPolicy, settings: &Settings, problems: &mut Vec<Problem>) {
        let own = &policy.meta.key.namespace;
        for (i, rule) in policy.spec.rules.iter().enumerate() {
            for (j, from) in rule.from.iter().enumerate() {
                let principals = from.source.principals.iter().map(|t| from_text(t, &settings.trust_domain));
                let accounts =
                    from.source.service_accounts.iter().map(|t| from_account(t, own, &settings.trust_domain));
                let lists = [("principals", principals.collect::<Vec<_>>()), ("serviceAccounts", accounts.collect())];
                for (list, ids) in lists {
                    for (at, id) in ids.into_iter().enumerate() {
                        let Some(id) = id.ok().and_then(|id| id.parse::<SpiffeId>().ok()) else { continue };
                        if self.is_missing(&id, settings) {
                            let field = format!("spec.rules[{i}].from[{j}].source.{list}[{at}]");
                            let message = format!(
                                "no ServiceAccount `{}` is known in namespace {}",
                                id.account(),
                                id.namespace()
                            );
                            let advice = "Correct the name, or create the ServiceAccount.";
                            let meta = &policy.meta;
                            problems.push(meta.problem(
                                Severity::Warning,
                                "unknown_service_account",
                                &field,
                                message,
                                advice,
                            ));
                        }
                    }
                }
            }
        }
    }

    /// Every namespace has an account `default`; of other trust domains and unknown namespaces nothing is known.
    fn is_missing(&self, id: &SpiffeId, settings: &Settings) -> bool {
        id.trust_domain() == settings.trust_domain
            && id.account() != "default"
            && self.namespaces.contains(id.namespace())
            && !self.known.contains(&(id.namespace().to_owned(), id.account().to_owned()))
    }
}
