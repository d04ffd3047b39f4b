//! Tables for people.

use super::spread::Spread;
use crate::shell;

/// Rows under a head, each column as wide as its widest cell.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new<const COLUMNS: usize>(head: [&str; COLUMNS]) -> Self {
        Self {
            rows: vec![head.map(str::to_owned).to_vec()],
        }
    }

    pub(super) fn row<const COLUMNS: usize>(&mut self, cells: [String; COLUMNS]) {
        self.rows.push(cells.to_vec());
    }

    pub(super) fn print(&self) {
        for line in self.lines() {
            shell::say(line);
        }
    }

    fn lines(&self) -> impl Iterator<Item = String> + '_ {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..self.rows[0].len()).map(width).collect();
        self.rows.iter().map(move |row| {
            let pad = |(cell, width): (&String, &usize)| format!("{cell:<width$}  ");
            let line: String = row.iter().zip(&widths).map(pad).collect();
            line.trim_end().to_owned()
        })
    }
}

/// A cell for what may not have been measured.
pub(super) fn cell(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or_else(|| "–".to_owned(), |spread| format!("{spread:.digits$}"))
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["a", "head"]);
        table.row(["µµµ".into(), "1".into()]);
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines, ["a    head", "µµµ  1"]);
    }
}
