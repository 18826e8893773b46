//! Columns for people: aligned, separated by blanks, nothing else. Scripts have `--json`.

/// Where a column's cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Names.
    Left,
    /// Numbers.
    Right,
}

/// A line of a table.
#[derive(Debug)]
enum Line {
    Cells(Vec<String>),
    /// About the line before it, in no column.
    Remark(String),
}

/// Rows of cells under a row of titles.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    lines: Vec<Line>,
    gap: usize,
}

impl Table {
    /// A table with these columns and no rows.
    pub(crate) fn new(columns: Vec<(&'static str, Align)>) -> Table {
        let titles = columns.iter().map(|(title, _)| title.to_string());
        Table {
            lines: vec![Line::Cells(titles.collect())],
            columns,
            gap: 2,
        }
    }

    /// The same with one blank between columns instead of two: for many of them.
    pub(crate) fn tight(self) -> Table {
        Table { gap: 1, ..self }
    }

    /// Adds a row; cells beyond the columns are not shown.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.lines.push(Line::Cells(cells));
    }

    /// Adds a line that keeps to no column, indented under the row before it.
    pub(crate) fn remark(&mut self, text: &str) {
        self.lines.push(Line::Remark(format!("  {text}")));
    }

    /// The whole table, each row a line without trailing blanks.
    pub(crate) fn render(&self) -> String {
        let mut widths = vec![0; self.columns.len()];
        for line in &self.lines {
            if let Line::Cells(cells) = line {
                for (width, cell) in widths.iter_mut().zip(cells) {
                    *width = cell.chars().count().max(*width);
                }
            }
        }
        let gap = " ".repeat(self.gap);
        let mut text = String::new();
        for line in &self.lines {
            let shown = match line {
                Line::Remark(remark) => remark.clone(),
                Line::Cells(cells) => {
                    let cells = cells.iter().zip(&widths).zip(&self.columns);
                    let padded = cells.map(|((cell, &width), (_, align))| match align {
                        Align::Left => format!("{cell:<width$}"),
                        Align::Right => format!("{cell:>width$}"),
                    });
                    padded.collect::<Vec<_>>().join(&gap)
                }
            };
            text.push_str(shown.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_right_and_nothing_trails() {
        let mut table = Table::new(vec![("n", Align::Right), ("name", Align::Left)]);
        table.row(vec!["7".into(), "a".into()]);
        table.row(vec!["1234".into(), "größer".into()]);
        assert_eq!(table.render(), "   n  name\n   7  a\n1234  größer\n");
    }

    #[test]
    fn a_remark_widens_no_column() {
        let mut table = Table::new(vec![("a", Align::Left), ("b", Align::Left)]).tight();
        table.row(vec!["1".into(), "2".into()]);
        table.remark("longer than the row");
        assert_eq!(table.render(), "a b\n1 2\n  longer than the row\n");
    }
}
