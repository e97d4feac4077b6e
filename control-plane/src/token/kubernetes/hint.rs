//! Says why a token was refused, from what it claims itself. Serves the message alone: what was refused stays refused.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::super::{AUDIENCE, Audience, TokenError};

/// Only what explains a refusal.
#[derive(Deserialize)]
struct Claims {
    aud: Option<Audience>,
    exp: Option<i64>,
    nbf: Option<i64>,
}

/// The likeliest cause, most likely first; `now` in seconds since the epoch.
pub fn why(token: &str, now: i64) -> TokenError {
    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return TokenError::Malformed("it is not a JWT");
    };
    let Some(claims) = URL_SAFE_NO_PAD.decode(claims).ok().and_then(|c| serde_json::from_slice::<Claims>(&c).ok())
    else {
        return TokenError::Malformed("its claims are not those of a ServiceAccount token");
    };
    if let Some(exp) = claims.exp.filter(|exp| *exp <= now) {
        return TokenError::Expired(now.saturating_sub(exp));
    }
    if let Some(nbf) = claims.nbf.filter(|nbf| *nbf > now) {
        return TokenError::NotYetValid(nbf.saturating_sub(now));
    }
    if !claims.aud.is_some_and(|a| a.names(AUDIENCE)) {
        return TokenError::Audience;
    }
    TokenError::Refused
}
