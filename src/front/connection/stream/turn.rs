//! The turns of connections: one that always has something to do lets the others do theirs.
//!
//! A task that only wakes itself is polled again before the runtime asks the kernel what has
//! arrived, up to 61 times in a row; and each request of HTTP/2 is a task of its own, behind which a new connection
//! waits. So a connection reads few frames at a time where they are small, and then gives way until the runtime has looked.

use std::pin::pin;
use std::task::{Context, Poll};

use crate::front::protocol::http2::Cost;

/// Frames after which others have their turn: 0.3 ms of requests for small files.
const FRAMES: usize = 64;
/// Decoded bytes of header blocks that take as long as a frame.
const DECODED: usize = 4 << 10;
/// Bytes read at a time where frames are small: about as many frames as make a turn.
const SHORT: usize = 2 << 10;

/// Returns `Pending` once, and wakes the task when the others that are ready have had their turn, as well as those
/// for whom something has arrived meanwhile.
pub fn give_way<T>(context: &mut Context<'_>) -> Poll<T> {
    // Its first poll registers the task with the runtime.
    let _pending = pin!(tokio::task::yield_now()).poll(context);
    Poll::Pending
}

/// What a connection of HTTP/2 has caused since it gave way.
#[derive(Debug)]
pub struct FrameTurn {
    cost: usize,
    /// Many frames may come in few bytes.
    is_dense: bool,
}

impl Default for FrameTurn {
    fn default() -> Self {
        Self {
            cost: 0,
            is_dense: true,
        }
    }
}

impl FrameTurn {
    /// Counts received frames.
    pub fn add(&mut self, received: Cost) {
        let cost = received.frames + received.decoded / DECODED;
        self.is_dense = cost >= FRAMES / 2;
        self.cost += cost;
    }

    /// The most bytes to read next, of `room`.
    pub fn most(&self, room: usize) -> usize {
        if self.is_dense { room.min(SHORT) } else { room }
    }

    /// True if the turn is over; the next one begins then.
    pub fn is_over(&mut self) -> bool {
        let is_over = self.cost >= FRAMES;
        if is_over {
            self.cost = 0;
        }
        is_over
    }
}

#[test]
fn small_frames_and_large_heads_end_a_turn_and_bodies_do_not() {
    let mut turn = FrameTurn::default();
    let cost = |frames, decoded| Cost { frames, decoded };
    // What the first bytes are is not known.
    assert_eq!(turn.most(16_384), SHORT);
    for _ in 0..1000 {
        turn.add(cost(1, 200));
    }
    assert_eq!(turn.most(16_384), 16_384);
    assert!(turn.is_over() && !turn.is_over());
    turn.add(cost(0, 0));
    assert!(!turn.is_over());
    turn.add(cost(1, 600_000));
    assert_eq!(turn.most(16_384), SHORT);
    assert!(turn.is_over());
}

#[test]
fn who_gives_way_is_polled_again_behind_what_has_arrived() {
    use std::cell::RefCell;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let seen = RefCell::new(Vec::new());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (mut here, mut there) = tokio::net::UnixStream::pair().unwrap();
        let busy = async {
            here.write_all(b"x").await.unwrap();
            let mut turns = 0;
            std::future::poll_fn(|context| {
                turns += 1;
                match turns {
                    // Before the second turn the runtime looks, behind it the other has its own.
                    1 | 2 => give_way(context),
                    _ => Poll::Ready(()),
                }
            })
            .await;
            seen.borrow_mut().push("busy");
        };
        let waiting = async {
            there.read_u8().await.unwrap();
            seen.borrow_mut().push("waiting");
        };
        tokio::join!(busy, waiting);
    });
    assert_eq!(seen.into_inner(), ["waiting", "busy"]);
}
