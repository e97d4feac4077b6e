//! Kubernetes' quantities (API conventions, "Quantity"), as far as they are compared: `250m`, `0.5`, `64Mi`.

/// In billionths, so that two ways to write one amount are equal; None for what is no quantity.
pub(super) fn parse(text: &str) -> Option<u128> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let suffix = &text[number.len()..];
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let is_written = !whole.is_empty() && number.len() <= 15 && !number.ends_with('.');
    if !is_written || !is_digits(whole) || !is_digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let billionths = format!("{whole}{fraction:0<9}").parse::<u128>().ok()?;
    let (multiply, divide): (u128, u128) = match suffix {
        "" => (1, 1),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        _ => return None,
    };
    billionths.checked_mul(multiply).map(|n| n / divide)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn two_ways_to_write_one_amount_are_equal() {
        for (a, b) in [("0.5", "500m"), ("1024Mi", "1Gi"), ("1", "1000m"), ("1.5k", "1500"), ("0.100", "100m")] {
            assert_eq!(parse(a), parse(b), "{a} {b}");
            assert!(parse(a).is_some());
        }
        assert!(parse("63Mi") < parse("64Mi"));
    }

    #[test]
    fn what_is_no_quantity_is_none() {
        for text in ["", "-1", "1e9Mi", "1.", ".5", "1.2.3", "Mi", "1 Mi", "1mi", "0x1", "99999999999999999"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in "\\PC{0,20}") {
            let _ = parse(&text);
        }

        #[test]
        fn thousandths_are_exact(n in 0u32..10_000_000) {
            prop_assert_eq!(parse(&format!("{n}m")), parse(&format!("{}.{:03}", n / 1000, n % 1000)));
        }
    }
}
