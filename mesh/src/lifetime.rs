//! When a certificate is renewed. The caller knows the time and draws the jitter.

/// Unix seconds at which to renew: 70 % of the life, 5 % earlier or later by `unit` in `[0, 1)`.
///
/// Never before `not_before`, never past `not_after`; a certificate that has no life is renewed at `not_after`.
pub fn renew_at(not_before: i64, not_after: i64, unit: f64) -> i64 {
    if not_after <= not_before {
        return not_after;
    }
    let life = i128::from(not_after) - i128::from(not_before);
    let unit = if unit.is_nan() { 0.5 } else { unit.clamp(0.0, 1.0) };
    let used = (life as f64 * (0.65 + 0.10 * unit)) as i128;
    let at = i128::from(not_before) + used.clamp(0, life);
    i64::try_from(at).unwrap_or(not_after)
}

#[cfg(test)]
mod tests;
