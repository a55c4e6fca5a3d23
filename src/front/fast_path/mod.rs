//! The express lane: files in memory, answered below hyper.
//!
//! hyper costs about as much for a small file as the kernel does for sending it. So while hyper
//! holds nothing of a connection ([`framing`](super::protocol::framing)), what arrives is looked at
//! first, and a plain request for a file in memory is answered at once ([`request`]): hyper, which
//! waits for bytes, does not notice. Everything else is read for it by [`super::connection::stream`].
//!
//! ```text
//! socket -> Stream::poll_between --plain, in memory--> at_once -> socket
//!                  `------------- else -------------> hyper
//! ```
//!
//! What must never happen:
//! - an answer while hyper has a request, a part of one, or something to write: it would come
//!   in front of what was asked before;
//! - a request whose end is seen elsewhere than hyper would see it; hence only requests
//!   without any body, and in doubt none;
//! - another answer than the long way gives; tests ask both for the same;
//! - a part of a response, and then something else: what a client does not take at once is
//!   finished first ([`Unsent`]), whatever else is to happen, the end of the server included.

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

/// What a connection needs for the express lane.
pub struct Express {
    sites: Arc<CurrentSite>,
    /// The end has been asked for: responses say `Connection: close`, which is hyper's.
    asked: CancellationToken,
    memo: ConnectionMemo,
    /// There are servers of HTTP behind us.
    spells: bool,
    /// The response that the client did not take at once.
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

impl Express {
    /// The lane of a connection that was just made.
    pub fn new(sites: Arc<CurrentSite>, asked: CancellationToken) -> Self {
        Self {
            sites,
            asked,
            memo: ConnectionMemo::default(),
            spells: false,
            unsent: None,
        }
    }

    /// True if servers behind us get header names as clients spell them.
    pub fn spells(&self) -> bool {
        self.spells
    }

    /// Answers the request with which `bytes` begin, with `head` and what is returned.
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
        self.spells = site.router.has_http_upstreams();
        let memo = &mut self.memo;
        let answer = AssertUnwindSafe(|| request::answer(&site, activity, bytes, memo, head));
        // On the long way a panic costs one request, and says which.
        std::panic::catch_unwind(answer).unwrap_or(Recognised::NotEligible)
    }

    /// Of a response, the client took so many bytes and no more.
    pub fn keep(
        &mut self,
        activity: &Arc<Activity>,
        head: &[u8],
        answer: AtOnce<'_>,
        taken: usize,
    ) {
        activity.express_is_sending(true);
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

    /// The client took so many bytes more. Whether there are none left.
    pub fn took(&mut self, activity: &Activity, bytes: usize) -> bool {
        let Some(unsent) = &mut self.unsent else {
            return true;
        };
        unsent.advance(bytes);
        if unsent.head.is_empty() && unsent.body.is_empty() {
            unsent.record.ends(unsent.status);
            self.unsent = None;
            activity.express_is_sending(false);
        }
        self.unsent.is_none()
    }
}

impl UnsentResponse {
    /// What is left of head and body.
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
