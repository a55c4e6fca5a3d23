//! A response body that is sent at a limited rate, in bytes per second.
//!
//! As in nginx (`limit_rate`) the rate is that of the response as a whole: the first second's bytes
//! are sent at once, and a delay of the application may be caught up. Nothing is collected here:
//! faster bodies wait where every response waits for a slow client.

use std::io;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};

/// Number of times per second that a body continues once it has used up its rate.
const TURNS: u64 = 10;

/// The limited body. Boxed: it is rare and large.
pub struct LimitedBody<B> {
    body: B,
    allowance: Allowance,
    began: Instant,
    /// The rest of a part that was too long.
    rest: Bytes,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B> LimitedBody<B> {
    /// The body that is limited.
    pub fn body_mut(&mut self) -> &mut B {
        &mut self.body
    }

    /// Limits `body` to `rate` bytes per second.
    pub fn boxed(body: B, rate: NonZeroU64) -> Box<Self> {
        Box::new(Self {
            body,
            allowance: Allowance { rate, given: 0 },
            began: Instant::now(),
            rest: Bytes::new(),
            timer: None,
        })
    }

    /// The inner body.
    pub fn inner(&self) -> &B {
        &self.body
    }

    /// Number of bytes that may be sent now; waits where there would be few.
    fn poll_allowed(&mut self, context: &mut Context<'_>) -> Poll<u64> {
        loop {
            let wait = match self.allowance.after(self.began.elapsed(), self.rest.len()) {
                Ok(allowed) => return Poll::Ready(allowed),
                Err(wait) => wait,
            };
            let deadline = self.began + wait;
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            if timer.deadline() != deadline {
                timer.as_mut().reset(deadline);
            }
            ready!(timer.as_mut().poll(context));
        }
    }
}

/// The bytes that a rate allows. Pure: the time is an argument.
struct Allowance {
    /// Bytes per second.
    rate: NonZeroU64,
    given: u64,
}

impl Allowance {
    /// Number of bytes that may be sent at `elapsed` after the beginning, if `waiting` bytes are
    /// known to wait; zero is taken for many.
    ///
    /// # Errors
    /// The time, counted from the beginning, of the next attempt that is worth while.
    fn after(&self, elapsed: Duration, waiting: usize) -> Result<u64, Duration> {
        let rate = u128::from(self.rate.get());
        let earned = (elapsed + Duration::from_secs(1)).as_millis() * rate / 1000;
        let allowed = u64::try_from(earned)
            .unwrap_or(u64::MAX)
            .saturating_sub(self.given);
        let turn = (self.rate.get() / TURNS).max(1);
        let wanted = match waiting as u64 {
            0 => turn,
            waiting => turn.min(waiting),
        };
        if allowed >= wanted {
            return Ok(allowed);
        }
        let due = (u128::from(self.given) + u128::from(wanted)) * 1000;
        let due = u64::try_from(due.div_ceil(rate)).unwrap_or(u64::MAX);
        Err(Duration::from_millis(due.saturating_sub(1000)))
    }
}

impl<B: http_body::Body<Data = Bytes, Error = io::Error> + Unpin> http_body::Body
    for LimitedBody<B>
{
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let allowed = ready!(self.poll_allowed(context));
        let mut data = match self.rest.is_empty() {
            false => std::mem::take(&mut self.rest),
            true => match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                end => return Poll::Ready(end),
            },
        };
        let length = usize::try_from(allowed).map_or(data.len(), |most| most.min(data.len()));
        self.rest = data.split_off(length);
        self.allowance.given += length as u64;
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, inner) = (self.rest.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::body::Body;
    use http_body::Body as _;
    use http_body_util::BodyExt;
    use proptest::prelude::*;

    /// The pieces, with the milliseconds at which they are sent, of a body that never waits.
    fn given(bytes: u64, rate: u64) -> Vec<(u128, u64)> {
        let rate = NonZeroU64::new(rate).unwrap();
        let mut allowance = Allowance { rate, given: 0 };
        let (mut now, mut pieces) = (Duration::ZERO, Vec::new());
        while allowance.given < bytes {
            let left = bytes - allowance.given;
            match allowance.after(now, left as usize) {
                Ok(allowed) => {
                    let piece = allowed.min(left);
                    allowance.given += piece;
                    pieces.push((now.as_millis(), piece));
                }
                Err(later) => {
                    assert!(later > now, "a wait of no time never ends");
                    now = later;
                }
            }
        }
        pieces
    }

    #[test]
    fn a_second_s_bytes_go_at_once_and_the_rest_at_the_rate() {
        assert_eq!(
            given(1250, 1000),
            [(0, 1000), (100, 100), (200, 100), (250, 50)]
        );
        assert_eq!(given(1000, 1000), [(0, 1000)]);
        assert_eq!(given(3, 1), [(0, 1), (1000, 1), (2000, 1)]);
        assert_eq!(
            given(7, 3),
            [(0, 3), (334, 1), (667, 1), (1000, 1), (1334, 1)]
        );
        assert_eq!(given(5, u64::MAX), [(0, 5)]);
    }

    #[test]
    fn what_was_late_may_be_caught_up() {
        let rate = NonZeroU64::new(1000).unwrap();
        let allowance = Allowance { rate, given: 500 };
        assert_eq!(allowance.after(Duration::from_secs(3), 0), Ok(3500));
    }

    proptest! {
        #[test]
        fn no_rate_is_exceeded(bytes in 0u64..100_000, rate in 1000u64..) {
            let mut sum = 0;
            for (ms, piece) in given(bytes, rate) {
                sum += u128::from(piece);
                prop_assert!(sum * 1000 <= (ms + 1000) * u128::from(rate));
            }
        }
    }

    #[tokio::test]
    async fn the_bytes_are_those_of_the_body() {
        let bytes: Vec<u8> = (0..200_000u32).map(|number| number as u8).collect();
        let body = Body::Full(bytes.clone().into());
        let body = LimitedBody::boxed(body, NonZeroU64::new(150_000).unwrap());
        assert_eq!(body.size_hint().exact(), Some(200_000));
        let began = Instant::now();
        assert!(body.collect().await.unwrap().to_bytes() == bytes);
        assert!(began.elapsed() >= Duration::from_millis(330));
    }
}
