//! What goes over the control socket: one line of JSON each way.
//!
//! ```text
//! {"order":"status"}
//! {"done":true,"text":"","status":{..}}
//! ```
//!
//! A client that asks for a stop finds the connection open until the server has ended.

use serde::{Deserialize, Serialize};

use crate::observe::status::Status;

/// Most bytes of an order.
pub const LONGEST_ORDER: usize = 4096;

/// What a client wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "lowercase")]
pub enum Order {
    /// Say how you are.
    Status,
    /// Say whether you can take requests.
    Health,
    /// Bring code and settings up anew.
    Reload,
    /// Run so many workers for each application.
    Scale {
        /// How many.
        workers: u32,
    },
    /// Say where the Python threads of all workers are.
    Stacks,
    /// Finish what is in flight, and end.
    Stop,
}

/// What the server says to that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ControlReply {
    /// True if it did as it was told; for [`Order::Health`], whether it is ready.
    pub done: bool,
    /// What there is to say about it, for people.
    pub text: String,
    /// The answer to [`Order::Status`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

impl ControlReply {
    /// It is done.
    pub fn done(text: impl Into<String>) -> Self {
        Self {
            done: true,
            text: text.into(),
            status: None,
        }
    }

    /// It is not.
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
        assert!(serde_json::from_str::<Order>(r#"{"order":"dance"}"#).is_err());
        let reply = serde_json::to_string(&ControlReply::refused("no")).unwrap();
        assert_eq!(reply, r#"{"done":false,"text":"no"}"#);
    }
}
