//! Figures and how they are shown.

use serde_json::{Value, json};
use std::fmt::Write;

/// What is wanted of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    /// Not more than this.
    AtMost(f64),
    /// Not less than this.
    AtLeast(f64),
    /// None: it is there to be looked at.
    Open,
}

/// A figure and what was measured.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// What was measured.
    pub(crate) name: String,
    /// Of the samples.
    pub(crate) unit: &'static str,
    /// What is wanted of the median.
    pub(crate) goal: Goal,
    /// One or more values, or why there are none.
    pub(crate) samples: Result<Vec<f64>, String>,
}

// === impl Goal ===

impl Goal {
    fn is_met(self, value: f64) -> Option<bool> {
        match self {
            Self::AtMost(limit) => Some(value <= limit),
            Self::AtLeast(limit) => Some(value >= limit),
            Self::Open => None,
        }
    }

    fn describe(self) -> String {
        match self {
            Self::AtMost(limit) => format!("<= {}", number(limit)),
            Self::AtLeast(limit) => format!(">= {}", number(limit)),
            Self::Open => String::new(),
        }
    }
}

// === impl Figure ===

impl Figure {
    /// A figure that was measured.
    pub(crate) fn new(name: &str, unit: &'static str, goal: Goal, samples: Vec<f64>) -> Self {
        Self { name: name.to_owned(), unit, goal, samples: Ok(samples) }
    }

    /// A figure that could not be measured.
    pub(crate) fn missing(name: &str, reason: String) -> Self {
        Self { name: name.to_owned(), unit: "", goal: Goal::Open, samples: Err(reason) }
    }

    /// Median, least and greatest sample.
    fn spread(samples: &[f64]) -> (f64, f64, f64) {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            1 => sorted[middle],
            _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
        };
        (median, sorted[0], sorted[sorted.len() - 1])
    }

    fn row(&self) -> [String; 7] {
        let Ok(samples) = &self.samples else {
            return [&self.name, "", "not measured", "", "", "", ""].map(str::to_owned);
        };
        let (median, min, max) = Self::spread(samples);
        let met = self.goal.is_met(median).map_or("", |met| if met { "yes" } else { "NO" });
        [
            self.name.clone(),
            self.unit.to_owned(),
            number(median),
            number(min),
            number(max),
            self.goal.describe(),
            met.to_owned(),
        ]
    }
}

/// The table for a person; what is missing is explained below it.
pub(crate) fn render(figures: &[Figure]) -> String {
    let header = ["figure", "unit", "median", "min", "max", "goal", "met"].map(str::to_owned);
    let rows: Vec<_> = [header].into_iter().chain(figures.iter().map(Figure::row)).collect();
    let widths: [usize; 7] =
        std::array::from_fn(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0));
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).enumerate().map(|(i, (cell, width))| match i {
            2..=4 => format!("{cell:>width$}"),
            _ => format!("{cell:<width$}"),
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    for figure in figures {
        if let Err(reason) = &figure.samples {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "\nnot measured: {}: {reason}", figure.name);
        }
    }
    text
}

/// The same for a program.
pub(crate) fn to_json(figures: &[Figure]) -> Value {
    let object = |figure: &Figure| match &figure.samples {
        Err(reason) => json!({ "figure": figure.name, "not_measured": reason }),
        Ok(samples) => {
            let (median, min, max) = Figure::spread(samples);
            json!({
                "figure": figure.name,
                "unit": figure.unit,
                "median": median,
                "min": min,
                "max": max,
                "goal": figure.goal.describe(),
                "met": figure.goal.is_met(median),
                "samples": samples,
            })
        }
    };
    figures.iter().map(object).collect()
}

/// Three digits that matter, without a unit.
fn number(value: f64) -> String {
    match value.abs() {
        magnitude if magnitude >= 1e4 => grouped(value.round() as i64),
        magnitude if magnitude >= 100.0 => format!("{value:.0}"),
        magnitude if magnitude >= 10.0 => format!("{value:.1}"),
        magnitude if magnitude >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn grouped(value: i64) -> String {
    let digits = value.abs().to_string();
    let mut out = if value < 0 { "-".to_owned() } else { String::new() };
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_ones() {
        assert_eq!(Figure::spread(&[4.0, 1.0, 3.0]), (3.0, 1.0, 4.0));
        assert_eq!(Figure::spread(&[4.0, 1.0, 3.0, 2.0]), (2.5, 1.0, 4.0));
    }

    #[test]
    fn a_table_says_what_is_met_and_what_is_missing() {
        let figures = [
            Figure::new("tasks", "1/s", Goal::AtLeast(200_000.0), vec![250_000.0]),
            Figure::new("round trip", "ms", Goal::AtMost(0.15), vec![0.2, 0.3]),
            Figure::missing("sort", "no disk".to_owned()),
        ];
        let expected = "\
figure      unit        median      min      max  goal        met
tasks       1/s        250,000  250,000  250,000  >= 200,000  yes
round trip  ms           0.250    0.200    0.300  <= 0.150    NO
sort              not measured

not measured: sort: no disk
";
        assert_eq!(render(&figures), expected);
    }
}
