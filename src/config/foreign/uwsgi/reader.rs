//! All options that files, variables and a command line give, in the order in which uWSGI has them.
//!
//! 1. `UWSGI_*` variables, then the command line; a file is read where its option stands.
//! 2. Conditions and loops decide at once which options count.
//! 3. Three passes replace `$(NAME)`, `@(file)` and `%(option)`.
//!
//! Every line ends as an [`Item`], or with a [`Verdict`] of its own. Sizes are bounded: files,
//! includes, items, and values.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use super::expand;
use super::forms::{self, Form, Parsed};
use super::magic::{self, Magic};
use super::numbers::atoi;
use super::options::{self, Argument};
use crate::config::foreign::{Line, Place, Surroundings, Verdict, secrets};
use crate::config::{native, suggest};

/// An option with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its name.
    pub key: String,
    /// Its value; `None` for an option of the command line without one.
    pub value: Option<String>,
    /// Its file and line.
    pub place: Place,
    /// The line without secrets.
    pub text: String,
    /// True if uWSGI obeys it as soon as it has read it, before the passes.
    pub is_immediate: bool,
    /// True for `name=value` of `set-placeholder`.
    pub is_placeholder: bool,
    /// True if `%(key)` or a condition asked for it.
    pub is_used: bool,
    /// True if its value could not be completed.
    pub is_failed: bool,
}

/// Everything that was read.
#[derive(Debug, Default)]
pub struct Options {
    /// The options, in order.
    pub items: Vec<Item>,
    /// Lines that are no options.
    pub lines: Vec<Line>,
    /// Lines that nothing reads, unless another line includes them.
    pub unread: Vec<Line>,
    /// Values that came from a place of secrets.
    pub secrets: Vec<String>,
}

impl Options {
    /// The first value of this name, which is that of `%(name)`.
    fn first(&self, name: &str) -> Option<String> {
        let item = self.items.iter().find(|item| item.key == name)?;
        item.value.clone()
    }
}

/// Longest file.
const LONGEST_FILE: usize = 1 << 20;
/// Most bytes of all files together.
const ALL_FILES: usize = 8 << 20;
/// Most files, one that is read again included.
const MOST_FILES: usize = 200;
/// Most misspelt names for which the likely one is searched.
const MOST_HINTS: usize = 20;
/// Deepest includes.
const DEEPEST: usize = 16;
/// Most options.
const MOST_ITEMS: usize = 2000;

/// A condition or loop that is open.
#[derive(Debug, Clone)]
struct Logic {
    name: String,
    argument: String,
}

/// Reads sources one after the other.
pub struct Reader<'a> {
    around: &'a Surroundings<'a>,
    magic: Magic,
    options: Options,
    logic: Option<Logic>,
    /// True while an option of a condition or loop is added.
    is_in_logic: bool,
    is_strict: bool,
    depth: usize,
    files: usize,
    bytes: usize,
    /// The file of `ini = :section`.
    last_file: String,
}

/// Options that name files of logs, which go to standard output and standard error here.
const LOG_FILES: &[&str] = &[
    "logto",
    "logto2",
    "daemonize",
    "daemonize2",
    "logger",
    "req-logger",
];

impl<'a> Reader<'a> {
    /// A reader that has read nothing.
    pub fn new(around: &'a Surroundings<'a>) -> Self {
        Self {
            around,
            magic: Magic::new(around),
            options: Options::default(),
            logic: None,
            is_in_logic: false,
            is_strict: false,
            depth: 0,
            files: 0,
            bytes: 0,
            last_file: String::new(),
        }
    }

    /// The variables `UWSGI_*`: `UWSGI_FOO_BAR=x` is the option `foo-bar`.
    pub fn variables(&mut self) {
        for (name, value) in self.around.environment.all() {
            let Some(rest) = name.strip_prefix("UWSGI_") else {
                continue;
            };
            if OWN_VARIABLES.contains(&rest) {
                continue;
            }
            let key = rest.to_ascii_lowercase().replace('_', "-");
            let place = Place {
                source: name.clone().into(),
                line: 0,
            };
            let text = format!("{name}={}", secrets::value(&name, &value));
            self.add(&key, Some(&value), &place, &text);
        }
    }

    /// A command line without the name of the program.
    pub fn command_line(&mut self, words: &[String]) {
        let place = Place {
            source: "command line".into(),
            line: 0,
        };
        let mut files = Vec::new();
        let words: Vec<_> = words
            .iter()
            .map(|word| self.with_hyphens(word, &place))
            .collect();
        let mut words = words.iter().peekable();
        while let Some(word) = words.next() {
            if word == "--" {
                files.extend(words.by_ref().cloned());
            } else if let Some(long) = word.strip_prefix("--") {
                let (name, value) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (long, None),
                };
                let option = options::begun(name);
                let name = option.map_or(name, |option| option.name);
                let argument = option.map_or(Argument::None, |option| option.argument);
                let value = match argument {
                    Argument::Required => value.or_else(|| words.next().cloned()),
                    _ => value,
                };
                self.flag(name, argument, value, &place);
            } else if word.len() > 1 && word.starts_with('-') {
                self.short_flags(&word[1..], &mut words, &place);
            } else {
                files.push(word.clone());
            }
        }
        for file in files.iter().filter(|file| !file.starts_with('[')) {
            self.stray(file, &place);
        }
    }

    /// The word with hyphens where a word processor has put a dash.
    fn with_hyphens(&mut self, word: &str, place: &Place) -> String {
        let is_there = || self.around.kind(word).is_some();
        let Some(plain) = options::with_hyphens(word).filter(|_| !is_there()) else {
            return word.to_owned();
        };
        let shown = word.split('=').next().unwrap_or(word);
        let text = "with hyphens in the place of the dash, as an option";
        self.line(place, shown, Verdict::Read(text.to_owned()));
        plain
    }

    /// `-Mp 4`.
    fn short_flags<'w>(
        &mut self,
        letters: &str,
        words: &mut impl Iterator<Item = &'w String>,
        place: &Place,
    ) {
        for (at, letter) in letters.char_indices() {
            let Some(option) = options::short(letter) else {
                let message = "uWSGI has no such option".to_owned();
                self.line(place, &format!("-{letter}"), Verdict::Wrong(message));
                return;
            };
            let rest = &letters[at + letter.len_utf8()..];
            let value = match option.argument {
                Argument::None => None,
                _ if !rest.is_empty() => Some(rest.to_owned()),
                Argument::Optional => None,
                Argument::Required => words.next().cloned(),
            };
            let takes_rest = option.argument != Argument::None;
            self.flag(option.name, option.argument, value, place);
            if takes_rest {
                return;
            }
        }
    }

    fn flag(&mut self, name: &str, argument: Argument, value: Option<String>, place: &Place) {
        let shown = value.as_deref().map(|value| secrets::value(name, value));
        let text = match &shown {
            Some(value) => format!("--{name} {value}"),
            None => format!("--{name}"),
        };
        match (argument, &value) {
            // getopt_long refuses what it does not know, as it is no ini file.
            _ if options::named(name).is_none() => {
                let hint = options::meant(name).map(|meant| format!(", did you mean --{meant}?"));
                let message = format!("uWSGI has no such option{}", hint.unwrap_or_default());
                self.line(place, &text, Verdict::Wrong(message));
            }
            (Argument::Required, None) => {
                let message = "it needs a value".to_owned();
                self.line(place, &text, Verdict::Wrong(message));
            }
            (Argument::None, Some(_)) => {
                let message = "it takes no value on a command line".to_owned();
                self.line(place, &text, Verdict::Wrong(message));
            }
            _ => self.add(name, value.as_deref(), place, &text),
        }
    }

    /// A word that is no option: a file with options, or the application.
    fn stray(&mut self, word: &str, place: &Place) {
        let name = word.split(':').next().unwrap_or(word);
        if suggest::begins_with_dash(word) && self.around.kind(word).is_none() {
            let message = "it begins with a dash, not with the hyphens of an option (write --)";
            self.line(place, word, Verdict::Wrong(message.to_owned()));
        } else if let Some(form) = Form::of_name(name) {
            self.load(word, form, true, place, word);
        } else if word.ends_with(".py") || word.ends_with(".wsgi") {
            self.add("wsgi-file", Some(word), place, word);
        } else if word.contains(':') {
            self.add("module", Some(word), place, word);
        } else {
            let message = "it is neither an option nor a file with options".to_owned();
            self.line(place, word, Verdict::Wrong(message));
        }
    }

    /// Reads the file `name`, which may have `:section` behind it.
    pub fn file(&mut self, name: &str, form: Form) {
        let place = Place {
            source: name.into(),
            line: 0,
        };
        self.load(name, form, false, &place, name);
    }

    /// Replaces what stands in values, and returns everything.
    pub fn finish(mut self) -> Options {
        if let Some(logic) = self.logic.take() {
            // It holds to the end, in uWSGI too.
            let text = format!("{} = {}", logic.name, logic.argument);
            let is_in_text = |item: &&Item| item.key == logic.name;
            if let Some(item) = self.options.items.iter().rfind(is_in_text) {
                let place = item.place.clone();
                let message = "it has no end, so it holds for all lines behind it".to_owned();
                self.line(&place, &text, Verdict::Noted(message));
            }
        }
        self.pass(b'$');
        self.pass(b'@');
        self.pass(b'%');
        self.options.items.retain(|item| !item.is_failed);
        self.inherited();
        self.options
    }

    fn line(&mut self, place: &Place, text: &str, verdict: Verdict) {
        if self.options.lines.len() < MOST_ITEMS {
            self.options.lines.push(Line {
                place: place.clone(),
                text: text.to_owned(),
                verdict,
            });
        }
    }

    fn unread(&mut self, place: &Place, text: &str, reason: String) {
        if self.options.unread.len() < MOST_ITEMS {
            self.options.unread.push(Line {
                place: place.clone(),
                text: text.to_owned(),
                verdict: Verdict::NoEffect(reason),
            });
        }
    }

    fn load(&mut self, name: &str, form: Form, included: bool, place: &Place, text: &str) {
        if let Err(message) = self.try_load(name, form, included) {
            self.line(place, text, Verdict::Wrong(message));
        }
    }

    fn try_load(&mut self, name: &str, form: Form, included: bool) -> Result<(), String> {
        if self.depth >= DEEPEST {
            return Err("files include each other too deeply".to_owned());
        }
        self.files += 1;
        if self.files > MOST_FILES {
            return Err("too many files are included".to_owned());
        }
        if name.contains("://") || name == "-" {
            return Err("only files are read, no other sources".to_owned());
        }
        self.magic.enter(name, included, self.around);
        let (path, section) = match name.rsplit_once(':') {
            Some((path, section)) => (path, Some(section).filter(|section| !section.is_empty())),
            None => (name, None),
        };
        let path = match path.is_empty() {
            true => self.last_file.clone(),
            false => path.to_owned(),
        };
        if form == Form::Ini {
            self.last_file.clone_from(&path);
        }
        let bytes = self.read(&path)?;
        let plain = native::text(OsStr::from_bytes(&bytes));
        let content = self.magic.apply(&plain, LONGEST_FILE)?;
        let parsed = forms::parse(form, &content, section);
        self.depth += 1;
        self.entries(&path, section, parsed, &plain, form);
        self.depth -= 1;
        Ok(())
    }

    fn read(&mut self, path: &str) -> Result<Vec<u8>, String> {
        let absolute = self.around.current_dir.join(native::path(path));
        let bytes = (self.around.files.read)(&absolute, LONGEST_FILE)
            .map_err(|error| format!("cannot read {path}: {error}"))?;
        self.bytes += bytes.len();
        match self.bytes > ALL_FILES {
            true => Err("the files are too long together".to_owned()),
            false => Ok(bytes),
        }
    }

    fn entries(
        &mut self,
        path: &str,
        section: Option<&str>,
        parsed: Parsed,
        plain: &str,
        form: Form,
    ) {
        // Lines as they stand in the file, where each has one option.
        let lines: Vec<_> = match form {
            Form::Ini | Form::Yaml => plain.split('\n').collect(),
            Form::Json | Form::Xml => Vec::new(),
        };
        let source: Arc<str> = Arc::from(path);
        let at = |line| Place {
            source: Arc::clone(&source),
            line,
        };
        for (line, text, reason) in &parsed.unread {
            // Another section of the same file may have been read, or will be.
            self.unread(&at(*line), &secrets::masked(text), reason.clone());
        }
        if let Some((line, message)) = parsed.error {
            let text = plain
                .lines()
                .nth(line.saturating_sub(1))
                .unwrap_or_default();
            let text = secrets::masked(text.trim());
            self.line(&at(line), &text, Verdict::Wrong(message));
        } else if !parsed.is_found {
            let section = section.unwrap_or("uwsgi");
            let message =
                format!("there is no section [{section}], uWSGI reads nothing of the file");
            self.line(&at(0), path, Verdict::Wrong(message));
        }
        for entry in parsed.entries {
            let original = lines.get(entry.line.saturating_sub(1));
            let text = match original.map(|line| line.trim()) {
                Some(line) if !secrets::is_secret(&entry.key) => secrets::masked(line),
                _ if entry.value.is_empty() => entry.key.clone(),
                _ => {
                    let value = secrets::value(&entry.key, &entry.value);
                    format!("{} = {value}", entry.key)
                }
            };
            if original.is_some_and(|line| magic::names_program(line)) {
                let advice = "%b is the file of uWSGI's own program: write the path that is meant";
                self.line(
                    &at(entry.line),
                    &text,
                    Verdict::Unsupported(advice.to_owned()),
                );
                continue;
            }
            self.add(&entry.key, Some(&entry.value), &at(entry.line), &text);
        }
    }

    /// Adds an option, as the condition or loop that is open wants it.
    fn add(&mut self, key: &str, value: Option<&str>, place: &Place, text: &str) {
        if self.options.items.len() >= MOST_ITEMS {
            if self.options.items.len() == MOST_ITEMS {
                let message = "there are too many options".to_owned();
                self.line(place, text, Verdict::Wrong(message));
                self.push(key, None, place, text);
            }
            return;
        }
        if self.is_in_logic {
            return self.push_and_obey(key, value, place, text);
        }
        if matches!(key, "end" | "endfor" | "endif" | "end-if" | "end-for") {
            self.logic = None;
        }
        match self.logic.clone() {
            None => self.push_and_obey(key, value, place, text),
            Some(logic) => {
                self.is_in_logic = true;
                let values = self.values_in(&logic, value.unwrap_or_default());
                match values {
                    Ok(values) => {
                        for value in values {
                            self.push_and_obey(key, Some(&value), place, text);
                        }
                    }
                    Err(Verdict::NoEffect(reason)) => self.unread(place, text, reason),
                    Err(verdict) => self.line(place, text, verdict),
                }
                self.is_in_logic = false;
            }
        }
    }

    /// The values that an option in a condition or loop has; the verdict if it has none.
    fn values_in(&mut self, logic: &Logic, value: &str) -> Result<Vec<String>, Verdict> {
        let argument = &*logic.argument;
        let with = |word: &str| value.replace("%(_)", word);
        let fails = || Verdict::NoEffect(format!("{} = {argument} does not hold", logic.name));
        let (name, expected) = match argument.split_once('=') {
            Some((name, expected)) => (name, Some(expected)),
            None => (argument, None),
        };
        let holds = |found: Option<String>| match (found, expected) {
            (Some(found), Some(expected)) => found == expected,
            (Some(_), None) => true,
            (None, _) => false,
        };
        let kind = self.around.kind(argument);
        let is_met = match &*logic.name {
            "for" => {
                let words = argument.split(' ').filter(|word| !word.is_empty());
                return Ok(words.map(with).collect());
            }
            "for-times" => {
                let times = atoi(argument).clamp(0, MOST_ITEMS as i64);
                return Ok((1..=times)
                    .map(|number| with(&number.to_string()))
                    .collect());
            }
            "for-readline" => {
                let bytes = self.read(argument).map_err(Verdict::Wrong)?;
                let text = String::from_utf8_lossy(&bytes).into_owned();
                return Ok(text.lines().map(with).collect());
            }
            "for-glob" if argument.contains(['*', '?', '[']) => {
                let advice = "patterns are not looked up: write the names out, with `for`";
                return Err(Verdict::Unsupported(advice.to_owned()));
            }
            "for-glob" => true,
            "if-env" | "ifenv" | "if-not-env" => {
                let found = self.around.environment.raw(name);
                let is_met = holds(found.clone());
                if is_met != (logic.name == "if-not-env") {
                    return Ok(vec![found.map_or(value.to_owned(), |found| with(&found))]);
                }
                return Err(fails());
            }
            "if-opt" | "if-not-opt" => {
                let mut items = self.options.items.iter_mut();
                let item = items.find(|item| item.key == name);
                let found = item.and_then(|item| {
                    item.is_used = true;
                    item.value.clone()
                });
                let is_met = holds(found.clone());
                if is_met != (logic.name == "if-not-opt") {
                    return Ok(vec![found.map_or(value.to_owned(), |found| with(&found))]);
                }
                return Err(fails());
            }
            "if-exists" | "ifexists" => kind.is_some(),
            "if-not-exists" => kind.is_none(),
            "if-file" => kind.is_some_and(|kind| kind.is_file),
            "if-not-file" => !kind.is_some_and(|kind| kind.is_file),
            "if-dir" | "ifdir" | "if-directory" => kind.is_some_and(|kind| kind.is_dir),
            "if-not-dir" => !kind.is_some_and(|kind| kind.is_dir),
            "if-hostname" => self.around.hostname == argument,
            "if-not-hostname" => self.around.hostname != argument,
            "if-plugin" | "ifplugin" => is_plugin_here(argument),
            "if-not-plugin" => !is_plugin_here(argument),
            // A start is no reload.
            "if-reload" => false,
            _ => true,
        };
        match is_met {
            true => Ok(vec![with(argument)]),
            false => Err(fails()),
        }
    }

    fn push(&mut self, key: &str, value: Option<&str>, place: &Place, text: &str) -> usize {
        self.options.items.push(Item {
            key: key.to_owned(),
            value: value.map(str::to_owned),
            place: place.clone(),
            text: text.to_owned(),
            is_immediate: false,
            is_placeholder: false,
            is_used: false,
            is_failed: false,
        });
        self.options.items.len() - 1
    }

    fn push_and_obey(&mut self, key: &str, value: Option<&str>, place: &Place, text: &str) {
        let at = self.push(key, value, place, text);
        if options::named(key).is_none() {
            if self.is_strict {
                self.forbidden(key, place, text);
            }
            return;
        }
        let given = value.unwrap_or_default();
        let form = match key {
            "ini" => Some(Form::Ini),
            "yaml" | "yml" => Some(Form::Yaml),
            "json" | "js" => Some(Form::Json),
            "xml" | "xmlconfig" => Some(Form::Xml),
            "include" | "config" => {
                let name = given.split(':').next().unwrap_or(given);
                Some(Form::of_name(name).unwrap_or(Form::Ini))
            }
            _ => None,
        };
        if let Some(form) = form {
            self.obeyed(at);
            self.load(given, form, key == "include", place, text);
        } else if key == "strict" {
            self.obeyed(at);
            let was_strict = std::mem::replace(&mut self.is_strict, super::numbers::flag(value));
            if self.is_strict && !was_strict {
                self.forbid_before();
            }
        } else if matches!(key, "set" | "set-placeholder" | "set-ph") {
            self.obeyed(at);
            self.placeholder(key, given, place, text);
        } else if key.starts_with("if") || key.starts_with("for") && key != "force-cwd" {
            if is_logic(key) {
                self.obeyed(at);
                self.begin(key, given, place, text);
            }
        } else if matches!(
            key,
            "listen"
                | "umask"
                | "immediate-uid"
                | "immediate-gid"
                | "plugin"
                | "plugins"
                | "need-plugin"
                | "need-plugins"
        ) {
            self.obeyed(at);
        }
    }

    /// Refuses a key that is no option, as `strict` does.
    fn forbidden(&mut self, key: &str, place: &Place, text: &str) {
        let meant = match self.options.lines.len() < MOST_HINTS {
            true => options::meant(key),
            false => None,
        };
        let hint = meant.map_or(String::new(), |meant| format!(", did you mean {meant}?"));
        let message = format!("no option of uWSGI, which `strict` forbids{hint}");
        self.line(place, text, Verdict::Wrong(message));
    }

    /// Refuses such keys before the line with `strict`: uWSGI looks for them once it has read all.
    fn forbid_before(&mut self) {
        let items = self.options.items.iter();
        let unknown = items.filter(|item| {
            !item.is_placeholder && !item.is_immediate && options::named(&item.key).is_none()
        });
        let unknown: Vec<_> = unknown
            .map(|item| (item.key.clone(), item.place.clone(), item.text.clone()))
            .collect();
        for (key, place, text) in unknown {
            self.forbidden(&key, &place, &text);
        }
    }

    fn obeyed(&mut self, at: usize) {
        self.options.items[at].is_immediate = true;
    }

    fn begin(&mut self, key: &str, argument: &str, place: &Place, text: &str) {
        if self.logic.is_some() {
            let message = "a condition or loop in another is not possible".to_owned();
            self.line(place, text, Verdict::Wrong(message));
            return;
        }
        self.logic = Some(Logic {
            name: key.to_owned(),
            argument: argument.to_owned(),
        });
    }

    /// `set-placeholder = name=value`, and `set`, which may also set an option.
    fn placeholder(&mut self, key: &str, given: &str, place: &Place, text: &str) {
        let Some((name, value)) = given.split_once('=') else {
            let message = "it needs `name=value`".to_owned();
            return self.line(place, text, Verdict::Wrong(message));
        };
        if key != "set" && options::named(name).is_some() {
            let message = format!("{name} is an option, so it cannot be a placeholder");
            return self.line(place, text, Verdict::Wrong(message));
        }
        if key == "set" && options::named(name).is_some() {
            return self.add(name, Some(value), place, text);
        }
        let at = self.push(name, Some(value), place, text);
        self.options.items[at].is_placeholder = true;
        // That of `set` takes part in the passes.
        self.options.items[at].is_immediate = key != "set";
    }

    fn pass(&mut self, symbol: u8) {
        for at in 0..self.options.items.len() {
            let item = &self.options.items[at];
            let Some(value) = item.value.clone().filter(|_| !item.is_immediate) else {
                continue;
            };
            if !value.as_bytes().contains(&symbol) {
                continue;
            }
            let mut used = Vec::new();
            let mut secret = Vec::new();
            let expanded = expand::pass(&value, symbol, |name| match symbol {
                b'$' => {
                    let found = self.around.environment.raw(name);
                    secret.extend(found.clone().filter(|_| secrets::is_secret(name)));
                    Ok(found)
                }
                b'@' => {
                    let found = self.at_file(name)?;
                    // Container engines hand out secrets as files.
                    secret.push(found.clone());
                    Ok(Some(found))
                }
                _ => {
                    used.push(name.to_owned());
                    Ok(expand::reference(name, |name| self.options.first(name)))
                }
            });
            self.options.secrets.extend(secret);
            for item in &mut self.options.items {
                let is_in = |names: &String| names.split(' ').any(|name| name == item.key);
                item.is_used |= used.iter().any(is_in);
            }
            match expanded {
                Ok(value) => self.options.items[at].value = Some(value),
                // No such file is written here, whatever its name.
                Err(_) if symbol == b'@' && LOG_FILES.contains(&&*self.options.items[at].key) => {}
                Err(message) => {
                    let item = self.options.items[at].clone();
                    self.line(&item.place, &item.text, Verdict::Wrong(message));
                    self.options.items[at].is_failed = true;
                }
            }
        }
    }

    /// The content of a file, without its last line feed.
    fn at_file(&self, name: &str) -> Result<String, String> {
        if let Some((scheme, _)) = name.split_once("://") {
            return Err(format!(
                "@({scheme}://…) is not evaluated, only files are read"
            ));
        }
        let path = self.around.current_dir.join(native::path(name));
        let bytes = (self.around.files.read)(Path::new(&path), LONGEST_FILE / 16)
            .map_err(|error| format!("cannot read {name}: {error}"))?;
        let text = String::from_utf8_lossy(&bytes);
        let text = text.split('\0').next().unwrap_or_default();
        let text = text.strip_suffix(['\n', '\r']).unwrap_or(text);
        Ok(text.to_owned())
    }

    /// `inherit`, which uWSGI obeys behind the passes: nothing is replaced in those files.
    fn inherited(&mut self) {
        let mut at = 0;
        while let Some(item) = self.options.items.get(at).cloned() {
            at += 1;
            if item.key == "inherit" {
                let name = item.value.as_deref().unwrap_or_default();
                let path = name.split(':').next().unwrap_or(name);
                let form = Form::of_name(path).unwrap_or(Form::Ini);
                self.depth = (self.depth + 1).min(DEEPEST);
                self.load(name, form, true, &item.place, &item.text);
            }
        }
    }
}

/// Variables that uWSGI sets for its own processes.
const OWN_VARIABLES: &[&str] = &[
    "RELOADS",
    "VASSALS_DIR",
    "EMPEROR_FD",
    "BROODLORD_NUM",
    "EMPEROR_FD_CONFIG",
    "EMPEROR_PROXY",
    "INI_DIR",
    "JAIL_PID",
    "ORIGINAL_PROC_NAME",
];

fn is_logic(key: &str) -> bool {
    let is_end = key.starts_with("end");
    !is_end
        && (key.starts_with("if") || key == "for" || key.starts_with("for-"))
        && !matches!(key, "if-hostname-match" | "if-not-hostname-match")
}

/// The name of a plugin, which may be a file of it.
fn plugin(name: &str) -> &str {
    let base = name.rsplit('/').next().unwrap_or(name);
    let base = base.strip_suffix("_plugin.so").unwrap_or(base);
    base.strip_suffix(".so").unwrap_or(base)
}

/// True for the plugins that do nothing without options that name them.
pub fn is_plugin_by_options(name: &str) -> bool {
    let base = plugin(name);
    let starts = [
        "router_",
        "transformation_",
        "stats_pusher_",
        "alarm_",
        "emperor_",
        "cheaper_",
    ];
    starts.iter().any(|start| base.starts_with(start)) || BY_OPTIONS.contains(&base)
}

/// Plugins of uWSGI 2.0.31 for logs, measurements, loops, further front servers and the like.
const BY_OPTIONS: &[&str] = &[
    "asyncio",
    "carbon",
    "clock_monotonic",
    "clock_realtime",
    "dumbloop",
    "fastrouter",
    "forkptyrouter",
    "gevent",
    "graylog2",
    "greenlet",
    "legion_cache_fetch",
    "logcrypto",
    "logpipe",
    "logzmq",
    "mongodblog",
    "msgpack",
    "nagios",
    "rawrouter",
    "redislog",
    "rpc",
    "rrdtool",
    "rsyslog",
    "spooler",
    "sslrouter",
    "symcall",
    "syslog",
    "systemd_logger",
    "tornado",
    "tuntap",
    "ugreen",
    "zabbix",
    "zergpool",
];

/// True for the plugins whose work is built in here.
pub fn is_plugin_here(name: &str) -> bool {
    let base = plugin(name);
    let is_python = base.starts_with("python")
        && !base.contains(|c: char| !(c.is_ascii_alphanumeric() || c == '.'));
    is_python
        || matches!(
            base,
            "http"
                | "0"
                | "corerouter"
                | "cheaper_busyness"
                | "cheaper_backlog2"
                | "logfile"
                | "logsocket"
                | "router_static"
                | "wsgi"
                | "signal"
                | "ping"
        )
}
