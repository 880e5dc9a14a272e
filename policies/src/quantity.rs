//! Quantities of Kubernetes, compared by value.

/// The value of a quantity such as `500m`, `1.5`, `512Mi` or `2e3`, in thousandths; `None` if it is not one, is negative, or
/// is too large. Fractions of a thousandth are rounded up, as Kubernetes does.
///
/// See <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.
#[must_use]
pub fn thousandths(text: &str) -> Option<u128> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > 24 || fraction.contains('.') {
        return None;
    }
    let value: u128 = digits.parse().ok()?;
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let (times, parts) = factor(suffix)?;
    let numerator = value.checked_mul(times)?.checked_mul(1000)?;
    let denominator = scale.checked_mul(parts)?;
    Some(numerator.div_ceil(denominator))
}

/// What the suffix multiplies and divides by.
fn factor(suffix: &str) -> Option<(u128, u128)> {
    let power = |base: u128, exponent: u32| base.checked_pow(exponent);
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, power(1000, 3)?),
        "u" => (1, power(1000, 2)?),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (power(1000, 2)?, 1),
        "G" => (power(1000, 3)?, 1),
        "T" => (power(1000, 4)?, 1),
        "P" => (power(1000, 5)?, 1),
        "E" => (power(1000, 6)?, 1),
        "Ki" => (1024, 1),
        "Mi" => (power(1024, 2)?, 1),
        "Gi" => (power(1024, 3)?, 1),
        "Ti" => (power(1024, 4)?, 1),
        "Pi" => (power(1024, 5)?, 1),
        "Ei" => (power(1024, 6)?, 1),
        exponent => {
            let text = exponent.strip_prefix(['e', 'E'])?;
            let negative = text.strip_prefix('-');
            let digits = negative.or(text.strip_prefix('+')).unwrap_or(text);
            let factor = power(10, digits.parse().ok().filter(|exponent| *exponent <= 18)?)?;
            if negative.is_some() { (1, factor) } else { (factor, 1) }
        }
    })
}

/// The smaller of two quantities, as it is written; `a` where they are equal or `b` is not a quantity.
#[must_use]
pub fn smaller<'q>(a: &'q str, b: &'q str) -> &'q str {
    match (thousandths(a), thousandths(b)) {
        (Some(first), Some(second)) if second < first => b,
        (None, Some(_)) => b,
        _ => a,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_compared_by_value() {
        for (text, expected) in [
            ("1", Some(1000)),
            ("500m", Some(500)),
            ("1.5", Some(1500)),
            (".5", Some(500)),
            ("1.", Some(1000)),
            ("0.0001", Some(1)),
            ("1Ki", Some(1_024_000)),
            ("0.5Gi", Some(512 * 1024 * 1024 * 1000)),
            ("1e3", Some(1_000_000)),
            ("1E3", Some(1_000_000)),
            ("1E", Some(1_000_000_000_000_000_000_000)),
            ("100u", Some(1)),
            ("2e-3", Some(2)),
            ("+2", Some(2000)),
            ("", None),
            (".", None),
            ("-1", None),
            ("1..2", None),
            ("1.2.3", None),
            ("1 Gi", None),
            ("1Gib", None),
            ("1e", None),
            ("1e99", None),
            ("99999999999999999999999999", None),
        ] {
            assert_eq!(thousandths(text), expected, "{text}");
        }
        assert_eq!(smaller("1", "500m"), "500m");
        assert_eq!(smaller("512Mi", "0.5Gi"), "512Mi");
        assert_eq!(smaller("1Gi", "2Gi"), "1Gi");
        assert_eq!(smaller("1Gi", "nonsense"), "1Gi");
    }
}
