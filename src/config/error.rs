//! Errors in the settings. Every message names the place and the remedy.

use std::path::PathBuf;

use crate::observe::codes;

/// A setting, or the file with the settings, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value that its setting cannot take.
    #[error("{place}: {problem} ({remedy})")]
    Value {
        /// Setting and value as they stand at their origin, `--workers 0`.
        place: String,
        /// The fault.
        problem: String,
        /// The remedy.
        remedy: String,
    },
    /// A key of the settings file that is no setting.
    #[error("{}:{line}: unknown setting {key:?} ({hint})", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// Line of the key, from 1.
        line: usize,
        /// The key.
        key: String,
        /// `did you mean "workers"?`, or where to look.
        hint: String,
    },
    /// A value of the settings file whose type does not fit.
    #[error("{}:{line}: {key} cannot be {found} (give {expected})", path.display())]
    WrongType {
        /// The file.
        path: PathBuf,
        /// Line of the key, from 1.
        line: usize,
        /// The key.
        key: String,
        /// The value that was found.
        found: String,
        /// The values that are allowed.
        expected: String,
    },
    /// A location that does not hang together.
    #[error("{place}: [[location]] has {problem}")]
    Location {
        /// File and line.
        place: String,
        /// The fault and its remedy.
        problem: String,
    },
    /// The settings file is not TOML.
    #[error("{}:{line}: not valid TOML: {message} (correct the line)", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line of the first mistake, from 1.
        line: usize,
        /// The parser's message.
        message: String,
    },
    /// The settings file cannot be read.
    #[error("cannot read the settings in {}: {cause} (check the path and its permissions)", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the system call. Not its source, which would be printed again.
        cause: std::io::Error,
    },
    /// The settings file is not UTF-8, as TOML has to be.
    #[error("{}:{line}: not valid TOML: not UTF-8 (save the file as UTF-8; a path that is not goes to a flag or variable)", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Line of the first byte that is not, from 1.
        line: usize,
    },
    /// A line of another server's file that ends the start.
    #[error(
        "{}: {problem} (correct or remove the line; `pyserve explain` shows all)",
        line_of(place, text)
    )]
    Foreign {
        /// File and line.
        place: String,
        /// The line, without secrets.
        text: String,
        /// The fault.
        problem: String,
    },
    /// The current directory has gone, or must not be used.
    #[error("cannot use the current directory {}: {problem} (give an absolute --chdir)", path.display())]
    CurrentDirectory {
        /// Its name.
        path: PathBuf,
        /// Why not.
        problem: String,
    },
    /// The user as whom the server runs cannot use what an application needs.
    #[error(transparent)]
    Unreachable(#[from] super::reach::Unreachable),
    /// There is neither an application nor anything static to serve.
    #[error(
        "nothing to serve in {}: no application and no static files there; looked for {looked_for} \
         (name the application with --app, its directory with --chdir, or files with --static /=DIR)",
        directory.display()
    )]
    NothingToServe {
        /// The directory that was searched.
        directory: PathBuf,
        /// The files that were looked for, and those that were found instead.
        looked_for: String,
    },
    /// Several applications were found.
    #[error("several applications in {}: {candidates} (choose one with --app)", directory.display())]
    Ambiguous {
        /// The directory that was searched.
        directory: PathBuf,
        /// The modules, `mysite.wsgi or other.wsgi`.
        candidates: String,
    },
    /// No interpreter is where one should be.
    #[error("no usable Python: looked at {looked_at} ({remedy})")]
    NoPython {
        /// Every place, with the reason for it.
        looked_at: String,
        /// The remedy.
        remedy: String,
    },
}

impl ConfigError {
    /// The code of the message, see `troubleshooting.md` in the manual.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Value { .. } | Self::WrongType { .. } => codes::INVALID_SETTING,
            Self::UnknownKey { .. } => codes::UNKNOWN_SETTING,
            Self::Location { .. } => codes::LOCATION,
            Self::Syntax { .. }
            | Self::Unreadable { .. }
            | Self::NotUtf8 { .. }
            | Self::Foreign { .. } => codes::SETTINGS_FILE,
            Self::CurrentDirectory { .. } => codes::CURRENT_DIRECTORY,
            Self::Unreachable(_) => codes::NO_PERMISSION,
            Self::NothingToServe { .. } => codes::NOTHING_TO_SERVE,
            Self::Ambiguous { .. } => codes::AMBIGUOUS,
            Self::NoPython { .. } => codes::NO_PYTHON,
        }
    }
}

/// A line with its place; the whole file has its name as its text.
fn line_of(place: &str, text: &str) -> String {
    match place == text {
        true => place.to_owned(),
        false => format!("{place}: {text}"),
    }
}

/// Why one value cannot be taken; becomes [`ConfigError::Value`] once the origin is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The fault.
    pub problem: String,
    /// The remedy.
    pub remedy: String,
}

/// Short for building an [`Invalid`].
pub fn invalid(problem: impl Into<String>, remedy: impl Into<String>) -> Invalid {
    Invalid {
        problem: problem.into(),
        remedy: remedy.into(),
    }
}
