//! The words of an nginx configuration, by the rules of nginx's `ngx_conf_read_token`.
//!
//! Quotes count at the beginning of a word only, `#` begins a comment there only, and `{` behind `$`
//! belongs to the word. Beyond nginx, `{{ … }}` of template engines is one word, so that a template can
//! be explained before it is filled.

/// A token with its place in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The kind, with the word.
    pub kind: TokenKind,
    /// Its line, from 1.
    pub line: usize,
    /// Its first byte.
    pub start: usize,
    /// The byte behind its last one.
    pub end: usize,
}

/// The kind of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenKind {
    /// A name or an argument.
    Word(Word),
    /// `{`
    Open,
    /// `}`
    Close,
    /// `;`
    End,
}

/// A name or an argument without quotes and escapes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Word {
    /// The characters.
    pub text: String,
    /// True if it stood in quotes.
    pub quoted: bool,
}

/// A fault in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Its line, from 1.
    pub line: usize,
    /// The first byte of what is wrong.
    pub start: usize,
    /// The fault.
    pub problem: String,
}

/// Longest word; nginx's limit is its buffer of 4096 bytes.
const LONGEST_WORD: usize = 4096;

/// Reads one token after another.
pub struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl<'a> Lexer<'a> {
    /// A lexer at the beginning of `text`, behind its byte order mark.
    pub fn new(text: &'a str) -> Self {
        let at = if text.starts_with('\u{feff}') { 3 } else { 0 };
        Self { text, at, line: 1 }
    }

    /// The next token; `None` at the end.
    ///
    /// # Errors
    /// The first fault.
    pub fn next(&mut self) -> Result<Option<Token>, Fault> {
        self.skip_blanks();
        let (line, start) = (self.line, self.at);
        let Some(char) = self.peek() else {
            return Ok(None);
        };
        let kind = match char {
            ';' => self.single(TokenKind::End),
            '{' if !self.rest().starts_with("{{") => self.single(TokenKind::Open),
            '}' => self.single(TokenKind::Close),
            '"' | '\'' => TokenKind::Word(self.quoted(char)?),
            _ => TokenKind::Word(self.plain()?),
        };
        Ok(Some(Token {
            kind,
            line,
            start,
            end: self.at,
        }))
    }

    /// Skips the inside of a block of another language, such as Lua, whose `{` has been read, and the
    /// `}` behind it. Braces in strings and comments of Lua do not count.
    ///
    /// # Errors
    /// If the block does not end.
    pub fn skip_foreign_block(&mut self) -> Result<(), Fault> {
        let (line, start) = (self.line, self.at);
        let mut depth = 1;
        while let Some(char) = self.bump() {
            match char {
                '{' => depth += 1,
                '}' if depth == 1 => return Ok(()),
                '}' => depth -= 1,
                '-' if self.rest().starts_with('-') => {
                    while self.peek().is_some_and(|next| next != '\n') {
                        self.bump();
                    }
                }
                '"' | '\'' => self.skip_foreign_string(char),
                _ => {}
            }
        }
        let problem = "the block is not closed".to_owned();
        Err(Fault {
            line,
            start,
            problem,
        })
    }

    fn skip_foreign_string(&mut self, quote: char) {
        while let Some(char) = self.bump() {
            match char {
                '\\' => {
                    self.bump();
                }
                // A string of Lua ends on its line.
                '\n' => return,
                char if char == quote => return,
                _ => {}
            }
        }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let char = self.peek()?;
        self.at += char.len_utf8();
        self.line += usize::from(char == '\n');
        Some(char)
    }

    fn single(&mut self, kind: TokenKind) -> TokenKind {
        self.bump();
        kind
    }

    fn skip_blanks(&mut self) {
        while let Some(char) = self.peek() {
            match char {
                ' ' | '\t' | '\r' | '\n' => {
                    self.bump();
                }
                '#' => {
                    while self.peek().is_some_and(|next| next != '\n') {
                        self.bump();
                    }
                }
                _ => return,
            }
        }
    }

    fn fault<T>(&self, line: usize, start: usize, problem: &str) -> Result<T, Fault> {
        Err(Fault {
            line,
            start,
            problem: problem.to_owned(),
        })
    }

    fn quoted(&mut self, quote: char) -> Result<Word, Fault> {
        let (line, start) = (self.line, self.at);
        self.bump();
        let mut text = String::new();
        loop {
            match self.bump() {
                None => return self.fault(line, start, "the quote is not closed"),
                Some('\\') => self.escape(&mut text),
                Some(char) if char == quote => break,
                Some(char) => text.push(char),
            }
            if text.len() > LONGEST_WORD {
                return self.fault(
                    line,
                    start,
                    "the parameter is too long, a quote may be missing",
                );
            }
        }
        match self.peek() {
            None | Some(' ' | '\t' | '\r' | '\n' | ';' | '{' | ')') => {}
            Some(next) => {
                let problem = format!("unexpected {next:?} behind a closing quote");
                return self.fault(self.line, self.at, &problem);
            }
        }
        Ok(Word { text, quoted: true })
    }

    fn plain(&mut self) -> Result<Word, Fault> {
        let (line, start) = (self.line, self.at);
        let mut text = String::new();
        let mut behind_dollar = false;
        while let Some(char) = self.peek() {
            let was_behind_dollar = std::mem::replace(&mut behind_dollar, char == '$');
            match char {
                ' ' | '\t' | '\r' | '\n' | ';' => break,
                '{' if self.rest().starts_with("{{") => self.placeholder(&mut text),
                '{' if !was_behind_dollar => break,
                '\\' => {
                    self.bump();
                    self.escape(&mut text);
                }
                _ => {
                    self.bump();
                    text.push(char);
                }
            }
            if text.len() > LONGEST_WORD {
                return self.fault(line, start, "the parameter is too long");
            }
        }
        Ok(Word {
            text,
            quoted: false,
        })
    }

    /// `{{ name }}` on one line, or else the two braces.
    fn placeholder(&mut self, text: &mut String) {
        let rest = self.rest();
        let end = rest.find("}}").filter(|end| !rest[..*end].contains('\n'));
        let length = end.map_or(2, |end| end + 2);
        text.push_str(&rest[..length]);
        self.at += length;
    }

    /// The character behind a backslash, as nginx copies it.
    fn escape(&mut self, text: &mut String) {
        match self.bump() {
            Some('t') => text.push('\t'),
            Some('r') => text.push('\r'),
            Some('n') => text.push('\n'),
            Some(char @ ('"' | '\'' | '\\')) => text.push(char),
            Some(char) => {
                text.push('\\');
                text.push(char);
            }
            None => text.push('\\'),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> Result<Vec<String>, String> {
        let mut lexer = Lexer::new(text);
        let mut words = Vec::new();
        while let Some(token) = lexer.next().map_err(|fault| fault.problem)? {
            words.push(match token.kind {
                TokenKind::Word(word) if word.quoted => format!("<{}>", word.text),
                TokenKind::Word(word) => word.text,
                TokenKind::Open => "{".to_owned(),
                TokenKind::Close => "}".to_owned(),
                TokenKind::End => ";".to_owned(),
            });
        }
        Ok(words)
    }

    #[test]
    fn words_are_split_as_nginx_splits_them() {
        let check = |text: &str, expected: &[&str]| {
            let expected = expected.iter().map(|word| (*word).to_owned());
            assert_eq!(words(text), Ok(expected.collect()), "{text}");
        };
        check("listen 80;", &["listen", "80", ";"]);
        check("\u{feff}a\r\n b;\r\n", &["a", "b", ";"]);
        check("a# b;", &["a#", "b", ";"]);
        check("a # b;\nc;", &["a", "c", ";"]);
        check("a b\"c;", &["a", "b\"c", ";"]);
        check(r#"a "b c" 'd "e"';"#, &["a", "<b c>", "<d \"e\">", ";"]);
        check(r#"a "b \"c\" \$";"#, &["a", "<b \"c\" \\$>", ";"]);
        check(r"~ \.(jpg|png)$ {", &["~", r"\.(jpg|png)$", "{"]);
        check("set $a ${b}c;", &["set", "$a", "${b}c", ";"]);
        check("server{a b;}", &["server", "{", "a", "b", ";", "}"]);
        check("listen 80}", &["listen", "80}"]);
        check("listen {{ port }};", &["listen", "{{ port }}", ";"]);
        check("a x{{ b }}y;", &["a", "x{{ b }}y", ";"]);
    }

    #[test]
    fn faults_of_quotes_are_found_with_their_line() {
        let check = |text: &str, line: usize| {
            let mut lexer = Lexer::new(text);
            let fault = loop {
                match lexer.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("{text}: no fault"),
                    Err(fault) => break fault,
                }
            };
            assert_eq!(fault.line, line, "{text}");
        };
        check("a;\nb \"c;\n", 2);
        check("a \"b\"c;", 1);
        check(&format!("a \"{}", "x".repeat(5000)), 1);
    }

    #[test]
    fn a_block_of_lua_is_skipped_with_its_braces() {
        let mut lexer = Lexer::new("{ local a = {1} -- }\n s = \"}\" } b;");
        lexer.next().unwrap();
        lexer.skip_foreign_block().unwrap();
        let next = lexer.next().unwrap().unwrap();
        assert_eq!((next.line, next.start), (2, 32));
    }

    proptest! {
        #[test]
        fn any_text_is_read_to_its_end(text in "(\\PC|[\"'{};#$\\\\ \n]){0,80}") {
            let mut lexer = Lexer::new(&text);
            let mut last = 0;
            while let Ok(Some(token)) = lexer.next() {
                prop_assert!(token.start >= last && token.end > token.start);
                prop_assert!(text.get(token.start..token.end).is_some());
                last = token.end;
            }
        }
    }
}
