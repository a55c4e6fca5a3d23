//! The length of each function, from its `fn` line to its closing brace.
//!
//! The lines are those that rustfmt writes: it closes a function at the indentation of its `fn` line.

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Function<'a> {
    pub name: &'a str,
    /// Number of its `fn` line.
    pub line: usize,
    /// Number of its lines.
    pub length: usize,
}

/// All functions in `text`, nested ones too.
pub fn functions(text: &str) -> Vec<Function<'_>> {
    let lines: Vec<&str> = outside_of_raw_strings(text);
    let begins = lines.iter().enumerate();
    begins
        .filter_map(|(at, line)| {
            let name = declared_name(line)?;
            let length = length(&lines[at..])?;
            let line = at + 1;
            Some(Function { name, line, length })
        })
        .collect()
}

/// The lines of `text`; those inside a raw string, which may look like code, are empty.
fn outside_of_raw_strings(text: &str) -> Vec<&str> {
    let mut end = None;
    let lines = text.lines().map(|line| {
        if let Some(mark) = end {
            if line.contains(mark) {
                end = None;
            }
            return "";
        }
        for (begin, mark) in [("r##\"", "\"##"), ("r#\"", "\"#")] {
            if let Some((before, rest)) = line.split_once(begin) {
                let is_escape = before.ends_with('\\');
                end = (!is_escape && !rest.contains(mark)).then_some(mark);
                break;
            }
        }
        line
    });
    lines.collect()
}

/// The name of the function that a line declares.
fn declared_name(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    if let Some(public) = rest.strip_prefix("pub(") {
        rest = public.split_once(") ")?.1;
    }
    loop {
        let (word, behind) = rest.split_once(' ')?;
        match word {
            "fn" => {
                let end = behind.find(['(', '<'])?;
                return Some(&behind[..end]);
            }
            "pub" | "const" | "async" | "unsafe" | "default" | "extern" => rest = behind,
            abi if abi.starts_with('"') => rest = behind,
            _ => return None,
        }
    }
}

/// The number of lines to the closing brace of the function that begins on the first line; `None` if
/// it has no body.
fn length(lines: &[&str]) -> Option<usize> {
    let first = lines[0];
    let ends = |line: &&str| line.ends_with(['{', '}', ';']);
    let signature = lines.iter().position(ends)?;
    match lines[signature].chars().next_back() {
        Some('{') => {
            let indent = first.len() - first.trim_start().len();
            let is_end = |line: &&str| line.len() == indent + 1 && line.trim_start() == "}";
            let body = lines[signature..].iter().position(is_end)?;
            Some(signature + body + 1)
        }
        Some('}') => Some(signature + 1),
        _ => None,
    }
}
