//! Identities as policies write them. Always one whole identity or any: a prefix or suffix of an identity is how one
//! account passes for another.

use causeway_mesh::spiffe::SpiffeId;

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

fn build(trust_domain: &str, namespace: &str, account: &str, text: &str) -> Result<String, String> {
    let id = SpiffeId::new(trust_domain, namespace, account);
    id.map(|id| id.to_string()).map_err(|e| format!("`{}` is not an identity: {e}", text.escape_debug()))
}
