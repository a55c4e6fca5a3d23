//! A `server` block that is served.

use super::listen::Listen;
use crate::config::Scheme;

/// One `server` block that is served.
#[derive(Debug, Clone)]
pub struct Site {
    /// The block that answers: the server's, or that of an `if` in it.
    pub at: usize,
    /// The server's block.
    pub server: usize,
    /// Its hosts as `[[location]] host` takes them; none for every host.
    pub hosts: Vec<String>,
    /// Its addresses.
    pub listens: Vec<Listen>,
    /// The scheme by which clients ask for it.
    pub scheme: Scheme,
    /// True if other servers answer the other scheme.
    pub is_of_scheme: bool,
}

impl Site {
    /// True if one of its addresses has TLS.
    pub fn has_tls(&self) -> bool {
        self.listens.iter().any(|listen| listen.is_tls)
    }

    /// True if it is the default server of one of its addresses.
    pub fn is_default(&self) -> bool {
        self.listens.iter().any(|listen| listen.is_default)
    }

    /// True if one of its addresses has no TLS.
    pub fn has_plain(&self) -> bool {
        self.listens.iter().any(|listen| !listen.is_tls)
    }
}
