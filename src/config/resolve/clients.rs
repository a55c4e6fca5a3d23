//! How much clients may take of the server.

use super::Resolver;
use crate::config::error::ConfigError;
use crate::config::{ClientLimits, values};

/// Most connections, and requests at once, that can be allowed: typing errors end here.
const MOST: u32 = 10_000_000;

impl Resolver<'_> {
    pub(super) fn client_limits(&mut self) -> Result<ClientLimits, ConfigError> {
        let or_none = |text: &str| values::count_or_none(text, MOST);
        let connections = self.optional("max_connections", |text| values::count(text, 1, MOST))?;
        if connections.is_none() {
            self.show_default("max_connections", "10000, by descriptors".to_owned());
        }
        let connections_per_ip = self.one("max_connections_per_ip", or_none)?;
        let rate = self.one("rate_limit", values::rate)?;
        let burst = self.optional("rate_burst", |text| values::count(text, 1, MOST))?;
        let burst = burst.unwrap_or_else(|| {
            // As many as may come in the time that the rate names: a page and its files.
            let burst = rate.map_or(1, |rate| rate.requests);
            self.show_default(
                "rate_burst",
                rate.map_or("none".to_owned(), |_| burst.to_string()),
            );
            burst
        });
        Ok(ClientLimits {
            connections,
            connections_per_ip,
            rate,
            burst,
            min_body_rate: self.one("min_body_rate", |text| match text {
                "no" | "off" | "false" | "0" => Ok(0),
                text => values::byte_limit(text),
            })?,
            spool: self.one("max_spool", values::byte_limit)?,
        })
    }
}
