//! What becomes of bodies on their way through the front.

use super::Resolver;
use crate::config::error::ConfigError;
use crate::config::{SpoolLimits, values};

impl Resolver<'_> {
    pub(super) fn response_spool(&mut self) -> Result<SpoolLimits, ConfigError> {
        Ok(SpoolLimits {
            each: self.one("max_response_spool", values::byte_room)?,
            total: self.one("response_spool_total", values::byte_room)?,
        })
    }
}
