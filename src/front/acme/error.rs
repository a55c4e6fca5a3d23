//! Reasons why there is no certificate, and the time for which each one delays the next attempt.

use std::fmt;
use std::time::Duration;

/// A reason why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// There is no answer from the authority.
    #[error("cannot reach the authority {authority}: {why}")]
    Unreachable {
        /// Its host and port.
        authority: String,
        /// The error.
        why: String,
    },
    /// The authority has refused a request.
    #[error("{doing}: {problem}")]
    Refused {
        /// The step.
        doing: &'static str,
        /// The reason.
        problem: Problem,
        /// The time after which it may be asked again.
        retry_after: Option<Duration>,
    },
    /// The authority could not validate the control over the host.
    #[error(
        "{name} was not validated by {challenge}: {problem} (the authority connects to port {port} of {name})"
    )]
    NotValidated {
        /// The host.
        name: String,
        /// The way.
        challenge: &'static str,
        /// The reason.
        problem: Problem,
        /// The port of the challenge.
        port: u16,
    },
    /// The authority does not come to an end.
    #[error("{of} takes the authority longer than {limit} s")]
    Slow {
        /// The step that takes long.
        of: &'static str,
        /// The limit in seconds.
        limit: u64,
    },
    /// The answer of the authority is not of the protocol.
    #[error("{0}")]
    Unexpected(String),
    /// The directory cannot be used.
    #[error("{0}")]
    Directory(String),
    /// A file of the settings cannot be used.
    #[error("{0}")]
    Settings(String),
}

/// RFC 7807, as RFC 8555 §6.7 uses it.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default)]
pub struct Problem {
    /// A URN.
    #[serde(rename = "type")]
    pub kind: String,
    /// For people.
    pub detail: String,
    /// Those of single hosts.
    pub subproblems: Vec<Problem>,
}

impl Problem {
    /// The last part of the kind: `rateLimited`.
    pub fn name(&self) -> &str {
        self.kind.rsplit(':').next().unwrap_or_default()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It comes from outside, and goes to the log and to terminals.
        let text = |text: &str| -> String {
            let shown = text.chars().take(LONGEST_DETAIL);
            shown
                .map(|char| if char.is_control() { ' ' } else { char })
                .collect()
        };
        match (self.name(), &*self.detail) {
            ("", "") => write!(f, "no reason given")?,
            (name, "") => write!(f, "{}", text(name))?,
            ("", detail) => write!(f, "{}", text(detail))?,
            (name, detail) => write!(f, "{} ({})", text(detail), text(name))?,
        }
        for below in self.subproblems.iter().take(3) {
            write!(f, "; {below}")?;
        }
        Ok(())
    }
}

/// Characters of a problem that are shown.
const LONGEST_DETAIL: usize = 300;

impl AcmeError {
    /// An error that no setting and no authority can cause.
    pub fn internal(doing: &str, error: impl fmt::Display) -> Self {
        Self::Unexpected(format!("{doing}: {error}"))
    }

    /// The delay that the authority wants before the next attempt. A rate limit without one counts as
    /// an hour: those of Let's Encrypt refill at such a pace.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused {
                retry_after: Some(after),
                ..
            } => Some((*after).min(LONGEST_DELAY)),
            Self::Refused { problem, .. } if problem.name() == "rateLimited" => {
                Some(Duration::from_secs(3600))
            }
            _ => None,
        }
    }

    /// True if the authority has not seen a request that could count towards its limits.
    pub fn is_free(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::Directory(_) | Self::Settings(_)
        )
    }

    /// True if the order may still be completed later.
    pub fn leaves_order(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Slow { .. } => true,
            Self::Refused { problem, .. } => {
                matches!(
                    problem.name(),
                    "badNonce" | "rateLimited" | "serverInternal"
                )
            }
            _ => false,
        }
    }

    /// True if another challenge may succeed.
    pub fn is_of_challenge(&self) -> bool {
        matches!(self, Self::NotValidated { .. })
    }
}

/// Longest delay that an authority may ask for; its limits are for weeks at most.
const LONGEST_DELAY: Duration = Duration::from_secs(14 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &str, retry_after: Option<u64>) -> AcmeError {
        AcmeError::Refused {
            doing: "no",
            problem: Problem {
                kind: format!("urn:ietf:params:acme:error:{name}"),
                detail: "line\nfeed\u{1b}".to_owned(),
                subproblems: Vec::new(),
            },
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    #[test]
    fn a_delay_of_the_authority_has_a_default_for_rate_limits_and_an_upper_bound() {
        let check = |error: AcmeError, expected: Option<u64>| {
            assert_eq!(error.retry_after(), expected.map(Duration::from_secs));
        };
        check(refused("rateLimited", None), Some(3600));
        check(refused("rateLimited", Some(5)), Some(5));
        check(refused("malformed", None), None);
        check(refused("serverInternal", Some(7)), Some(7));
        check(refused("rateLimited", Some(u64::MAX)), Some(14 * 86_400));
        check(AcmeError::Directory(String::new()), None);
    }

    #[test]
    fn the_text_of_an_authority_cannot_control_a_terminal() {
        let text = refused("malformed", None).to_string();
        assert_eq!(text, "no: line feed  (malformed)");
        let long = Problem {
            detail: "x".repeat(10_000),
            ..Problem::default()
        };
        assert_eq!(long.to_string().len(), LONGEST_DETAIL);
    }
}
