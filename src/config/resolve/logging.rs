//! In which form the logs are written.

use std::path::{Path, PathBuf};

use super::{Resolver, listed_choice};
use crate::config::error::{ConfigError, Invalid, invalid};
use crate::config::{
    AccessLog, AccessLogFilter, AccessLogLines, LogFiles, LogFormat, Pattern, native, values,
};
use crate::observe::access_log::pattern::VARIABLES;

impl Resolver<'_> {
    pub(super) fn log_files(&mut self, chdir: &Path) -> Result<LogFiles, ConfigError> {
        let mut file = |name: &'static str| -> Result<Option<PathBuf>, ConfigError> {
            let file = self.optional(name, |text| match text {
                "" => Err(invalid("no path", "give one, as in `/var/log/site.log`")),
                text => Ok(chdir.join(native::path(text))),
            })?;
            if file.is_none() {
                self.show_default(name, "none".to_owned());
            }
            Ok(file)
        };
        Ok(LogFiles {
            access: file("access_log_file")?,
            diagnostics: file("log_file")?,
        })
    }

    pub(super) fn access_log(&mut self, dev: bool) -> Result<AccessLog, ConfigError> {
        let choices = [
            ("off", AccessLog::Off),
            ("short", AccessLog::Short),
            ("combined", AccessLog::Combined),
            ("json", AccessLog::Json),
            ("no", AccessLog::Off),
            ("false", AccessLog::Off),
        ];
        if let Some(format) =
            self.optional("access_log", |text| listed_choice(text, &choices, 4))?
        {
            return Ok(format);
        }
        let is_terminal =
            self.surroundings.is_output_terminal && self.entry("access_log_file").is_none();
        let (format, shown) = if dev || is_terminal {
            (AccessLog::Short, "short")
        } else {
            (AccessLog::Combined, "combined")
        };
        self.show_default("access_log", shown.to_owned());
        Ok(format)
    }

    pub(super) fn access_log_lines(&mut self) -> Result<AccessLogLines, ConfigError> {
        Ok(AccessLogLines {
            pattern: self.access_log_pattern()?,
            filter: self.access_log_filter()?,
        })
    }

    fn access_log_pattern(&mut self) -> Result<Option<Pattern>, ConfigError> {
        let pattern = self.optional("access_log_format", |text| {
            Pattern::parse(text).map_err(|name| {
                invalid(
                    format!("there is no variable ${name}"),
                    format!("use those of {}", VARIABLES.join(", ")),
                )
            })
        })?;
        if pattern.is_none() {
            self.show_default("access_log_format", "none".to_owned());
        }
        Ok(pattern)
    }

    fn access_log_filter(&mut self) -> Result<AccessLogFilter, ConfigError> {
        let statuses = self.many("access_log_status", |text| {
            let all = text.split([',', ' ']).filter(|part| !part.is_empty());
            all.map(statuses).collect::<Result<Vec<_>, _>>()
        })?;
        if statuses.is_none() {
            self.show_default("access_log_status", "all".to_owned());
        }
        let skipped = self.many("access_log_skip", |text| {
            let is_end = |end: &str| !end.is_empty() && !end.contains('*');
            match text.starts_with('/') || text.strip_prefix('*').is_some_and(is_end) {
                true => Ok(text.to_owned()),
                false => Err(invalid(
                    "no path, which begins with a slash",
                    "give one as in `/health`, or `/health/*`, or the end of paths as in `*.css` or `/static/*.css`",
                )),
            }
        })?;
        let statuses = statuses.map(|statuses| statuses.into_iter().flatten().collect());
        Ok(AccessLogFilter::new(statuses, skipped.unwrap_or_default()))
    }

    pub(super) fn log_format(&mut self) -> Result<LogFormat, ConfigError> {
        let choices = [("pretty", LogFormat::Pretty), ("json", LogFormat::Json)];
        if let Some(format) = self.optional("log_format", |text| values::choice(text, &choices))? {
            return Ok(format);
        }
        let is_terminal = self.surroundings.is_terminal && self.entry("log_file").is_none();
        let (format, shown) = if is_terminal {
            (LogFormat::Pretty, "pretty")
        } else {
            (LogFormat::Json, "json")
        };
        self.show_default("log_format", shown.to_owned());
        Ok(format)
    }
}

/// `4xx` or `404`, as the first and the last status.
fn statuses(text: &str) -> Result<(u16, u16), Invalid> {
    let wrong = || {
        invalid(
            "no status",
            "give a class or a code, as in `4xx,5xx` or `404`",
        )
    };
    let (first, last) = match text.strip_suffix("xx") {
        Some(class) => (format!("{class}00"), format!("{class}99")),
        None => (text.to_owned(), text.to_owned()),
    };
    let is_status = |text: &String| text.len() == 3 && matches!(text.as_bytes()[0], b'1'..=b'5');
    let number = |text: &String| text.parse().ok().filter(|_| is_status(text));
    Ok((
        number(&first).ok_or_else(wrong)?,
        number(&last).ok_or_else(wrong)?,
    ))
}
