//! Rows for a person, in columns as wide as they need to be; or an array of objects for a program.

use serde_json::Value;
use std::io::{self, Write};

/// How a column is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// A table with a heading for each column.
pub(crate) struct Table<const N: usize> {
    columns: [(&'static str, Align); N],
    rows: Vec<[String; N]>,
}

/// Prints a list: as a table, or as JSON.
pub(crate) fn print<Row, const N: usize>(
    rows: &[Row],
    json: bool,
    columns: [(&'static str, Align); N],
    cells: impl Fn(&Row) -> [String; N],
    object: impl Fn(&Row) -> Value,
) {
    let text = if json {
        format!("{:#}\n", Value::Array(rows.iter().map(object).collect()))
    } else {
        Table { columns, rows: rows.iter().map(cells).collect() }.render()
    };
    // Whoever reads it may have seen enough: `offshoot workers | head -1`.
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

// === impl Table ===

impl<const N: usize> Table<N> {
    fn render(&self) -> String {
        let headings = self.columns.map(|(heading, _)| heading.to_owned());
        let lines: Vec<&[String; N]> = std::iter::once(&headings).chain(&self.rows).collect();
        let width = |column: usize| lines.iter().map(|row| row[column].chars().count()).max();
        let widths: [usize; N] = std::array::from_fn(|column| width(column).unwrap_or(0));
        let mut text = String::new();
        for row in lines {
            let cells = (0..N).map(|column| match self.columns[column].1 {
                Align::Left => format!("{:<width$}", row[column], width = widths[column]),
                Align::Right => format!("{:>width$}", row[column], width = widths[column]),
            });
            text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let columns = [("ID", Align::Left), ("CORES", Align::Right), ("STATE", Align::Left)];
        let rows = [["worker-é", "2/16", "up"], ["w", "0", "lost"]];
        let rows = rows.map(|row| row.map(str::to_owned)).to_vec();
        let expected = "\
ID        CORES  STATE
worker-é   2/16  up
w             0  lost
";
        assert_eq!(Table { columns, rows }.render(), expected);
    }
}
