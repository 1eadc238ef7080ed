//! Figures as people read them: three digits, and a unit that fits.
//!
//! Not here: what is shown. Invariant: a figure is rounded here only, never before.

use super::figures::Range;

/// A figure, with the unit that the name of its metric says.
pub fn figure(metric: &str, value: f64) -> String {
    let metric = metric.strip_prefix("extra.").unwrap_or(metric);
    let metric = metric.split('.').next().unwrap_or(metric);
    match () {
        () if metric.ends_with("_ns_per_delivery") => time_us(value / 1_000.0),
        () if metric.ends_with("_us") => time_us(value),
        () if metric.ends_with("_s") && !metric.contains("_per_") => time_us(value * 1e6),
        () if metric.ends_with("bytes_per_min") => format!("{}/min", bytes(value)),
        () if metric.contains("bytes") => bytes(value),
        () if metric.ends_with("_per_s") => format!("{}/s", count(value)),
        () if metric.ends_with("_busy") => format!("{:.0} %", value * 100.0),
        () if metric.contains("_per_") => count(value),
        () => whole(value),
    }
}

/// A median, and in brackets the range when it says something.
pub fn range(metric: &str, range: &Range) -> String {
    let show = |value| figure(metric, value);
    let (least, most) = (show(range.min), show(range.max));
    if least == most {
        return show(range.median);
    }
    format!("{} ({}–{most})", show(range.median), without_shared_unit(&least, &most))
}

/// A median; in brackets the range, too, where rounds differ so much that it alone would mislead.
pub fn range_if_wide(metric: &str, of: &Range) -> String {
    if of.is_wide() { range(metric, of) } else { figure(metric, of.median) }
}

/// A ratio and its range.
pub fn ratio(range: &Range) -> String {
    if range.min.to_bits() == range.max.to_bits() {
        return digits(range.median);
    }
    format!("{} ({}–{})", digits(range.median), digits(range.min), digits(range.max))
}

/// A time, from nanoseconds to seconds.
pub fn time_us(us: f64) -> String {
    match us.abs() {
        size if size >= 1e6 => format!("{} s", digits(us / 1e6)),
        size if size >= 1e3 => format!("{} ms", digits(us / 1e3)),
        size if size >= 1.0 || size == 0.0 => format!("{} µs", digits(us)),
        _ => format!("{} ns", digits(us * 1e3)),
    }
}

/// A number of things, or of things a second.
pub fn count(value: f64) -> String {
    match value.abs() {
        size if size >= 1e9 => format!("{} G", digits(value / 1e9)),
        size if size >= 1e6 => format!("{} M", digits(value / 1e6)),
        size if size >= 1e4 => format!("{} k", digits(value / 1e3)),
        size if size >= 1e3 => whole(value),
        _ => digits(value),
    }
}

/// A whole number, with commas.
pub fn whole(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at) % 3 == 0 && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Memory.
pub fn bytes(value: f64) -> String {
    match value.abs() {
        size if size >= f64::from(1_u32 << 30) => {
            format!("{} GiB", digits(value / f64::from(1_u32 << 30)))
        }
        size if size >= f64::from(1_u32 << 20) => {
            format!("{} MiB", digits(value / f64::from(1_u32 << 20)))
        }
        size if size >= 1_024.0 => format!("{} KiB", digits(value / 1_024.0)),
        _ => format!("{value:.0} B"),
    }
}

/// Three digits, or all of those before the point.
pub fn digits(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        0.0 => "0".into(),
        size if size < 0.01 => format!("{value:.4}"),
        _ => format!("{value:.2}"),
    }
}

/// `12 µs` before `15 µs` is `12`.
fn without_shared_unit<'a>(least: &'a str, most: &str) -> &'a str {
    let unit = |text: &str| text.find(|c: char| !c.is_ascii_digit() && !".,-".contains(c));
    match (unit(least), unit(most)) {
        (Some(at), Some(other)) if least[at..] == most[other..] => &least[..at],
        _ => least,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_the_unit_that_fits() {
        for (metric, value, text) in [
            ("cpu_ns_per_delivery", 987.4, "987 ns"),
            ("cpu_ns_per_delivery", 1_234.0, "1.23 µs"),
            ("p99_us", 15_250.0, "15.2 ms"),
            ("extra.recovery_s", 4.5, "4.50 s"),
            ("user_bytes_per_client", 512.0, "512 B"),
            ("deliveries_per_s", 4_560_000.0, "4.56 M/s"),
            ("extra.latency_before_us.p99", 1_500.0, "1.50 ms"),
            ("load_busy", 0.434, "43 %"),
            ("lost", 1_234_567.0, "1,234,567"),
            ("lost", -123.0, "-123"),
        ] {
            assert_eq!(figure(metric, value), text, "{metric} {value}");
        }
    }

    #[test]
    fn a_range_names_a_shared_unit_once_and_is_left_out_when_it_says_nothing() {
        let of = |min, median, max| Range { median, min, max };
        assert_eq!(range("p99_us", &of(12.0, 13.0, 15.0)), "13.0 µs (12.0–15.0 µs)");
        assert_eq!(range("p99_us", &of(900.0, 950.0, 1_200.0)), "950 µs (900 µs–1.20 ms)");
        assert_eq!(range("events_per_s", &of(101.0, 102.0, 104.0)), "102/s (101–104/s)");
        assert_eq!(range("lost", &of(0.0, 0.0, 0.0)), "0");
        let shown = |min, max| range_if_wide("p99_us", &of(min, 100.0, max));
        assert_eq!(shown(50.0, 200.0), "100 µs");
        assert_eq!(shown(49.0, 150.0), "100 µs (49.0–150 µs)", "below half");
        assert_eq!(shown(80.0, 201.0), "100 µs (80.0–201 µs)", "above twice");
        let memory = of(-536.0, -110.0, 755.0);
        assert_eq!(range_if_wide("user_bytes_per_client", &memory), "-110 B (-536–755 B)");
        let saved = of(-150.0, -110.0, -80.0);
        assert_eq!(range_if_wide("user_bytes_per_client", &saved), "-110 B");
        assert_eq!(ratio(&of(1.02, 1.04, 1.07)), "1.04 (1.02–1.07)");
    }
}
