//! Tables of text.

/// Lays out rows in columns. Cells may carry colours: `width` says how wide each is without them.
pub fn layout(rows: &[Vec<Cell>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|i| rows.iter().filter_map(|row| row.get(i)).map(|cell| cell.width).max().unwrap_or(0))
        .collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&cell.text);
            line.push_str(&" ".repeat(width - cell.width + 2));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// A cell.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    width: usize,
}

impl Cell {
    /// A cell with colours laid over its text by `paint`.
    pub fn painted(text: &str, paint: impl FnOnce(&str) -> String) -> Self {
        Self { text: paint(text), width: text.chars().count() }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::painted(text, str::to_owned)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_their_colour() {
        let rows = vec![
            vec![Cell::from("a"), Cell::painted("allow", |t| format!("\u{1b}[32m{t}\u{1b}[0m")), "x".into()],
            vec![Cell::from("long name"), "no".into(), "y".into()],
        ];
        assert_eq!(layout(&rows), "a          \u{1b}[32mallow\u{1b}[0m  x\nlong name  no     y\n");
    }
}
