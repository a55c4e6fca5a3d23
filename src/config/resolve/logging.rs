//! In which form the logs are written.

use super::{Resolver, listed_choice};
use crate::config::error::ConfigError;
use crate::config::{AccessLog, LogFormat, values};

impl Resolver<'_> {
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
        let (format, shown) = if dev || self.surroundings.is_output_terminal {
            (AccessLog::Short, "short")
        } else {
            (AccessLog::Combined, "combined")
        };
        self.show_default("access_log", shown.to_owned());
        Ok(format)
    }

    pub(super) fn log_format(&mut self) -> Result<LogFormat, ConfigError> {
        let choices = [("pretty", LogFormat::Pretty), ("json", LogFormat::Json)];
        if let Some(format) = self.optional("log_format", |text| values::choice(text, &choices))? {
            return Ok(format);
        }
        let (format, shown) = if self.surroundings.is_terminal {
            (LogFormat::Pretty, "pretty")
        } else {
            (LogFormat::Json, "json")
        };
        self.show_default("log_format", shown.to_owned());
        Ok(format)
    }
}
