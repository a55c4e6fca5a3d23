//! Tests of both ends of a response body.

use super::budget::{ALL_RESPONSES, PER_RESPONSE, WHEN_SHORT};
use super::*;
use crate::config::SpoolLimits;
use crate::front::body::response_spool::ResponseSpool;
use crate::front::client_limits::memory_budget::Account;
use crate::front::sendfile::file_pool::FilePool;
use http_body_util::BodyExt;
use std::sync::atomic::{AtomicBool, Ordering};

fn streamed() -> (BodySender, ResponseBody, Arc<AtomicBool>) {
    let abandoned = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&abandoned);
    let (feed, body) =
        ResponseBody::streamed(Arc::default(), move || flag.store(true, Ordering::Relaxed));
    (feed, body, abandoned)
}

#[tokio::test]
async fn pieces_arrive_in_order_and_the_end_is_clean() {
    let (feed, body, abandoned) = streamed();
    assert!(feed.push(Bytes::from_static(b"one ")));
    assert!(feed.push(Bytes::from_static(b"two")));
    feed.end(Ok(()), Duration::from_millis(3));
    assert_eq!(body.collect().await.unwrap().to_bytes(), "one two");
    assert!(!abandoned.load(Ordering::Relaxed));
}

#[tokio::test]
async fn a_broken_response_ends_in_an_error() {
    let (feed, body, _) = streamed();
    feed.push(Bytes::from_static(b"half"));
    feed.end(Err("cut"), Duration::ZERO);
    assert_eq!(rest(body).await, (b"half".to_vec(), Some("cut".into())));
}

#[tokio::test]
async fn a_break_waits_until_the_connection_has_sent_what_it_holds() {
    let (feed, mut body, _) = streamed();
    feed.push(Bytes::from_static(b"half"));
    feed.end(Err("cut"), Duration::ZERO);
    let held = body.frame().await.unwrap().unwrap();
    let mut end = Box::pin(body.frame());
    assert!(futures_now(end.as_mut()).is_none());
    drop(held);
    assert!(futures_now(end.as_mut()).unwrap().unwrap().is_err());
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_and_frees_its_memory() {
    let (feed, body, abandoned) = streamed();
    feed.push(Bytes::from(vec![0; PER_RESPONSE + 1]));
    drop(body);
    feed.room().await;
    assert!(!feed.push(Bytes::from_static(b"more")));
    assert!(abandoned.load(Ordering::Relaxed));
    assert_eq!(feed.0.budget.used(), 0);
}

#[tokio::test]
async fn a_full_buffer_waits_for_the_client() {
    let (feed, mut body, _) = streamed();
    feed.push(Bytes::from(vec![0; PER_RESPONSE + 1]));
    let mut room = Box::pin(feed.room());
    assert!(futures_now(room.as_mut()).is_none());
    body.frame().await.unwrap().unwrap();
    assert!(futures_now(room.as_mut()).is_some());
}

fn spool(directory: &std::path::Path, each: u64) -> ClientSpool {
    let limits = SpoolLimits {
        each,
        total: 2 * each,
    };
    let directory = directory.to_owned();
    let spool = ResponseSpool::new(directory, FilePool::new(2), limits, Arc::default());
    ClientSpool {
        spool: Arc::new(spool),
        account: Arc::new(Account::of_address()),
    }
}

fn numbered(block: usize) -> Bytes {
    Bytes::from((block as u64).to_le_bytes().repeat(8 << 10))
}

/// Feeds blocks until the sender has to wait for the client or all are fed; returns their number.
async fn feed_while_taken(feed: &BodySender, from: usize, to: usize) -> usize {
    for block in from..to {
        assert!(feed.push(numbered(block)));
        let patience = Duration::from_millis(500);
        if tokio::time::timeout(patience, feed.room()).await.is_err() {
            return block + 1;
        }
    }
    feed.end(Ok(()), Duration::ZERO);
    to
}

/// Reads to the end without keeping frames, as a connection does.
async fn rest(mut body: ResponseBody) -> (Vec<u8>, Option<String>) {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes.extend_from_slice(&frame.into_data().unwrap()),
            Err(error) => return (bytes, Some(error.to_string())),
        }
    }
    (bytes, None)
}

async fn check_rest(body: ResponseBody, blocks: usize) {
    let (bytes, error) = rest(body).await;
    assert_eq!(error, None);
    let expected: Vec<u8> = (0..blocks).flat_map(numbered).collect();
    assert!(bytes == expected, "{} bytes", bytes.len());
}

#[tokio::test]
async fn what_a_client_does_not_take_goes_to_a_file_and_comes_back_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let (feed, body, _) = streamed();
    let spool = spool(directory.path(), 1 << 30);
    body.buffer(Buffering::Spool(spool.clone()));
    assert_eq!(feed_while_taken(&feed, 0, 100).await, 100);
    assert!(spool.spool.used() > 80 * 65_536, "{}", spool.spool.used());
    assert!(feed.0.budget.used() <= WHEN_SHORT);
    check_rest(body, 100).await;
    assert_eq!(spool.spool.used(), 0);
    assert_eq!(feed.0.budget.used(), 0);
}

#[tokio::test]
async fn memory_of_a_write_that_is_abandoned_is_returned() {
    let directory = tempfile::tempdir().unwrap();
    let files = FilePool::new(1);
    let (release, released) = std::sync::mpsc::channel::<()>();
    let busy = files.clone();
    let disk = tokio::spawn(async move { busy.run(move || released.recv()).await });
    tokio::task::yield_now().await;
    let limits = SpoolLimits {
        each: 1 << 30,
        total: 1 << 30,
    };
    let spool = ResponseSpool::new(directory.path().into(), files, limits, Arc::default());
    let (feed, body, _) = streamed();
    body.buffer(Buffering::Spool(ClientSpool {
        spool: Arc::new(spool),
        account: Arc::new(Account::of_address()),
    }));
    assert!(feed.push(Bytes::from(vec![0; PER_RESPONSE + 1])));
    let mut room = Box::pin(feed.room());
    while feed.0.lock().writing == 0 {
        assert!(futures_now(room.as_mut()).is_none());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(feed.0.budget.used(), PER_RESPONSE + 1);
    // The client leaves, and its exchange is dropped in the middle of the write.
    drop((room, body));
    assert_eq!(feed.0.budget.used(), 0);
    release.send(()).unwrap();
    disk.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_keeps_up_never_has_anything_in_a_file() {
    let (feed, mut body, _) = streamed();
    let spool = spool(std::path::Path::new("/nonexistent"), 1 << 30);
    body.buffer(Buffering::Spool(spool.clone()));
    for block in 0..100 {
        feed.push(numbered(block));
        let mut room = Box::pin(feed.room());
        while futures_now(room.as_mut()).is_none() {
            body.frame().await.unwrap().unwrap();
        }
    }
    assert_eq!(spool.spool.used(), 0);
}

#[tokio::test]
async fn the_upstream_waits_where_the_file_may_not_grow() {
    let directory = tempfile::tempdir().unwrap();
    let (feed, body, _) = streamed();
    body.buffer(Buffering::Spool(spool(directory.path(), 1 << 20)));
    let fed = feed_while_taken(&feed, 0, 100).await;
    assert!((16..40).contains(&fed), "{fed}");
    let feeding = tokio::spawn(async move { feed_while_taken(&feed, fed, 100).await });
    check_rest(body, 100).await;
    assert_eq!(feeding.await.unwrap(), 100);
}

#[tokio::test]
async fn the_upstream_waits_where_the_disk_refuses_and_nothing_is_lost() {
    let (feed, body, _) = streamed();
    let nowhere = std::path::Path::new("/nonexistent");
    body.buffer(Buffering::Spool(spool(nowhere, 1 << 30)));
    let fed = feed_while_taken(&feed, 0, 100).await;
    assert!(fed < 10, "{fed}");
    feed.end(Ok(()), Duration::ZERO);
    check_rest(body, fed).await;
}

/// Responses of two independent upstreams.
#[tokio::test]
async fn all_responses_together_have_one_memory() {
    let budget = Arc::new(Budget::default());
    let mut held = Vec::new();
    let mut held_by_next = async || {
        let (feed, body) = ResponseBody::streamed(Arc::clone(&budget), || {});
        let before = budget.used();
        loop {
            feed.push(Bytes::from(vec![0; 16 << 10]));
            if futures_now(std::pin::pin!(feed.room())).is_none() {
                break;
            }
        }
        held.push((feed, body));
        budget.used() - before
    };
    // Each uses its full limit until half is used up, then less, and in the end nothing but the
    // piece that has arrived already.
    let piece = 16 << 10;
    assert_eq!(held_by_next().await, PER_RESPONSE + piece);
    while budget.used() <= ALL_RESPONSES / 2 {
        held_by_next().await;
    }
    assert_eq!(held_by_next().await, WHEN_SHORT + piece);
    while budget.used() <= ALL_RESPONSES {
        held_by_next().await;
    }
    assert_eq!(held_by_next().await, piece);
    let (feed, mut body) = held.swap_remove(0);
    assert!(futures_now(std::pin::pin!(feed.room())).is_none());
    // Clients that read, or disconnect, make room for others.
    body.frame().await.unwrap().unwrap();
    drop((feed, body, held));
    assert_eq!(budget.used(), 0);
}

#[test]
fn applications_and_servers_behind_share_the_memory_of_the_process() {
    assert!(Arc::ptr_eq(&Budget::of_process(), &Budget::of_process()));
}

#[tokio::test]
async fn without_buffering_the_upstream_waits_for_each_piece_to_be_taken() {
    let (feed, mut body, _) = streamed();
    body.buffer(Buffering::Off);
    feed.push(numbered(0));
    let mut room = Box::pin(feed.room());
    assert!(futures_now(room.as_mut()).is_none());
    body.frame().await.unwrap().unwrap();
    assert!(futures_now(room.as_mut()).is_some());
}

#[tokio::test]
async fn a_break_is_told_after_what_is_in_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let (feed, body, _) = streamed();
    body.buffer(Buffering::Spool(spool(directory.path(), 1 << 30)));
    for block in 0..50 {
        feed.push(numbered(block));
        feed.room().await;
    }
    feed.end(Err("the worker died"), Duration::ZERO);
    let (bytes, error) = rest(body).await;
    assert_eq!(bytes.len(), 50 * 65_536);
    assert_eq!(error.as_deref(), Some("the worker died"));
}

fn futures_now<T>(future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

#[tokio::test]
async fn a_piece_for_want_of_memory_keeps_no_part_of_a_longer_one() {
    let (feed, mut body, _) = streamed();
    let long: Vec<u8> = (0..BLOCK).map(|at| (at % 251) as u8).collect();
    let chunk = Bytes::from(long.clone());
    let memory = chunk.as_ptr_range();
    feed.push(chunk);
    feed.end(Ok(()), Duration::ZERO);
    body.read_in_parts_of(1000);
    let mut sent = Vec::new();
    while let Some(frame) = body.frame().await {
        let piece = frame.unwrap().into_data().unwrap();
        assert!(piece.len() <= 1000 && !memory.contains(&piece.as_ptr()));
        sent.extend_from_slice(&piece);
    }
    assert!(sent == long);
    assert_eq!(feed.0.budget.used(), 0);
}
