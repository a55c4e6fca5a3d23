//! Limits for clients.

use super::Resolver;
use crate::config::error::{ConfigError, invalid};
use crate::config::{ClientLimits, values};

/// Most connections, and requests at once, that can be allowed: typing errors end here.
const MOST: u32 = 10_000_000;

/// No limit on memory, with room for sums.
const NO_LIMIT: usize = usize::MAX / 2;
/// Least bytes of `memory_budget`: below it hardly a request would be served.
const LEAST_MEMORY: u64 = 4 << 20;
/// Most bytes of `memory_budget` that are taken unasked: more makes no normal traffic faster.
const MOST_MEMORY: u64 = 512 << 20;

/// A quarter of the memory of the container or machine; workers need the most of it.
fn usual_memory(memory: Option<u64>) -> u64 {
    memory.map_or(MOST_MEMORY / 2, |memory| {
        (memory / 4).clamp(LEAST_MEMORY, MOST_MEMORY)
    })
}

impl Resolver<'_> {
    pub(super) fn client_limits(&mut self) -> Result<ClientLimits, ConfigError> {
        let or_none = |text: &str| match text {
            // In other settings 0 turns a limit off; here it reads as the strictest one.
            "0" => Err(invalid(
                "0 could mean that no client may connect",
                "give `no` for no limit, or a whole number from 1",
            )),
            text => values::count_or_none(text, MOST),
        };
        let connections = self.optional("max_connections", |text| values::count(text, 1, MOST))?;
        if connections.is_none() {
            self.show_default("max_connections", "10000, by descriptors".to_owned());
        }
        let connections_per_ip = self.one("max_connections_per_ip", or_none)?;
        let rate = self.one("rate_limit", values::rate)?;
        let burst = self.optional("rate_burst", |text| values::count(text, 1, MOST))?;
        if burst.is_some() && rate.is_none() {
            let text = "rate_burst has no effect without rate_limit (give rate_limit as well)";
            self.warnings.push(text.to_owned());
        }
        let burst = burst.unwrap_or_else(|| {
            // As many as may come in the time that the rate names: a page and its files.
            let burst = rate.map_or(1, |rate| rate.requests);
            self.show_default(
                "rate_burst",
                rate.map_or("none".to_owned(), |_| burst.to_string()),
            );
            burst
        });
        let memory = self.optional("memory_budget", |text| {
            values::byte_limit_from(text, LEAST_MEMORY)
        })?;
        let memory = memory.unwrap_or_else(|| {
            let memory = usual_memory(self.surroundings.machine.memory);
            self.show_default("memory_budget", format!("{}M", memory >> 20));
            memory
        });
        Ok(ClientLimits {
            memory: usize::try_from(memory).map_or(NO_LIMIT, |memory| memory.min(NO_LIMIT)),
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
