//! Configuration files of other servers: a layer of settings, and a verdict for every line.
//!
//! A reader, such as [`uwsgi`], takes texts and [`Surroundings`] and gives a [`Reading`]. Its layer has
//! the lowest precedence: flags, environment and `pyserve.toml` override it. Its lines are for
//! people: `pyserve explain` prints all of them, a start logs those that change what the operator
//! may expect, and one that is unreadable or contradictory ends the start.
//!
//! Nothing here opens a file by itself: [`Surroundings`] carries the functions that do.

mod bounds;
pub mod class;
mod counterparts;
pub mod drafting;
pub mod equivalent;
pub mod found;
pub mod gunicorn;
pub mod image;
pub mod nginx;
pub mod percent;
pub mod secrets;
pub mod shell;
pub mod supervisord;
pub mod surroundings;
pub mod uwsgi;
pub mod waiting;

use std::fmt;
use std::sync::Arc;

pub use counterparts::counterpart;
pub use surroundings::{Files, Surroundings};

use super::error::ConfigError;
use super::layers::{Layer, SettingOrigin};

/// The position of a line in a foreign file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file as it was named, `uwsgi.ini`; or a variable, or `command line`.
    pub source: Arc<str>,
    /// The line, from 1; 0 where the source has no lines.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.source),
            line => write!(f, "{}:{line}", self.source),
        }
    }
}

/// The fate of one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It sets this here, `workers = 4`.
    Honoured(String),
    /// It steers the reading of the file.
    Read(String),
    /// This server always does what the line asks for; the text gives the form it takes.
    AlreadySo(String),
    /// The line changes nothing here, for this reason.
    NoEffect(String),
    /// As [`Self::NoEffect`], but an operator may look for the effect: a start logs it.
    Noted(String),
    /// Something is done in its place that a client, the application or an operator can tell from what the
    /// line asks for; the text is the difference.
    Differs(String),
    /// The line asks for something that this server does not do; the text is the advice.
    Unsupported(String),
    /// The literal meaning is dangerous; the text says why, and which safe meaning is served.
    Dangerous(String),
    /// The key is no option; the text is the suggestion.
    Unknown(String),
    /// As [`Self::Unknown`], but the program of the file ignores it too.
    Ignored(String),
    /// The value has an environment variable that is not set now. The server cannot start without it.
    AtStart(String),
    /// As [`Self::AtStart`], but the server starts, and the start logs it.
    Incomplete(String),
    /// The value has a part that a template was to fill, and the server cannot start without it.
    Unset(String),
    /// As [`Self::Unset`], but the server starts, and the start logs it.
    Unfilled(String),
    /// The line cannot be read, or contradicts another.
    Wrong(String),
}

impl Verdict {
    /// The word of the verdict in JSON.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Honoured(_) | Self::Read(_) => "honoured",
            Self::AlreadySo(_) => "already_so",
            Self::NoEffect(_) | Self::Noted(_) => "no_effect",
            Self::Differs(_) => "differs",
            Self::Unsupported(_) => "unsupported",
            Self::Dangerous(_) => "dangerous",
            Self::Unknown(_) | Self::Ignored(_) => "unknown",
            Self::AtStart(_) | Self::Unset(_) | Self::Unfilled(_) | Self::Incomplete(_) => "unset",
            Self::Wrong(_) => "wrong",
        }
    }

    /// The same with another text.
    #[must_use]
    pub fn map(&self, change: impl FnOnce(&str) -> String) -> Self {
        let make = match self {
            Self::Honoured(_) => Self::Honoured,
            Self::Read(_) => Self::Read,
            Self::AlreadySo(_) => Self::AlreadySo,
            Self::NoEffect(_) => Self::NoEffect,
            Self::Noted(_) => Self::Noted,
            Self::Differs(_) => Self::Differs,
            Self::Unsupported(_) => Self::Unsupported,
            Self::Dangerous(_) => Self::Dangerous,
            Self::Unknown(_) => Self::Unknown,
            Self::Ignored(_) => Self::Ignored,
            Self::AtStart(_) => Self::AtStart,
            Self::Unset(_) => Self::Unset,
            Self::Unfilled(_) => Self::Unfilled,
            Self::Incomplete(_) => Self::Incomplete,
            Self::Wrong(_) => Self::Wrong,
        };
        make(change(self.detail()))
    }

    /// The text behind the word.
    pub fn detail(&self) -> &str {
        match self {
            Self::Honoured(text)
            | Self::Read(text)
            | Self::AlreadySo(text)
            | Self::NoEffect(text)
            | Self::Noted(text)
            | Self::Differs(text)
            | Self::Unsupported(text)
            | Self::Dangerous(text)
            | Self::Unknown(text)
            | Self::Ignored(text)
            | Self::AtStart(text)
            | Self::Unset(text)
            | Self::Unfilled(text)
            | Self::Incomplete(text)
            | Self::Wrong(text) => text,
        }
    }

    /// True if the line ends the start.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::AtStart(_) | Self::Unset(_) | Self::Wrong(_))
    }

    /// True if the start logs the line.
    pub fn is_logged(&self) -> bool {
        matches!(
            self,
            Self::Noted(_)
                | Self::Differs(_)
                | Self::Incomplete(_)
                | Self::Unfilled(_)
                | Self::Unsupported(_)
                | Self::Dangerous(_)
                | Self::Unknown(_)
                | Self::Ignored(_)
        )
    }
}

impl fmt::Display for Verdict {
    /// For people, `honoured as workers = 4`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self {
            Self::Honoured(_) => "honoured as",
            Self::Read(_) => "read:",
            Self::AlreadySo(_) => "already so:",
            Self::NoEffect(_) | Self::Noted(_) => "no effect here:",
            Self::Differs(_) => "differs here:",
            Self::Unsupported(_) => "not supported:",
            Self::Dangerous(_) => "dangerous:",
            Self::Unknown(_) | Self::Ignored(_) => "unknown:",
            Self::AtStart(_) => "filled at the start:",
            Self::Unset(_) | Self::Unfilled(_) | Self::Incomplete(_) => "not set:",
            Self::Wrong(_) => "wrong:",
        };
        write!(f, "{word} {}", self.detail())
    }
}

/// A line with its verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its file and line.
    pub place: Place,
    /// The line as it stands there, without secrets.
    pub text: String,
    /// Its fate.
    pub verdict: Verdict,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.place, self.text, self.verdict)
    }
}

/// Everything that foreign files say.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// The settings that follow from them.
    pub layer: Layer,
    /// Every line that is neither empty nor a comment, in the order of the files.
    pub lines: Vec<Line>,
    /// Settings that follow from a default of the other server, with the reason, for people.
    pub implied: Vec<(String, String)>,
}

impl Reading {
    /// The lines that the start logs.
    pub fn warnings(&self) -> Vec<String> {
        let logged = self.lines.iter().filter(|line| line.verdict.is_logged());
        let mut all: Vec<String> = Vec::new();
        for line in logged.map(Line::to_string) {
            // A line of a `for` loop is read several times.
            if !all.contains(&line) {
                all.push(line);
            }
        }
        all
    }

    /// The lines that have a meaning and are not among the warnings.
    pub fn notices(&self) -> Vec<String> {
        let meant = self
            .lines
            .iter()
            .filter(|line| matches!(line.verdict, Verdict::Honoured(_) | Verdict::Read(_)));
        meant
            .map(|line| format!("{}: {}", line.text, line.verdict))
            .collect()
    }

    /// Forgets a setting that follows from a default of the other server alone.
    pub fn forget_implied(&mut self, name: &str) {
        let is_it = |(text, _): &(String, String)| {
            text.strip_prefix(name)
                .is_some_and(|rest| rest.trim_start().starts_with('='))
        };
        if let Some(at) = self.implied.iter().position(is_it) {
            self.implied.remove(at);
            self.layer.remove(name);
        }
    }

    /// The first line that ends the start.
    pub fn mistake(&self) -> Option<ConfigError> {
        let line = self.lines.iter().find(|line| line.verdict.is_fatal())?;
        Some(ConfigError::Foreign {
            place: line.place.to_string(),
            text: line.text.clone(),
            problem: line.verdict.detail().to_owned(),
        })
    }

    /// The exit code of `pyserve explain`: 0 if all that the lines ask for is done here, or something
    /// safe in the place of what is dangerous, or nothing by their own program either; 1 if a line is
    /// not understood or asks for more, 2 if one cannot be read.
    pub fn exit_code(&self) -> u8 {
        let worst = self.lines.iter().map(|line| match line.verdict {
            Verdict::Wrong(_) => 2,
            Verdict::Unset(_)
            | Verdict::Unfilled(_)
            | Verdict::Unsupported(_)
            | Verdict::Unknown(_) => 1,
            _ => 0,
        });
        worst.max().unwrap_or_default()
    }
}

/// The origin of a setting that the line `text` at `place` makes.
pub fn origin(place: &Place, text: &str) -> SettingOrigin {
    SettingOrigin::Foreign {
        place: place.to_string(),
        text: text.to_owned(),
    }
}
