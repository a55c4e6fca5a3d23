//! A pool with a worker that is simulated by the test.

use std::os::unix::net::UnixStream;

use bytes::Bytes;
use http::StatusCode;
use pyserve_wire::frames::{self, REQUEST_HEADER, ReplyHeadFrame, ReplyKind};
use rustix::net::SocketType;

use super::*;
use crate::front::body::request::RequestBody;
use crate::os::{memory, sockets};

/// A pool with one worker of one thread that has not reported anything yet.
struct Scene {
    pool: Pool,
    generation: Generation,
    /// The worker's end of its channel.
    worker: UnixStream,
    replies: Arc<ReplyMemory>,
    reports: mpsc::UnboundedReceiver<Report>,
}

impl Scene {
    fn new() -> Self {
        let (sender, reports) = mpsc::unbounded_channel();
        let limits = QueueLimits {
            queue: 1,
            queue_timeout: Duration::from_secs(60),
            short_first: true,
        };
        let pool = Pool::new(0, limits, TaskTracker::new(), sender);
        let size = Size {
            slots: 1,
            threads: 1,
        };
        let generation = pool.generation(0, size, None).unwrap();
        pool.switch(&generation);
        let (ours, theirs) = sockets::pair(SocketType::STREAM).unwrap();
        let (orders, _obeyed) = sockets::pair(SocketType::SEQPACKET).unwrap();
        let replies = Arc::new(ReplyMemory::new(1).unwrap());
        generation.attach(0, vec![ours], &replies, orders).unwrap();
        Self {
            pool,
            generation,
            worker: theirs.into(),
            replies,
            reports,
        }
    }

    fn say(&mut self, kind: ReplyKind, seq: u64, payload: &[u8]) {
        let mut frame = Vec::new();
        frames::push_reply(&mut frame, kind, seq, 0, payload);
        let replies = self.replies.replies();
        assert_eq!(replies.ring(0).write(&frame, memory::copy_in), frame.len());
        if replies.must_wake() {
            let bell = self.generation.doorbell();
            rustix::io::write(bell, &1_u64.to_ne_bytes()).unwrap();
        }
    }
}

#[tokio::test]
async fn a_worker_that_is_gone_when_it_is_heard_to_be_ready_is_not() {
    let mut scene = Scene::new();
    scene.say(ReplyKind::Ready, 0, b"");
    scene.generation.worker_exited(0);
    drop(scene.worker);
    let (generation, mut reports) = (scene.generation, scene.reports);
    // The channel is read to its end: then its reader, and with it the last sender, are gone.
    generation.close();
    drop((scene.pool, generation));
    assert!(reports.recv().await.is_none());
}

#[tokio::test]
async fn an_answer_that_nobody_has_heard_of_when_its_worker_is_gone_is_no_loss() {
    let mut scene = Scene::new();
    scene.say(ReplyKind::Ready, 0, b"");
    let heard = scene.reports.recv().await.map(|report| report.event);
    assert!(matches!(heard, Some(WorkerEvent::Ready { worker: 0, .. })));
    let request = Request {
        message: vec![0; REQUEST_HEADER],
        body: RequestBody::Memory(Bytes::new()),
    };
    let calling = scene.pool.clone();
    let call = tokio::spawn(async move {
        calling
            .call(request, Arc::new(RequestLabel::default()), None)
            .await
    });
    let queue = scene.generation.0.queue().unwrap();
    let handed = loop {
        tokio::task::yield_now().await;
        if let Some(handed) = queue.ring().pop() {
            break handed;
        }
    };
    let board = scene.generation.0.scoreboard();
    assert!(board.take(handed.entry, handed.seq, 0));
    let header = queue.ring().header(handed.entry).unwrap();
    assert_eq!(header.seq, handed.seq);

    // From here on the runtime does not poll for events before the worker is gone.
    let mut head = Vec::new();
    frames::push_head(
        &mut head,
        &ReplyHeadFrame {
            status: 200,
            reason: b"OK",
            fields: &[],
        },
    )
    .unwrap();
    scene.say(ReplyKind::Head, header.seq, &head);
    scene.say(ReplyKind::End, header.seq, b"");
    scene.generation.worker_exited(0);
    let response = call.await.unwrap().unwrap();
    assert_eq!(response.status, StatusCode::OK);
}
