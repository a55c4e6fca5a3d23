//! A pool with a worker that is played by the test.

use std::io::Write;
use std::os::unix::net::UnixStream;

use bytes::Bytes;
use http::StatusCode;
use pyserve_wire::frames::{self, Head, REQUEST_HEADER, ReplyKind};
use rustix::net::SocketType;

use super::*;
use crate::front::upstream::RequestBody;
use crate::os::sockets;

/// A pool with one worker of one thread, and the worker's end of its channel.
async fn pool() -> (Pool, Generation, UnixStream) {
    let (reports, mut heard) = mpsc::unbounded_channel();
    let limits = Limits {
        queue: 1,
        queue_timeout: Duration::from_secs(60),
    };
    let pool = Pool::new(0, limits, TaskTracker::new(), reports);
    let size = Size {
        slots: 1,
        threads: 1,
    };
    let generation = pool.generation(0, size, None).unwrap();
    pool.switch(&generation);
    let (ours, theirs) = sockets::pair(SocketType::STREAM).unwrap();
    let (orders, _obeyed) = sockets::pair(SocketType::SEQPACKET).unwrap();
    generation.attach(0, vec![ours], orders).unwrap();
    let mut worker = UnixStream::from(theirs);
    let mut ready = Vec::new();
    frames::push_reply(&mut ready, ReplyKind::Ready, 0, 0, b"");
    worker.write_all(&ready).unwrap();
    assert!(matches!(
        heard.recv().await,
        Some(Report {
            event: Event::Ready { worker: 0, .. },
            ..
        })
    ));
    (pool, generation, worker)
}

#[tokio::test]
async fn an_answer_that_nobody_has_heard_of_when_its_worker_is_gone_is_no_loss() {
    let (pool, generation, mut worker) = pool().await;
    let request = Request {
        message: vec![0; REQUEST_HEADER],
        body: RequestBody::Memory(Bytes::new()),
    };
    let calling = pool.clone();
    let call =
        tokio::spawn(async move { calling.call(request, Arc::new(Identity::default())).await });
    let mut message = [0; 4096];
    let [queue, _] = generation.descriptors();
    let length = loop {
        tokio::task::yield_now().await;
        if let Ok(length) = sockets::receive(queue, &mut message) {
            break length;
        }
    };
    let header = frames::read_request(&message[..length]).unwrap().header;
    let board = generation.0.scoreboard();
    assert!(board.take(header.entry as usize, header.seq, 0));

    // From here on the runtime does not look for events before the worker is gone.
    let mut head = Vec::new();
    frames::push_head(
        &mut head,
        &Head {
            status: 200,
            reason: b"OK",
            fields: &[],
        },
    )
    .unwrap();
    let mut answer = Vec::new();
    frames::push_reply(&mut answer, ReplyKind::Head, header.seq, 0, &head);
    frames::push_reply(&mut answer, ReplyKind::End, header.seq, 0, b"");
    worker.write_all(&answer).unwrap();
    generation.worker_exited(0);
    let response = call.await.unwrap().unwrap();
    assert_eq!(response.status, StatusCode::OK);
}
