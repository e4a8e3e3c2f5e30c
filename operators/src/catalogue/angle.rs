//! Angles as text.

/// A number of degrees; quotes and blanks around it do not matter.
#[must_use]
pub fn degrees(text: &str) -> Option<f64> {
    text.trim_matches(|c: char| c.is_whitespace() || c == '"').parse().ok()
}

/// Hours or degrees, minutes and seconds, parted by blanks, colons or their letters: `00 01 16.37`, `-05:23:28`,
/// `12h55m17.1s`, `+29d35'34"`. Minutes and seconds may be left out.
#[must_use]
pub fn sexagesimal(text: &str) -> Option<f64> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '"');
    let (negative, rest) = match text.strip_prefix(['-', '−']) {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut parts = rest.split(|c: char| c.is_whitespace() || ":hdms°'\"′″".contains(c)).filter(|part| !part.is_empty());
    let mut value: f64 = parts.next()?.parse().ok()?;
    for unit in [60.0, 3600.0] {
        let Some(part) = parts.next() else { break };
        let part: f64 = part.parse().ok()?;
        if !(0.0..60.0).contains(&part) {
            return None;
        }
        value += part / unit;
    }
    if parts.next().is_some() || value < 0.0 || !value.is_finite() {
        return None;
    }
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_ways_that_people_write_angles() {
        let close = |text, value: f64| sexagesimal(text).is_some_and(|v| (v - value).abs() < 1e-12);
        assert!(close("00 01 16.37", 76.37 / 3600.0));
        assert!(close(" \"-00 30 00\" ", -0.5), "the sign counts, though the degrees are 0");
        assert!(close("+29:35:34.0", 29.0 + 35.0 / 60.0 + 34.0 / 3600.0));
        assert!(close("12h55m17.1s", 12.0 + 55.0 / 60.0 + 17.1 / 3600.0));
        assert!(close("12d30'", 12.5) && close("193.25", 193.25) && close("5° 30′ 36″", 5.51));
        for wrong in ["", "a", "1 2 3 4", "1 -2", "1 60 0", "1 0 60", "nan", "--1", "inf"] {
            assert_eq!(sexagesimal(wrong), None, "{wrong}");
        }
        assert_eq!((degrees(" \"12.5\""), degrees("12 5")), (Some(12.5), None));
    }
}
