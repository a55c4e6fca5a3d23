//! Messages of the control socket: one line of JSON each way.
//!
//! ```text
//! {"order":"status"}
//! {"done":true,"text":"","status":{..}}
//! ```
//!
//! After an order to stop, the connection stays open until the server has exited.

use serde::{Deserialize, Serialize};

use crate::config::CommandLine;
use crate::observe::status::Status;

/// Most bytes of an order.
pub const LONGEST_ORDER: usize = 16 << 10;

/// An order of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "lowercase")]
pub enum Order {
    /// Report the status.
    Status,
    /// Report readiness.
    Health,
    /// Reload code and settings.
    Reload,
    /// Reload with this command line of uWSGI in the place of the server's own.
    Adopt(CommandLine),
    /// Set the number of workers of each application.
    Scale {
        /// Number of workers.
        workers: u32,
    },
    /// Report the stacks of the Python threads of all workers.
    Stacks,
    /// Turn maintenance mode on or off, or report it.
    Maintenance(MaintenanceOrder),
    /// Start the program again, or another one, and hand over to it.
    Upgrade {
        /// The absolute path of the other program, as [`crate::config::native::text`].
        to: Option<String>,
    },
    /// Stop gracefully.
    Stop,
}

/// An order about maintenance mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "switch", rename_all = "lowercase")]
pub enum MaintenanceOrder {
    /// Turn it on.
    On {
        /// The absolute path of the page, as [`crate::config::native::text`].
        page: Option<String>,
        /// Seconds of `Retry-After`.
        retry_after: u64,
        /// Networks and addresses of clients that are served.
        allow: Vec<String>,
    },
    /// Turn it off.
    Off,
    /// Report it.
    Status,
}

/// The server's response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ControlReply {
    /// True if the order was carried out; for [`Order::Health`], true if the server is ready.
    pub done: bool,
    /// A text for people.
    pub text: String,
    /// The answer to [`Order::Status`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

impl ControlReply {
    /// The response to an order that was carried out.
    pub fn done(text: impl Into<String>) -> Self {
        Self {
            done: true,
            text: text.into(),
            status: None,
        }
    }

    /// The response to an order that was not carried out.
    pub fn refused(text: impl Into<String>) -> Self {
        Self {
            done: false,
            ..Self::done(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_read_as_documented() {
        let order: Order = serde_json::from_str(r#"{"order":"status"}"#).unwrap();
        assert_eq!(order, Order::Status);
        let order = r#"{"order":"adopt","words":["--ini","a.ini"],"directory":"/srv"}"#;
        let adopt = Order::Adopt(CommandLine {
            words: vec!["--ini".to_owned(), "a.ini".to_owned()],
            directory: "/srv".to_owned(),
        });
        assert_eq!(serde_json::from_str::<Order>(order).unwrap(), adopt);
        let order = r#"{"order":"maintenance","switch":"off"}"#;
        let off = Order::Maintenance(MaintenanceOrder::Off);
        assert_eq!(serde_json::from_str::<Order>(order).unwrap(), off);
        assert!(serde_json::from_str::<Order>(r#"{"order":"dance"}"#).is_err());
        let reply = serde_json::to_string(&ControlReply::refused("no")).unwrap();
        assert_eq!(reply, r#"{"done":false,"text":"no"}"#);
    }
}
