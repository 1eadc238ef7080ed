//! Numbers as people read them.
//!
//! Invariant: at most three significant digits beside the unit, so that columns stay aligned.

/// `950`, `12.3k`, `1.23M`: a count or a rate.
#[must_use]
pub fn short(value: f64) -> String {
    scaled(value, &[(1e9, "G"), (1e6, "M"), (1e3, "k")], "")
}

/// `950 B`, `12.3 kB`, `1.23 MB`: bytes in decimal units, as networks count.
#[must_use]
pub fn bytes(value: f64) -> String {
    scaled(value, &[(1e9, " GB"), (1e6, " MB"), (1e3, " kB")], " B")
}

/// `85 µs`, `1.23 ms`, `2.5 s`.
#[must_use]
pub fn microseconds(value: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let value = value as f64;
    scaled(value, &[(1e6, " s"), (1e3, " ms")], " µs")
}

/// `1,234,567`.
#[must_use]
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn scaled(value: f64, units: &[(f64, &str)], unit: &str) -> String {
    // 999.5 would round to four digits, so it belongs to the next unit.
    for (factor, unit) in units {
        if value >= factor * 0.9995 {
            let value = value / factor;
            let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
            return format!("{value:.digits$}{unit}");
        }
    }
    format!("{value:.0}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_a_unit() {
        for (value, text) in [
            (0.0, "0"),
            (950.4, "950"),
            (999.6, "1.00k"),
            (12_345.0, "12.3k"),
            (123_456.0, "123k"),
            (1_234_567.0, "1.23M"),
            (9.999e6, "10.0M"),
        ] {
            assert_eq!(short(value), text);
        }
        assert_eq!(bytes(345.6e6), "346 MB");
        assert_eq!(microseconds(85), "85 µs");
        assert_eq!(microseconds(1_234), "1.23 ms");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(123), "123");
    }
}
