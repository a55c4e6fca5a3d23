//! Decides when the server closes a connection: at a timeout, at shutdown, or to make room for
//! others.

use std::time::Duration;

use crate::front::activity::{Activity, Deadlines, Overdue};

/// Time in which an HTTP/1 connection may still send a request when the server stops: it may be in
/// flight, or in the kernel already. Like nginx's `keepalive_min_timeout`.
pub const LAST_REQUEST: Duration = Duration::from_millis(250);

/// The next step of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Close at once.
    Close,
    /// Check again after this time.
    Wait(Duration),
    /// End after the responses in progress; check again after this time, if there is one.
    Finish(Option<Duration>),
}

/// The deadlines of one connection.
pub struct Timeouts<'a> {
    activity: &'a Activity,
    deadlines: &'a Deadlines,
    /// The server stops: the connection may send one more request.
    last_call: bool,
    /// A timeout has passed: the connection ends after its responses.
    warned: bool,
}

impl<'a> Timeouts<'a> {
    /// The state of a new connection.
    pub fn new(activity: &'a Activity, deadlines: &'a Deadlines) -> Self {
        Self {
            activity,
            deadlines,
            last_call: false,
            warned: false,
        }
    }

    /// Called when the time of [`Step::Wait`] has passed.
    pub fn fired(&mut self) -> Step {
        if self.activity.is_displaced() {
            return Step::Close;
        }
        let state = self.activity.overdue(self.deadlines);
        if self.last_call {
            // hyper does not know that a head has begun, and would close.
            if state.is_ok() && self.activity.awaits_rest_of_head() {
                return Step::Wait(LAST_REQUEST);
            }
            self.last_call = false;
            return Step::Finish(Some(self.deadlines.shortest()));
        }
        match state {
            Ok(left) => Step::Wait(left),
            Err(overdue) => self.overdue(overdue),
        }
    }

    fn overdue(&mut self, overdue: Overdue) -> Step {
        let peer = self.activity.ends.peer;
        let left = match overdue {
            Overdue::Head => {
                tracing::debug!(
                    peer = peer.map(display),
                    "connection closed: the head did not arrive in time"
                );
                return Step::Close;
            }
            Overdue::Send | Overdue::Idle if self.warned => {
                tracing::debug!(
                    peer = peer.map(display),
                    ?overdue,
                    "connection closed: the client timed out"
                );
                return Step::Close;
            }
            Overdue::Send => self.deadlines.send.grace,
            Overdue::Idle => self.deadlines.keepalive,
        };
        // HTTP/2 clients get a GOAWAY, and their other streams continue for a while; an
        // idle HTTP/1 connection ends by this.
        self.warned = true;
        Step::Finish(Some(left))
    }

    /// Called when the connection is to be drained.
    pub fn drained(&mut self) -> Step {
        if self.activity.is_displaced() {
            tracing::debug!(
                peer = self.activity.ends.peer.map(display),
                "connection closed to make room: its head is incomplete"
            );
            return Step::Close;
        }
        if self.activity.is_http2() {
            // The GOAWAY names the last request that was accepted.
            return Step::Finish(None);
        }
        // hyper would close without reading. A response ends the connection.
        self.last_call = true;
        Step::Wait(LAST_REQUEST)
    }
}
