//! A light curve in characters.

/// Columns and lines of the field.
const SIZE: (usize, usize) = (72, 14);

/// A point of a plot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Mark {
    /// From left to right.
    pub x: f64,
    /// From top to bottom, as magnitudes are drawn: bright is up.
    pub y: f64,
    /// What is drawn.
    pub letter: char,
}

/// Draws marks, later ones over earlier ones, and limits (`v`) under all; empty of none.
pub(super) fn plot(marks: &[Mark], y_name: &str, x_name: &str) -> String {
    let mut marks: Vec<_> = marks.iter().filter(|mark| mark.x.is_finite() && mark.y.is_finite()).collect();
    marks.sort_by_key(|mark| mark.letter != 'v');
    let range = |of: fn(&Mark) -> f64| {
        let (low, high) = marks.iter().map(|mark| of(mark)).fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        // One value stands in the middle.
        if high - low < 1e-9 { (low - 0.5, high + 0.5) } else { (low, high) }
    };
    if marks.is_empty() {
        return String::new();
    }
    let ((x_low, x_high), (y_low, y_high)) = (range(|mark| mark.x), range(|mark| mark.y));
    let mut field = vec![vec![' '; SIZE.0]; SIZE.1];
    let place = |value: f64, (low, high): (f64, f64), size: usize| ((value - low) / (high - low) * (size - 1) as f64).round() as usize;
    for mark in marks {
        field[place(mark.y, (y_low, y_high), SIZE.1)][place(mark.x, (x_low, x_high), SIZE.0)] = mark.letter;
    }
    let mut text = String::new();
    for (line, row) in field.iter().enumerate() {
        let y = y_low + (y_high - y_low) * line as f64 / (SIZE.1 - 1) as f64;
        let label = if line % 4 == 0 || line + 1 == SIZE.1 { format!("{y:7.2}") } else { " ".repeat(7) };
        text += format!("{label} |{}", row.iter().collect::<String>()).trim_end();
        text.push('\n');
    }
    let (left, right) = (format!("{x_low:.2}"), format!("{x_high:.2}"));
    text += &format!("{y_name:>7} +{}\n", "-".repeat(SIZE.0));
    text + &format!("{x_name:>7}  {left}{}{right}\n", " ".repeat(SIZE.0.saturating_sub(left.len() + right.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bright_is_up_and_early_is_left() {
        let mark = |x, y, letter| Mark { x, y, letter };
        let text = plot(&[mark(0.0, 20.0, 'g'), mark(10.0, 18.0, 'r'), mark(5.0, 21.0, 'v'), mark(5.0, f64::NAN, 'i')], "mag", "MJD");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], format!("  18.00 |{}r", " ".repeat(71)));
        assert!(lines[9].ends_with("|g"), "{text}");
        assert_eq!(lines[13].find('v'), Some(9 + 36), "{text}");
        assert!(!text.contains('i') && lines[15].contains("0.00") && lines[15].ends_with("10.00"), "{text}");
        assert_eq!(plot(&[], "mag", "MJD"), "");
    }
}
