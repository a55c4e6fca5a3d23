//! Classes of the names in the tables of other servers.

use super::Verdict;

/// The class of an option, a setting or a directive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Code decides.
    Honoured,
    /// This server always does that.
    AlreadySo,
    /// It changes nothing here.
    NoEffect,
    /// It changes nothing here, which an operator should know.
    Noted,
    /// It is done in another way, which can be told.
    Differs,
    /// This server does not do that.
    Unsupported,
    /// Its literal meaning is dangerous.
    Dangerous,
}

impl Class {
    /// The class of this word of a table.
    pub fn of(word: &str) -> Option<Self> {
        Some(match word {
            "honoured" => Self::Honoured,
            "already" => Self::AlreadySo,
            "none" => Self::NoEffect,
            "note" => Self::Noted,
            "differs" => Self::Differs,
            "dangerous" => Self::Dangerous,
            "unsupported" => Self::Unsupported,
            _ => return None,
        })
    }

    /// The verdict of a line about which no code has decided.
    pub fn verdict(self, reason: String) -> Verdict {
        match self {
            Self::AlreadySo => Verdict::AlreadySo(reason),
            Self::NoEffect => Verdict::NoEffect(reason),
            Self::Noted => Verdict::Noted(reason),
            Self::Differs => Verdict::Differs(reason),
            Self::Dangerous => Verdict::Dangerous(reason),
            Self::Honoured | Self::Unsupported => Verdict::Unsupported(reason),
        }
    }
}

/// The lines of a table, each with its class and reason: those of the heading `[CLASS] REASON` above it.
pub fn rows(table: &'static str) -> impl Iterator<Item = (Class, &'static str, &'static str)> {
    let mut heading = (Class::Unsupported, "");
    table.lines().filter_map(move |line| {
        if let Some((word, reason)) = line.strip_prefix('[').and_then(|line| line.split_once(']')) {
            heading = (Class::of(word).unwrap_or(Class::Unsupported), reason.trim());
            return None;
        }
        (!line.starts_with('#')).then_some((heading.0, heading.1, line))
    })
}
