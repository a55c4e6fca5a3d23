//! All settings that a file, `GUNICORN_CMD_ARGS` and a command line give, in ascending precedence.
//!
//! The file is evaluated; its statements say which line set a value. Every statement ends as an
//! [`Item`] for each setting that it sets, or with a [`Verdict`] of its own.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::command_line::{self, Parsed};
use super::evaluation::{Evaluated, Statement, path_of};
use super::settings::{self, GunicornSetting};
use super::value::{Value, accepted};
use super::{Evaluate, Sources};
use crate::config::foreign::{Line, Place, Surroundings, Verdict, secrets};
use crate::config::native;

/// A setting with its value.
#[derive(Debug, Clone)]
pub struct Item {
    /// The setting.
    pub setting: &'static GunicornSetting,
    /// The value, as gunicorn accepts it.
    pub value: Value,
    /// Its file and line.
    pub place: Place,
    /// The line without secrets.
    pub text: String,
    /// Its source: one of a larger number takes precedence.
    pub rank: u8,
}

/// Everything that was read.
#[derive(Debug, Default)]
pub struct Settings {
    /// The settings, in order.
    pub items: Vec<Item>,
    /// Lines that set nothing, or cannot be used.
    pub lines: Vec<Line>,
    /// The application that the command line names.
    pub app: Option<String>,
    /// Its name as `gunicorn -c` has it.
    pub location: Option<String>,
    /// The interpreter that evaluated it.
    pub python: String,
    /// True if the file could not be evaluated to its end, so that its settings are not known.
    pub is_failed: bool,
}

/// The name of the file that gunicorn reads without being told.
const DEFAULT_FILE: &str = "gunicorn.conf.py";
/// Longest file of which lines are shown.
const LONGEST: usize = 1 << 20;
/// Most misspelt names for which the likely one is searched.
const MOST_HINTS: usize = 50;
/// The variable with further options.
const VARIABLE: &str = "GUNICORN_CMD_ARGS";

/// Reads the sources.
pub fn read(sources: &Sources, around: &Surroundings<'_>, evaluate: &Evaluate<'_>) -> Settings {
    let mut settings = Settings::default();
    let variable = place(VARIABLE, 0);
    let own = place("command line", 0);
    let from_variable = match around.environment.raw(VARIABLE) {
        Some(text) => match command_line::split(&text) {
            Some(words) => command_line::parse(&words, &variable),
            None => {
                settings.line(
                    &variable,
                    VARIABLE,
                    Verdict::Wrong("a quote is open".into()),
                );
                Parsed::default()
            }
        },
        None => Parsed::default(),
    };
    let words = sources.command_line.as_deref().unwrap_or_default();
    let from_words = command_line::parse(words, &own);
    let config = |parsed: &Parsed| {
        let mut all = parsed.options.iter().rev();
        let found = all.find(|(setting, ..)| setting.name == "config");
        found.and_then(|(_, value, _)| value.text())
    };
    let default = || {
        let is_default = sources.command_line.is_some()
            && around.kind(DEFAULT_FILE).is_some_and(|kind| kind.is_file);
        is_default.then(|| DEFAULT_FILE.to_owned())
    };
    let location = sources.file.clone().or_else(|| config(&from_words));
    let location = location.or_else(|| config(&from_variable)).or_else(default);
    if let Some(location) = location.filter(|location| !location.is_empty()) {
        settings.evaluated(&location, around, evaluate);
    }
    settings.app = from_words.words.first().cloned();
    settings.options(from_variable, &variable, 1);
    settings.options(from_words, &own, 2);
    settings
}

fn place(source: &str, line: usize) -> Place {
    Place {
        source: source.into(),
        line,
    }
}

impl Settings {
    fn line(&mut self, place: &Place, text: &str, verdict: Verdict) {
        self.lines.push(Line {
            place: place.clone(),
            text: text.to_owned(),
            verdict,
        });
    }

    /// Adds an item, unless gunicorn refuses its value.
    fn add(
        &mut self,
        setting: &'static GunicornSetting,
        value: Value,
        place: &Place,
        text: &str,
        rank: u8,
    ) {
        match accepted(setting, value) {
            Ok(value) => self.items.push(Item {
                setting,
                value,
                place: place.clone(),
                text: text.to_owned(),
                rank,
            }),
            Err(problem) => self.line(place, text, Verdict::Wrong(problem)),
        }
    }

    fn options(&mut self, parsed: Parsed, place: &Place, rank: u8) {
        self.lines.extend(parsed.lines);
        for (setting, value, text) in parsed.options {
            self.add(setting, value, place, &secrets::masked(&text), rank);
        }
        let mut words = parsed.words.iter();
        if rank > 1
            && let Some(app) = words.next()
        {
            let setting = settings::named("wsgi_app");
            if let Some(setting) = setting {
                let value = Value::Text(app.clone());
                self.add(setting, value, place, app, rank);
            }
        }
        for word in words {
            let why = "gunicorn reads one application, the first of the command line";
            self.line(place, word, Verdict::NoEffect(why.to_owned()));
        }
    }

    /// The settings of the file that `location` names.
    fn evaluated(&mut self, location: &str, around: &Surroundings<'_>, evaluate: &Evaluate<'_>) {
        let name = location.strip_prefix("file:").unwrap_or(location);
        let whole = place(name, 0);
        let is_module = location.starts_with("python:");
        if !is_module && around.kind(name).is_none() {
            let why = "there is no such file".to_owned();
            self.is_failed = true;
            return self.line(&whole, name, Verdict::Wrong(why));
        }
        let evaluated = match evaluate(location) {
            Ok(evaluated) => evaluated,
            Err(problem) => {
                self.is_failed = true;
                return self.line(&whole, name, Verdict::Wrong(problem));
            }
        };
        self.is_failed = evaluated.error.is_some();
        self.location = Some(location.to_owned());
        self.python = native::text(evaluated.python.as_os_str());
        let text = (around.files.read)(&path_of(&evaluated, around.current_dir), LONGEST);
        let text = text.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let text = text.unwrap_or_default();
        let text = text.trim_start_matches('\u{feff}');
        let lines: Vec<&str> = text.split('\n').collect();
        if !evaluated.printed.trim().is_empty() {
            let shown: Vec<_> = evaluated
                .printed
                .trim()
                .lines()
                .take(MOST_PRINTED)
                .collect();
            let shown = secrets::masked(&shown.join(" | "));
            let text = format!("it prints: {}", native::shown(&shown));
            self.line(&whole, name, Verdict::Noted(text));
        }
        let source: Arc<str> = Arc::from(name);
        let at = |line: usize| Place {
            source: Arc::clone(&source),
            line,
        };
        let statements = Statements {
            evaluated: &evaluated,
            lines: &lines,
        };
        if let Some((line, problem)) = &evaluated.error {
            let text = lines.get(line.saturating_sub(1)).copied();
            let text = secrets::masked(text.filter(|_| *line > 0).unwrap_or(name).trim());
            let verdict = match is_variable(problem) {
                true => Verdict::AtStart(problem.clone()),
                false => {
                    let problem = secrets::masked(problem);
                    Verdict::Wrong(format!("its evaluation fails: {problem}"))
                }
            };
            self.line(&at(*line), &text, verdict);
        }
        self.assigned(&statements, &at);
        self.others(&statements, &at);
    }

    /// The settings, each at the line that set it last.
    fn assigned(&mut self, statements: &Statements<'_>, at: &dyn Fn(usize) -> Place) {
        for (name, value) in &statements.evaluated.settings {
            let Some(setting) = settings::named(name) else {
                continue;
            };
            match statements.winner(name) {
                Some(statement) => {
                    let text = statements.text(statement);
                    self.add(setting, value.clone(), &at(statement.line), &text, 0);
                }
                // Such as `globals().update(…)`.
                None => self.add(setting, value.clone(), &at(0), name, 0),
            }
        }
    }

    /// Statements that set nothing that counts.
    fn others(&mut self, statements: &Statements<'_>, at: &dyn Fn(usize) -> Place) {
        let mut hints = MOST_HINTS;
        for statement in &statements.evaluated.statements {
            let (known, others): (Vec<&String>, Vec<&String>) = statement
                .names
                .iter()
                .partition(|name| settings::named(name).is_some());
            let is_winner = |name: &&String| {
                statements.evaluated.settings.contains_key(name.as_str())
                    && statements.winner(name).is_some_and(|one| one == statement)
            };
            if known.iter().any(is_winner) {
                continue;
            }
            let has_failed = statements.evaluated.error.as_ref();
            if has_failed.is_some_and(|(line, _)| *line == statement.line) {
                continue;
            }
            let verdict = match known.first() {
                _ if statement.ran == 0 && has_failed.is_some_and(|(_, why)| is_variable(why)) => {
                    let why =
                        has_failed.map(|(line, why)| format!("{why}, and line {line} needs it"));
                    Verdict::AtStart(why.unwrap_or_default())
                }
                _ if statement.ran == 0 && has_failed.is_some() => {
                    let why = "it is not evaluated, as the file fails before it or passes it by";
                    Verdict::NoEffect(why.to_owned())
                }
                _ if statement.ran == 0 => {
                    Verdict::NoEffect("it does not run in this environment".to_owned())
                }
                Some(name) => match statements.winner(name) {
                    Some(winner) => {
                        let line = winner.line;
                        Verdict::NoEffect(format!("line {line} sets {name} again"))
                    }
                    None => Verdict::Read("evaluated as Python".to_owned()),
                },
                None if statement.kind.starts_with("Import") => {
                    Verdict::Read("evaluated as Python".to_owned())
                }
                None => statements.foreign(&others, &mut hints),
            };
            let text = statements.text(statement);
            self.line(&at(statement.line), &text, verdict);
        }
    }
}

/// Most lines that are shown of what a file prints.
const MOST_PRINTED: usize = 5;

/// True for an evaluation that ends at a variable which is not set, and which the start may have.
fn is_variable(problem: &str) -> bool {
    problem.starts_with("the variable ") && problem.ends_with(" is not set now")
}

struct Statements<'e> {
    evaluated: &'e Evaluated,
    lines: &'e [&'e str],
}

impl Statements<'_> {
    /// The statement that set this name last.
    fn winner(&self, name: &str) -> Option<&Statement> {
        let all = self.evaluated.statements.iter();
        let its = all.filter(|one| one.ran > 0 && one.names.iter().any(|own| own == name));
        its.max_by_key(|one| one.ran)
    }

    /// Its first line, without secrets.
    fn text(&self, statement: &Statement) -> String {
        let line = self.lines.get(statement.line.saturating_sub(1));
        let line = line.map(|line| line.trim()).unwrap_or_default();
        let is_secret = statement.names.iter().any(|name| secrets::is_secret(name));
        let shown = match line.split_once('=') {
            Some((name, _)) if is_secret => format!("{}= {}", name, secrets::HIDDEN),
            _ => secrets::masked(line),
        };
        match statement.end > statement.line {
            true => format!("{shown} …"),
            false => shown,
        }
    }

    /// The verdict on names that are no settings.
    fn foreign(&self, names: &[&String], hints: &mut usize) -> Verdict {
        let used: BTreeSet<&String> = self.evaluated.used.iter().collect();
        let unread: Vec<_> = names.iter().filter(|name| !used.contains(**name)).collect();
        let Some(name) = unread.first().filter(|_| unread.len() == names.len()) else {
            return Verdict::Read("evaluated as Python".to_owned());
        };
        let meant = match hints.checked_sub(1) {
            Some(left) => {
                *hints = left;
                settings::meant(name)
            }
            None => None,
        };
        match meant {
            Some(meant) => Verdict::Ignored(format!(
                "no setting of gunicorn, which ignores it, did you mean {meant}?"
            )),
            None => Verdict::NoEffect("no setting of gunicorn, which ignores it".to_owned()),
        }
    }
}
