//! Markdown as text for a terminal: paragraphs and lists are wrapped to the width, tables become
//! lists, headings and the first column of a table are bold.
//!
//! It knows the Markdown of `src/docs/` only: headings, paragraphs, lists of one level or two,
//! code that is fenced, or indented behind an empty line, tables. Markup inside a line stays, except `**`.

use std::fmt::Write as _;

/// The form of the text.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Columns.
    pub width: usize,
    /// True if escape sequences for bold may be used.
    pub bold: bool,
}

/// The text of a Markdown file.
pub fn render(source: &str, style: Style) -> String {
    let mut out = String::new();
    let mut lines = source.lines().peekable();
    let mut is_behind_gap = true;
    while let Some(line) = lines.next() {
        let is_code = is_behind_gap && line.starts_with(INDENT) && marker(line.trim()) == 0;
        is_behind_gap = line.trim().is_empty();
        if is_code {
            let _ = writeln!(out, "{}", line.trim_end());
            while let Some(code) = lines.next_if(|next| next.starts_with(INDENT)) {
                let _ = writeln!(out, "{}", code.trim_end());
            }
            // An empty line may be a part of it.
            is_behind_gap = true;
        } else if line.starts_with("```") {
            for code in lines.by_ref().take_while(|code| !code.starts_with("```")) {
                let _ = writeln!(out, "{}", format!("    {code}").trim_end());
            }
        } else if let Some(title) = line.strip_prefix('#') {
            let _ = writeln!(
                out,
                "{}",
                style.strong(title.trim_start_matches('#').trim())
            );
        } else if line.starts_with('|') {
            let mut rows = vec![cells(line)];
            while let Some(row) = lines.next_if(|row| row.starts_with('|')) {
                rows.push(cells(row));
            }
            table(&mut out, &rows, style);
        } else if line.trim().is_empty() {
            out.push('\n');
        } else {
            let mut text = line.to_owned();
            let is_item = marker(text.trim()) > 0;
            while let Some(next) = lines.next_if(|next| continues(next, is_item)) {
                text.push(' ');
                text.push_str(next.trim());
            }
            let indent = line.len() - line.trim_start().len();
            wrap(
                &mut out,
                text.trim(),
                indent,
                indent + marker(text.trim()),
                style.width,
            );
        }
    }
    out
}

/// Before each line of code that has no fence.
const INDENT: &str = "    ";

/// True if a line belongs to the paragraph or list item before it. In a paragraph a number such as
/// `500. ` is text: lists begin with 1 (CommonMark, "List items").
fn continues(line: &str, is_item: bool) -> bool {
    let text = line.trim_start();
    let is_text =
        marker(text) == 0 || (!is_item && !text.starts_with("- ") && !text.starts_with("1. "));
    !text.is_empty() && is_text && !text.starts_with(['#', '|']) && !text.starts_with("```")
}

/// Length of the mark of a list item, `- ` or `1. `, at the beginning of the line.
fn marker(text: &str) -> usize {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    match text {
        _ if text.starts_with("- ") => 2,
        _ if digits > 0 && text[digits..].starts_with(". ") => digits + 2,
        _ => 0,
    }
}

/// The cells of a row. A bar inside a cell is written `\|`.
fn cells(row: &str) -> Vec<String> {
    let row = row.trim().trim_start_matches('|');
    let row = row.strip_suffix('|').unwrap_or(row).replace("\\|", "\0");
    row.split('|')
        .map(|cell| cell.trim().replace('\0', "|"))
        .collect()
}

/// The second column below the first; further ones behind the titles of their columns.
fn table(out: &mut String, rows: &[Vec<String>], style: Style) {
    let Some((titles, rows)) = rows.split_first() else {
        return;
    };
    let is_rule = |row: &&Vec<String>| {
        row.iter()
            .all(|cell| cell.trim_matches([':', '-']).is_empty())
    };
    for row in rows.iter().filter(|row| !is_rule(row)) {
        let mut columns = row.iter().zip(titles);
        if let Some((first, _)) = columns.next() {
            let _ = writeln!(out, "  {}", style.strong(first));
        }
        for (at, (cell, title)) in columns
            .enumerate()
            .filter(|(_, (cell, _))| !cell.is_empty())
        {
            let text = match at {
                0 if titles.len() == 2 => cell.clone(),
                _ => format!("{title}: {cell}"),
            };
            wrap(out, &text, 6, 6, style.width);
        }
    }
}

/// Writes the words in lines of this width.
fn wrap(out: &mut String, text: &str, first: usize, others: usize, width: usize) {
    let mut column = first;
    let _ = write!(out, "{:first$}", "");
    let mut is_first = true;
    for word in text.replace("**", "").split_whitespace() {
        let length = word.chars().count();
        if !is_first && column + 1 + length > width {
            let _ = write!(out, "\n{:others$}", "");
            column = others;
        } else if !is_first {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
        is_first = false;
    }
    out.push('\n');
}

impl Style {
    fn strong(self, text: &str) -> String {
        match self.bold {
            true => format!("\u{1b}[1m{text}\u{1b}[0m"),
            false => text.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_block_has_its_form() {
        let check = |source: &str, expected: &str| {
            let style = Style {
                width: 20,
                bold: false,
            };
            assert_eq!(render(source, style), expected, "{source}");
        };
        check("# Title\n", "Title\n");
        check("one two three four\nfive\n", "one two three four\nfive\n");
        check("one two\nthree\n", "one two three\n");
        check(
            "- one two three four five\n  six\n- seven\n",
            "- one two three four\n  five six\n- seven\n",
        );
        check("status\n500. Then\n", "status 500. Then\n");
        check("one\n1. a\n2. b\n", "one\n1. a\n2. b\n");
        check(
            "one\n\n    x   # a long comment of a command\n    y\n\n    z\n\ntwo\n",
            "one\n\n    x   # a long comment of a command\n    y\n\n    z\n\ntwo\n",
        );
        check("1. a **b**\n2. c\n", "1. a b\n2. c\n");
        check("```sh\nx  y\n\nz\n```\nt\n", "    x  y\n\n    z\nt\n");
        check(
            "| a | b |\n|---|---|\n| `x\\|y` | one two three four |\n| z | |\n",
            "  `x|y`\n      one two three\n      four\n  z\n",
        );
        check(
            "| a | b | c |\n|---|--:|---|\n| x | y | z |\n",
            "  x\n      b: y\n      c: z\n",
        );
    }

    #[test]
    fn headings_are_bold_on_a_terminal_with_colours() {
        let style = Style {
            width: 80,
            bold: true,
        };
        assert_eq!(render("## A\n", style), "\u{1b}[1mA\u{1b}[0m\n");
    }
}
