//! The instructions of a Dockerfile, as its builder reads them.

use crate::config::foreign::shell;

/// One instruction, with all its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction<'a> {
    /// Its first line, from 1.
    pub line: usize,
    /// The lines as they stand there.
    pub lines: Vec<&'a str>,
    /// In capitals.
    pub keyword: String,
    /// The text behind the keyword, with its lines joined.
    pub arguments: String,
}

impl Instruction<'_> {
    /// The words of a JSON array, else those of the text.
    pub fn words(&self) -> Vec<String> {
        self.exec_form().unwrap_or_else(|| {
            let words = shell::words(&self.arguments);
            words.unwrap_or_else(|| {
                self.arguments
                    .split_whitespace()
                    .map(str::to_owned)
                    .collect()
            })
        })
    }

    /// The words, if they are a JSON array.
    pub fn exec_form(&self) -> Option<Vec<String>> {
        serde_json::from_str(self.arguments.trim()).ok()
    }
}

/// The instructions of a Dockerfile, without comments.
pub fn instructions(text: &str) -> Vec<Instruction<'_>> {
    let escape = match text.lines().next() {
        Some(line) if line.replace(' ', "").eq_ignore_ascii_case("#escape=`") => '`',
        _ => '\\',
    };
    let text = text.trim_start_matches('\u{feff}');
    let mut all: Vec<Instruction<'_>> = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let mut own = vec![line];
        let mut joined = trimmed.to_owned();
        while let Some(rest) = joined.strip_suffix(escape) {
            joined = rest.trim_end().to_owned();
            // Comments and blank lines do not end an instruction.
            let Some((_, next)) = lines.next() else { break };
            own.push(next);
            let next = next.trim();
            match next.is_empty() || next.starts_with('#') {
                true => joined.push(escape),
                false => joined = format!("{joined} {next}"),
            }
        }
        let (keyword, arguments) = joined
            .split_once(char::is_whitespace)
            .unwrap_or((&joined, ""));
        if let Some(end) = heredoc(arguments) {
            for (_, line) in lines.by_ref() {
                own.push(line);
                if line.trim() == end {
                    break;
                }
            }
        }
        all.push(Instruction {
            line: number + 1,
            lines: own,
            keyword: keyword.to_ascii_uppercase(),
            arguments: arguments.trim().to_owned(),
        });
    }
    all
}

/// The text with the defaults of `ARG` lines before the first stage in the place of `$NAME` and
/// `${NAME}`, as `FROM` has them.
pub fn with_arguments(text: &str, all: &[Instruction<'_>]) -> String {
    let before = all.iter().take_while(|one| one.keyword != "FROM");
    let mut defaults: Vec<_> = before
        .filter(|one| one.keyword == "ARG")
        .flat_map(Instruction::words)
        .filter_map(|word| {
            word.split_once('=')
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        })
        .collect();
    // `$PYTHON_VERSION` begins with `$PYTHON`.
    defaults.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    defaults
        .iter()
        .fold(text.to_owned(), |text, (name, value)| {
            let text = text.replace(&format!("${{{name}}}"), value);
            text.replace(&format!("${name}"), value)
        })
}

/// The line that ends the text behind `<<EOF`.
pub fn heredoc(line: &str) -> Option<String> {
    let (_, behind) = line.split_once("<<")?;
    let name = behind.trim_start_matches('-').trim_start();
    let name = name.trim_start_matches(['"', '\'']);
    let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let name = &name[..end.unwrap_or(name.len())];
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn instructions_span_lines_and_heredocs() {
        let text = "# syntax=docker/dockerfile:1\nfrom a\nRUN x \\\n  # comment\n\n  && y\nRUN <<EOF\ncmd 1\nFROM b\nEOF\nCMD [\"a\", \"b c\"]\n";
        let found = instructions(text);
        let short: Vec<_> = found
            .iter()
            .map(|one| (one.line, one.lines.len(), &*one.keyword, &*one.arguments))
            .collect();
        assert_eq!(
            short,
            [
                (2, 1, "FROM", "a"),
                (3, 4, "RUN", "x && y"),
                (7, 4, "RUN", "<<EOF"),
                (11, 1, "CMD", "[\"a\", \"b c\"]"),
            ]
        );
        assert_eq!(found[3].words(), ["a", "b c"]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "(\\PC|\n){0,80}|((FROM|RUN|COPY|CMD|ENTRYPOINT|\\[|\\]|\"|,|\\\\|#|<<E|E| |\n|a){0,40})") {
            for instruction in instructions(&text) {
                let _ = instruction.words();
            }
        }
    }
}
