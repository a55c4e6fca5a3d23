//! Limits on cheap frames of HTTP/2, as credit that a client earns and uses up.
//!
//! - Frames that ask for nothing: PING, SETTINGS, WINDOW_UPDATE, PRIORITY and frames of unknown
//!   types cost their sender nothing and the server some work each; h2 limits none of them (RFC
//!   9113 §10.5 leaves it to servers). Whatever clients answer by such frames earns credit: the
//!   start of a request, and every piece of a response that is sent.
//! - Streams that the client makes the server reset (CVE-2025-8671), and requests that are refused
//!   because they are malformed or too large, which ends a connection of HTTP/1 at the first: time
//!   alone earns credit. h2 counts resets over the life of a connection, which ends the connections of balancers.
//! - Requests that the client withdraws before their response begins (CVE-2023-44487): time alone
//!   earns credit. h2 limits only those that wait to be seen.

use std::time::{Duration, Instant};

use super::frames::{CONTINUATION, DATA, END_STREAM, FrameHeader, HEADERS, code};

/// Most credit for frames. nginx allows 8 MiB of them, nghttp2 and Envoy 1,000 responses that wait
/// for the client.
const MOST_CREDIT: u32 = 1000;
/// Credit earned by a request, or by a piece of a response: a client may answer a piece with a
/// WINDOW_UPDATE for the stream, one for the connection and a PING to measure. Envoy's number.
const EARNED: u32 = 10;
/// Credit earned per second: clients check every ten seconds or so that the connection is alive.
const EARNED_PER_SECOND: u32 = 10;
/// Streams that a client may make the server reset at once: the number of concurrent streams.
const MOST_RESETS: u32 = 128;
/// Resets earned per second. A client that is disconnected at each of them causes no more work than
/// it could without them.
const RESETS_PER_SECOND: u32 = 10;

/// Requests that a client may withdraw at once, and those earned per second: maps and lists that
/// are scrolled withdraw dozens at a time. nghttp2 allows 1,000 and 33.
const MOST_WITHDRAWN: u32 = 1000;
const WITHDRAWN_PER_SECOND: u32 = 100;

/// The remaining credit of each kind.
#[derive(Debug)]
pub struct Credit {
    frames: Account,
    /// `None`: the peer is trusted, and carries the streams of many clients.
    resets: Option<Account>,
    /// Likewise.
    withdrawn: Option<Account>,
    is_overdrawn: bool,
}

impl Credit {
    /// The credit of a new connection.
    pub fn new(is_trusted: bool, now: Instant) -> Self {
        Self {
            frames: Account::new(MOST_CREDIT, EARNED_PER_SECOND, now),
            resets: (!is_trusted).then(|| Account::new(MOST_RESETS, RESETS_PER_SECOND, now)),
            withdrawn: (!is_trusted)
                .then(|| Account::new(MOST_WITHDRAWN, WITHDRAWN_PER_SECOND, now)),
            is_overdrawn: false,
        }
    }

    /// Records a received frame; `false`: it costs credit, and none is left.
    pub fn received(&mut self, head: FrameHeader, now: impl FnOnce() -> Instant) -> bool {
        match head.kind {
            HEADERS => self.frames.earn(EARNED),
            // A body continues or ends; or a head does, whose frames are counted elsewhere.
            DATA if head.length > 0 || head.has(END_STREAM) => {}
            CONTINUATION => {}
            _ => return self.frames.spend(now),
        }
        true
    }

    /// Records a sent frame; with the error code of a reset.
    pub fn sent(&mut self, head: FrameHeader, error: Option<u32>, now: impl Fn() -> Instant) {
        if head.kind == DATA && head.length > 0 {
            self.frames.earn(EARNED);
        }
        // The others are the server's: a response before the end of the request, or one that
        // failed.
        let is_of_the_client = matches!(
            error.and_then(|code| u8::try_from(code).ok()),
            Some(
                code::PROTOCOL_ERROR
                    | code::FLOW_CONTROL_ERROR
                    | code::STREAM_CLOSED
                    | code::FRAME_SIZE_ERROR
                    | code::REFUSED_STREAM
            )
        );
        if is_of_the_client {
            self.refused(1, now);
        }
    }

    /// Records refused requests, which count as streams that the client has made the server reset.
    pub fn refused(&mut self, count: u32, now: impl Fn() -> Instant) {
        self.is_overdrawn |= overdraws(&mut self.resets, count, now);
    }

    /// Records requests that the client has withdrawn before their response began.
    pub fn withdrawn(&mut self, count: u32, now: impl Fn() -> Instant) {
        self.is_overdrawn |= overdraws(&mut self.withdrawn, count, now);
    }

    /// True if the client has withdrawn too many requests, or made the server reset or refuse too
    /// many streams.
    pub fn is_overdrawn(&self) -> bool {
        self.is_overdrawn
    }
}

/// Spends so much of an account; true if it had less. Trusted peers have none.
fn overdraws(account: &mut Option<Account>, count: u32, now: impl Fn() -> Instant) -> bool {
    let account = account.as_mut();
    account.is_some_and(|account| (0..count).any(|_| !account.spend(&now)))
}

#[derive(Debug)]
struct Account {
    left: u32,
    most: u32,
    per_second: u32,
    counted: Instant,
}

impl Account {
    fn new(most: u32, per_second: u32, now: Instant) -> Self {
        Self {
            left: most,
            most,
            per_second,
            counted: now,
        }
    }

    fn earn(&mut self, count: u32) {
        self.left = (self.left + count).min(self.most);
    }

    /// The clock is read only when no credit is left.
    fn spend(&mut self, now: impl FnOnce() -> Instant) -> bool {
        if self.left == 0 {
            self.left = self.earned_by_time(now());
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    /// In whole units.
    fn earned_by_time(&mut self, now: Instant) -> u32 {
        let unit = Duration::from_secs(1) / self.per_second;
        let passed = now.saturating_duration_since(self.counted);
        let units = (passed.as_nanos() / unit.as_nanos()).min(u128::from(self.most)) as u32;
        if units > 0 {
            self.counted = now;
        }
        units
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::protocol::http2::frames::RST_STREAM;

    const PING: u8 = 6;
    const CANCEL: u32 = 8;
    const FLOW_CONTROL_ERROR: u32 = 3;

    fn head(kind: u8) -> FrameHeader {
        FrameHeader {
            length: 8,
            kind,
            flags: 0,
            stream: 1,
        }
    }

    /// Number of resets with `code` accepted, one each `pause`, up to 20,000.
    fn resets(is_trusted: bool, error: u32, pause: Duration) -> usize {
        let mut now = Instant::now();
        let mut credit = Credit::new(is_trusted, now);
        let each = (0..20_000).take_while(|_| {
            now += pause;
            credit.sent(head(RST_STREAM), Some(error), || now);
            !credit.is_overdrawn()
        });
        each.count()
    }

    #[test]
    fn time_earns_a_little() {
        let start = Instant::now();
        let mut credit = Credit::new(false, start);
        // One each ten seconds for a week, and a thousand at once at the end.
        for tens in 0..60_480 {
            let now = start + Duration::from_secs(10 * tens);
            assert!(credit.received(head(PING), || now));
        }
        let now = start + Duration::from_secs(604_800);
        assert!((0..999).all(|_| credit.received(head(PING), || now)));
        // Twelve a second are too many in the long run.
        let mut credit = Credit::new(false, start);
        let at = |twelfths: u32| start + Duration::from_secs(1) * twelfths / 12;
        let taken = (0..).take_while(|twelfths| credit.received(head(PING), || at(*twelfths)));
        let taken = taken.take(100_000).count();
        assert!((5900..=6000).contains(&taken), "{taken}");
    }

    #[test]
    fn resets_are_counted_by_their_rate() {
        let second = Duration::from_secs(1);
        assert_eq!(resets(false, FLOW_CONTROL_ERROR, Duration::ZERO), 128);
        assert_eq!(resets(false, FLOW_CONTROL_ERROR, second), 20_000);
        assert_eq!(resets(false, FLOW_CONTROL_ERROR, second / 9), 20_000);
        let fast = resets(false, FLOW_CONTROL_ERROR, second / 20);
        assert!((200..300).contains(&fast), "{fast}");
    }

    #[test]
    fn withdrawn_requests_have_a_larger_credit() {
        let now = Instant::now();
        let mut credit = Credit::new(false, now);
        credit.withdrawn(1000, || now);
        assert!(!credit.is_overdrawn());
        credit.withdrawn(100, || now + Duration::from_secs(1));
        assert!(!credit.is_overdrawn());
        credit.withdrawn(1, || now + Duration::from_secs(1));
        assert!(credit.is_overdrawn());
        let mut trusted = Credit::new(true, now);
        trusted.withdrawn(10_000, || now);
        assert!(!trusted.is_overdrawn());
    }

    #[test]
    fn refused_requests_count_as_resets() {
        let now = Instant::now();
        let mut credit = Credit::new(false, now);
        credit.refused(128, || now);
        assert!(!credit.is_overdrawn());
        credit.refused(1, || now);
        assert!(credit.is_overdrawn());
        let mut trusted = Credit::new(true, now);
        trusted.refused(1000, || now);
        assert!(!trusted.is_overdrawn());
    }

    #[test]
    fn resets_of_trusted_peers_and_our_own_are_not_counted() {
        assert_eq!(resets(true, FLOW_CONTROL_ERROR, Duration::ZERO), 20_000);
        assert_eq!(resets(false, CANCEL, Duration::ZERO), 20_000);
    }
}
