//! The directives of a configuration as one list, in the order in which nginx reads them.
//!
//! `include` is followed here, so the rest of the reader never sees a file. A fault ends the reading,
//! as in nginx; what was read before it stays.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::glob;
use super::lexer::{Fault, Lexer, Token, TokenKind, Word};
use crate::config::native;

/// Functions that look at files.
pub struct Disk<'a> {
    /// The content of a file.
    pub read: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>,
    /// The names in a directory; none if there is no such directory.
    pub list: &'a dyn Fn(&Path) -> Vec<PathBuf>,
}

/// One directive, or one entry of a block such as `map`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// Its first word.
    pub name: String,
    /// The words behind it.
    pub args: Vec<Word>,
    /// The file as it was named.
    pub source: Arc<str>,
    /// Its first line, from 1.
    pub line: usize,
    /// Its text, without a block.
    pub text: String,
    /// The block that it stands in.
    pub parent: Option<usize>,
    /// True if it has a block.
    pub is_block: bool,
    /// True if its block is of another language.
    pub is_foreign: bool,
    /// The fate of an `include`.
    pub include: Option<Include>,
}

/// The fate of an `include`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Include {
    /// So many files were read.
    Read(usize),
    /// A file that every installation of nginx has, whose content is known.
    Standard,
    /// There is no such file.
    Missing,
    /// It cannot be read, for this reason.
    Failed(String),
}

/// A fault with its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeFault {
    /// The file as it was named.
    pub source: Arc<str>,
    /// The line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// The line as it stands there.
    pub text: String,
    /// The fault.
    pub problem: String,
}

/// All directives.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// In order; a directive stands behind its block's.
    pub items: Vec<Directive>,
    /// The fault that ended the reading.
    pub fault: Option<TreeFault>,
    /// The directives of each block, behind those outside of all.
    index: Vec<Vec<usize>>,
}

impl Directive {
    /// The argument at `at`, or nothing.
    pub fn arg(&self, at: usize) -> &str {
        self.args.get(at).map_or("", |word| word.text.as_str())
    }

    /// The arguments as text.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.args.iter().map(|word| word.text.as_str())
    }
}

impl Tree {
    /// The directives of a block, or outside of all.
    pub fn children(&self, of: Option<usize>) -> impl DoubleEndedIterator<Item = usize> + '_ {
        let at = of.map_or(0, |at| at + 1);
        self.index.get(at).into_iter().flatten().copied()
    }

    /// The directives of this name in a block.
    pub fn named<'a>(
        &'a self,
        of: Option<usize>,
        name: &'a str,
    ) -> impl DoubleEndedIterator<Item = usize> + 'a {
        self.children(of)
            .filter(move |at| self.items[*at].name == name)
    }
}

/// Deepest nesting of files and blocks.
const DEEPEST: usize = 32;
/// Most directives of all files.
const MOST_DIRECTIVES: usize = 10_000;
/// Longest file.
const LONGEST_FILE: usize = 1 << 20;
/// Files that Debian's and nginx's own packages have, and whose meaning is built in.
const STANDARD: &[&str] = &[
    "mime.types",
    "uwsgi_params",
    "proxy_params",
    "fastcgi_params",
    "fastcgi.conf",
    "scgi_params",
];

/// Reads the file and all that it includes.
pub fn read(name: &str, path: &Path, disk: &Disk<'_>) -> Tree {
    let mut bases: Vec<PathBuf> = path.parent().map(Path::to_owned).into_iter().collect();
    let of_site = [
        "conf.d",
        "sites-enabled",
        "sites-available",
        "templates",
        "http.d",
    ];
    if let Some(dir) = bases.first().cloned()
        && dir
            .file_name()
            .is_some_and(|name| of_site.iter().any(|known| name == *known))
    {
        // nginx's own base is the directory of the main file.
        bases.extend(dir.parent().map(Path::to_owned));
    }
    let mut reader = Reader {
        disk,
        bases,
        tree: Tree::default(),
        open: BTreeSet::new(),
    };
    let _stopped = reader.file(name, path, None, 0);
    let mut tree = reader.tree;
    tree.index = vec![Vec::new(); tree.items.len() + 1];
    for (at, item) in tree.items.iter().enumerate() {
        tree.index[item.parent.map_or(0, |parent| parent + 1)].push(at);
    }
    tree.parameters_of_uwsgi();
    tree
}

impl Tree {
    /// Takes a missing file beside `uwsgi_pass` for nginx's own, if its name says so: `uwsgi.params`.
    fn parameters_of_uwsgi(&mut self) {
        let is_own = |at: &usize| {
            let item = &self.items[*at];
            let base = item.arg(0).rsplit('/').next().unwrap_or_default();
            let is_named = base.starts_with("uwsgi") && base.contains("param");
            matches!(item.include, Some(Include::Missing))
                && is_named
                && self.named(item.parent, "uwsgi_pass").next().is_some()
        };
        let found: Vec<_> = (0..self.items.len()).filter(is_own).collect();
        for at in found {
            self.items[at].include = Some(Include::Standard);
        }
    }
}

struct Reader<'a> {
    disk: &'a Disk<'a>,
    bases: Vec<PathBuf>,
    tree: Tree,
    /// Files being read, by which a cycle is found.
    open: BTreeSet<PathBuf>,
}

/// The fault is in the tree.
struct Stopped;

impl Reader<'_> {
    fn file(
        &mut self,
        name: &str,
        path: &Path,
        parent: Option<usize>,
        depth: usize,
    ) -> Result<(), Stopped> {
        let source: Arc<str> = name.into();
        let bytes = (self.disk.read)(path);
        let problem = match &bytes {
            Err(error) => Some(error.to_string()),
            Ok(bytes) if bytes.len() > LONGEST_FILE => {
                Some(format!("longer than {LONGEST_FILE} bytes"))
            }
            Ok(_) if depth > DEEPEST => Some("files include each other too deeply".to_owned()),
            Ok(_) if !self.open.insert(path.to_owned()) => {
                Some("the file includes itself".to_owned())
            }
            Ok(_) => None,
        };
        if let Some(problem) = problem {
            return self.stop(&source, 0, name, problem);
        }
        use std::os::unix::ffi::OsStrExt;
        let bytes = bytes.unwrap_or_default();
        let text = native::text(std::ffi::OsStr::from_bytes(&bytes));
        let read = self.text(&source, &text, parent, depth);
        self.open.remove(path);
        read
    }

    fn stop<T>(
        &mut self,
        source: &Arc<str>,
        line: usize,
        text: &str,
        problem: String,
    ) -> Result<T, Stopped> {
        self.tree.fault.get_or_insert(TreeFault {
            source: Arc::clone(source),
            line,
            text: text.to_owned(),
            problem,
        });
        Err(Stopped)
    }

    fn fault<T>(&mut self, source: &Arc<str>, text: &str, fault: Fault) -> Result<T, Stopped> {
        let shown = line_at(text, fault.start);
        self.stop(source, fault.line, &shown, fault.problem)
    }

    fn text(
        &mut self,
        source: &Arc<str>,
        text: &str,
        parent: Option<usize>,
        depth: usize,
    ) -> Result<(), Stopped> {
        let mut lexer = Lexer::new(text);
        let mut blocks = vec![parent];
        let mut words: Vec<(Word, Token)> = Vec::new();
        loop {
            let token = match lexer.next() {
                Ok(token) => token,
                Err(fault) => return self.fault(source, text, fault),
            };
            let Some(token) = token else { break };
            let wrong = |problem: &str| Fault {
                line: token.line,
                start: token.start,
                problem: problem.to_owned(),
            };
            match &token.kind {
                TokenKind::Word(word) => words.push((word.clone(), token.clone())),
                TokenKind::End if words.is_empty() => {
                    return self.fault(source, text, wrong("unexpected \";\""));
                }
                TokenKind::End => {
                    let block = blocks.last().copied().flatten();
                    let at = self.push(source, text, &mut words, token.start, block)?;
                    if self.tree.items[at].name == "include" {
                        self.include(at, depth)?;
                    }
                }
                TokenKind::Open if words.is_empty() => {
                    return self.fault(source, text, wrong("unexpected \"{\""));
                }
                TokenKind::Open => {
                    let block = blocks.last().copied().flatten();
                    let at = self.push(source, text, &mut words, token.start, block)?;
                    self.tree.items[at].is_block = true;
                    if self.tree.items[at].name.ends_with("_by_lua_block") {
                        self.tree.items[at].is_foreign = true;
                        if let Err(fault) = lexer.skip_foreign_block() {
                            return self.fault(source, text, fault);
                        }
                        continue;
                    }
                    if blocks.len() > DEEPEST {
                        return self.fault(source, text, wrong("blocks are nested too deeply"));
                    }
                    blocks.push(Some(at));
                }
                TokenKind::Close if !words.is_empty() => {
                    return self.fault(
                        source,
                        text,
                        wrong("unexpected \"}\", a \";\" may be missing before it"),
                    );
                }
                TokenKind::Close if blocks.len() == 1 => {
                    return self.fault(source, text, wrong("unexpected \"}\""));
                }
                TokenKind::Close => {
                    blocks.pop();
                }
            }
        }
        match unfinished(text, words.first().map(|(_, token)| token), blocks.len()) {
            Some(fault) => self.fault(source, text, fault),
            None => Ok(()),
        }
    }

    fn push(
        &mut self,
        source: &Arc<str>,
        text: &str,
        words: &mut Vec<(Word, Token)>,
        end: usize,
        parent: Option<usize>,
    ) -> Result<usize, Stopped> {
        let mut words = std::mem::take(words).into_iter();
        let Some((name, first)) = words.next() else {
            return Err(Stopped);
        };
        // Without comments between the words.
        let texts = words
            .as_slice()
            .iter()
            .map(|(_, token)| text.get(token.start..token.end));
        let texts = std::iter::once(text.get(first.start..first.end)).chain(texts);
        let shown = texts
            .flatten()
            .flat_map(str::split_whitespace)
            .collect::<Vec<_>>()
            .join(" ");
        let slice = text.get(first.start..end).unwrap_or_default();
        if self.tree.items.len() >= MOST_DIRECTIVES {
            let problem = format!("more than {MOST_DIRECTIVES} directives");
            return self.stop(source, first.line, slice, problem);
        }
        self.tree.items.push(Directive {
            name: name.text,
            args: words.map(|(word, _)| word).collect(),
            source: Arc::clone(source),
            line: first.line,
            text: shown,
            parent,
            is_block: false,
            is_foreign: false,
            include: None,
        });
        Ok(self.tree.items.len() - 1)
    }

    fn include(&mut self, at: usize, depth: usize) -> Result<(), Stopped> {
        let pattern = self.tree.items[at].arg(0).to_owned();
        let parent = self.tree.items[at].parent;
        let base_name = pattern.rsplit('/').next().unwrap_or_default();
        if STANDARD.contains(&base_name) {
            self.tree.items[at].include = Some(Include::Standard);
            return Ok(());
        }
        let is_pattern = pattern.contains(['*', '?', '[']);
        let native = native::path(&pattern);
        let bases = self.bases.clone();
        let mut found: Vec<(String, PathBuf)> = Vec::new();
        for base in &bases {
            let full = base.join(&native);
            if is_pattern {
                let files = glob::files(&full, self.disk.list);
                found = files
                    .into_iter()
                    .map(|path| (shown(&path, base, &native), path))
                    .collect();
            } else {
                match (self.disk.read)(&full) {
                    Ok(_) => found.push((pattern.clone(), full)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => {
                        self.tree.items[at].include = Some(Include::Failed(error.to_string()));
                        return Ok(());
                    }
                }
            }
            if !found.is_empty() {
                break;
            }
        }
        self.tree.items[at].include = Some(match found.len() {
            0 if !is_pattern => Include::Missing,
            number => Include::Read(number),
        });
        for (name, path) in found {
            self.file(&name, &path, parent, depth + 1)?;
        }
        Ok(())
    }
}

/// The fault of a text that ends behind a first word, or in a block.
fn unfinished(text: &str, word: Option<&Token>, blocks: usize) -> Option<Fault> {
    let problem = match (word, blocks) {
        (None, 1) => return None,
        (Some(_), _) => "the file ends where \";\" or \"}\" is expected",
        (None, _) => "the file ends where \"}\" is expected",
    };
    let end = (text.lines().count().max(1), text.trim_end().len());
    let (line, start) = word.map_or(end, |word| (word.line, word.start));
    Some(Fault {
        line,
        start,
        problem: problem.to_owned(),
    })
}

/// The name of an included file for people: relative if the pattern was.
fn shown(path: &Path, base: &Path, pattern: &Path) -> String {
    let relative = path
        .strip_prefix(base)
        .ok()
        .filter(|_| pattern.is_relative());
    native::text(relative.unwrap_or(path).as_os_str())
}

/// The line of `text` around a byte.
fn line_at(text: &str, at: usize) -> String {
    let at = (0..=at.min(text.len()))
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0);
    let start = text[..at].rfind('\n').map_or(0, |at| at + 1);
    let line = text[start..].lines().next().unwrap_or_default().trim();
    line.chars().take(200).collect()
}

#[cfg(test)]
mod tests;
