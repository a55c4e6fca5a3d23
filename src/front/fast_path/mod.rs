//! The fast path: files in memory, answered below hyper.
//!
//! hyper costs about as much for a small file as the kernel does for sending it. So while hyper
//! holds nothing of a connection ([`framing`](super::protocol::framing)), new bytes are parsed
//! here first, and a plain request for a file in memory is answered at once ([`request`]); hyper
//! waits for bytes meanwhile. [`super::connection::stream`] reads everything else for hyper.
//!
//! ```text
//! socket -> Stream::poll_between --plain, in memory--> at_once -> socket
//!                  `------------- else -------------> hyper
//! ```
//!
//! What must never happen:
//! - a response while hyper has a request, a part of one, or something to write: it would
//!   overtake the response to an earlier request;
//! - a request whose end differs from the one that hyper would find; hence only requests without
//!   any body, and in doubt none;
//! - a response that differs from hyper's; tests send the same requests on both paths;
//! - other bytes in the middle of a response: the rest that a client does not take at once is
//!   sent first ([`UnsentResponse`]), even at the end of the server.

pub mod request;

use std::io::IoSlice;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use http::StatusCode;
use tokio_util::sync::CancellationToken;

use super::activity::{Activity, InUse};
use super::protocol::plain::Recognised;
use super::request::record::Record;
use super::site::CurrentSite;
use crate::front::fast_path::request::{AtOnce, ConnectionMemo};

/// The state of a connection for the fast path.
pub struct FastPath {
    sites: Arc<CurrentSite>,
    /// The shutdown has begun: responses carry `Connection: close`, which hyper adds.
    asked: CancellationToken,
    memo: ConnectionMemo,
    /// True if there are HTTP upstreams.
    keeps_case: bool,
    /// A response that the client did not take at once.
    pub unsent: Option<UnsentResponse>,
}

/// The rest of a response.
pub struct UnsentResponse {
    head: Bytes,
    body: Bytes,
    status: StatusCode,
    record: Record,
    /// Keeps the connection from being idle.
    #[expect(dead_code, reason = "lives as long as the request")]
    in_use: InUse,
}

impl FastPath {
    /// The state of a new connection.
    pub fn new(sites: Arc<CurrentSite>, asked: CancellationToken) -> Self {
        Self {
            sites,
            asked,
            memo: ConnectionMemo::default(),
            keeps_case: false,
            unsent: None,
        }
    }

    /// True if upstreams get header names in the client's case.
    pub fn keeps_case(&self) -> bool {
        self.keeps_case
    }

    /// Answers the request at the start of `bytes`; the response is `head` and the result.
    pub fn answer<'a>(
        &mut self,
        activity: &Activity,
        bytes: &'a [u8],
        head: &mut Vec<u8>,
    ) -> Recognised<AtOnce<'a>> {
        if self.asked.is_cancelled() {
            return Recognised::NotEligible;
        }
        head.clear();
        let site = self.sites.get();
        self.keeps_case = site.router.has_http_upstreams();
        let memo = &mut self.memo;
        let answer = AssertUnwindSafe(|| request::answer(&site, activity, bytes, memo, head));
        // In the full pipeline a panic fails one request, and is logged with it.
        std::panic::catch_unwind(answer).unwrap_or(Recognised::NotEligible)
    }

    /// Keeps the rest of a response of which the client took only `taken` bytes.
    pub fn keep(
        &mut self,
        activity: &Arc<Activity>,
        head: &[u8],
        answer: AtOnce<'_>,
        taken: usize,
    ) {
        activity.set_fast_path_sending(true);
        let status = answer.brief.status;
        let mut unsent = UnsentResponse {
            head: Bytes::copy_from_slice(head),
            body: answer.body,
            status,
            record: answer.brief.into_record(&answer.log),
            in_use: InUse::begin(activity, http::Version::HTTP_11),
        };
        unsent.advance(taken);
        self.unsent = Some(unsent);
    }

    /// The client took more bytes. True if none are left.
    pub fn took(&mut self, activity: &Activity, bytes: usize) -> bool {
        let Some(unsent) = &mut self.unsent else {
            return true;
        };
        unsent.advance(bytes);
        if unsent.head.is_empty() && unsent.body.is_empty() {
            unsent.record.ends(unsent.status);
            self.unsent = None;
            activity.set_fast_path_sending(false);
        }
        self.unsent.is_none()
    }
}

impl UnsentResponse {
    /// The rest of head and body.
    pub fn parts(&self) -> [IoSlice<'_>; 2] {
        [IoSlice::new(&self.head), IoSlice::new(&self.body)]
    }

    fn advance(&mut self, bytes: usize) {
        let of_head = bytes.min(self.head.len());
        self.head.advance(of_head);
        self.body.advance(bytes - of_head);
        self.record.sent((bytes - of_head) as u64);
    }
}
