//! The turn of a connection of HTTP/2: each of its requests is a task, behind which the other connections wait. So it
//! reads few frames at a time where they are small, and then [gives way](crate::front::give_way).

use std::task::{Context, Poll, ready};

use crate::front::connection::wakeups::Wakeups;
use crate::front::give_way::give_way;
use crate::front::protocol::http2::Cost;

/// Frames after which others have their turn: 0.1 ms of requests for small files.
const FRAMES: usize = 16;
/// Decoded bytes of header blocks that take as long as a frame.
const DECODED: usize = 4 << 10;
/// Bytes read at a time where frames are small: about as many frames as make a turn.
const SHORT: usize = 512;
/// Bytes of a small frame, on average.
const SMALL: usize = 1 << 10;

/// The frames of a connection of HTTP/2 since it gave way.
pub struct FrameTurn {
    cost: usize,
    /// Its own requests wake the task in the meantime.
    others: Option<Wakeups>,
    /// Many frames may come in few bytes.
    is_dense: bool,
}

impl Default for FrameTurn {
    fn default() -> Self {
        Self {
            cost: 0,
            others: None,
            is_dense: true,
        }
    }
}

impl FrameTurn {
    /// Counts the frames in so many received bytes.
    pub fn add(&mut self, received: Cost, bytes: usize) {
        let cost = received.frames + received.decoded / DECODED;
        // Few bytes without a frame tell nothing.
        if cost > 0 || bytes > SHORT / 2 {
            self.is_dense = cost * SMALL > bytes;
        }
        self.cost += cost;
    }

    /// The most bytes to read next, of `room`.
    pub fn most(&self, room: usize) -> usize {
        if self.is_dense { room.min(SHORT) } else { room }
    }

    /// Waits at the end of a turn until the others have had theirs.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.cost >= FRAMES {
            let mut has_given_way = self.others.is_some();
            let others = self.others.get_or_insert_default();
            ready!(others.poll(context, |context| {
                match std::mem::replace(&mut has_given_way, true) {
                    true => Poll::Ready(()),
                    false => give_way(context),
                }
            }));
            self.others = None;
            self.cost = 0;
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(costs: &[(usize, usize)]) -> FrameTurn {
        let mut turn = FrameTurn::default();
        for &(frames, decoded) in costs {
            turn.add(Cost { frames, decoded }, SHORT);
        }
        turn
    }

    fn is_over(turn: &mut FrameTurn) -> bool {
        let context = &mut Context::from_waker(std::task::Waker::noop());
        turn.poll(context).is_pending()
    }

    #[test]
    fn small_frames_and_large_heads_end_a_turn_and_bodies_do_not() {
        // What the first bytes are is not known.
        assert_eq!(turn(&[]).most(16_384), SHORT);
        let mut bodies = turn(&[(0, 0); 1000]);
        assert_eq!(bodies.most(16_384), 16_384);
        assert!(!is_over(&mut bodies));
        let mut pings = turn(&[(FRAMES - 1, 0)]);
        assert_eq!(pings.most(16_384), SHORT);
        assert!(!is_over(&mut pings));
        assert!(is_over(&mut turn(&[(1, 200); FRAMES])));
        assert!(is_over(&mut turn(&[(1, 600_000)])));
    }

    #[test]
    fn other_wake_ups_do_not_begin_the_next_turn() {
        let mut turn = turn(&[(FRAMES, 0)]);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let twice = std::future::poll_fn(|context| {
                let polls = [turn.poll(context), turn.poll(context)];
                Poll::Ready(polls.map(|poll| poll.is_pending()))
            });
            assert_eq!(twice.await, [true, true]);
            tokio::task::yield_now().await;
            let next = std::future::poll_fn(|context| Poll::Ready(turn.poll(context).is_ready()));
            assert!(next.await);
            assert_eq!(turn.cost, 0);
        });
    }
}
