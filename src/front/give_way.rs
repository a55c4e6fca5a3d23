//! Turns of tasks that always have something to do.

use std::pin::pin;
use std::task::{Context, Poll};

/// Returns `Pending`, and has the task polled again when the others that are ready have had their turn, with those for
/// whom something has arrived meanwhile. One that only wakes itself is polled again up to 61 times in a row before the
/// runtime asks the kernel what has arrived.
pub fn give_way<T>(context: &mut Context<'_>) -> Poll<T> {
    // Its first poll registers the task with the runtime.
    let _pending = pin!(tokio::task::yield_now()).poll(context);
    Poll::Pending
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
