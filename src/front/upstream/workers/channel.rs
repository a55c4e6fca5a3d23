//! Reads the replies of one worker thread and delivers each to the call that waits for it.
//!
//! A response that is complete when its head is read (the usual case: worker threads send page and
//! end in one write) is delivered whole; any other is delivered with its head and then streamed
//! piece by piece, see [`crate::front::body::response_stream`].

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pyserve_wire::control::Loaded;
use pyserve_wire::frames::{self, ReplyKind};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use super::WorkerEvent;
use super::doorbell::Inbox;
use super::head;
use super::progress::Progress;
use super::worker_set::GenerationState;
use crate::front::body::response_stream::{BodySender, ResponseBody};
use crate::front::client_limits::memory_budget::SMALL;
use crate::front::upstream::compact::compact;
use crate::front::upstream::{Failure, Response};
use crate::observe::codes;
use crate::os::sockets;

/// Most bytes of a read: a typical page with its frames, or the longest piece of a body.
const READ: usize = frames::BODY_PIECE + (4 << 10);
/// Longest time between the end of a channel and the exit of its worker, which runs the functions of
/// `atexit` meanwhile, unless the worker was asked to leave.
const LAST_EXIT: Duration = Duration::from_secs(5);
/// Length of an allocation from which parts of it are copied, so that they do not keep all of it.
const KEEP: usize = 32 << 10;

/// The ring and the channel of one thread, and the state of the reply on it.
pub(super) struct Channel {
    shared: Arc<GenerationState>,
    worker: u32,
    thread: usize,
    /// Cancelled when the worker has exited.
    exited: CancellationToken,
    /// The ring of the thread.
    inbox: Arc<Inbox>,
    /// Bytes read from it.
    read: u64,
    /// Brings the descriptors of files, and the end of the thread.
    socket: UnixStream,
    /// Nothing more will be written.
    is_over: bool,
    /// Bytes copied out of the ring whose frames have not been taken. It has no room while it is
    /// empty: each burst becomes the allocation of its response.
    buffer: Vec<u8>,
    /// Length of the allocation that holds the frames being taken.
    burst: usize,
    /// Descriptors received, whose frames have not been read yet, the first first.
    descriptors: VecDeque<OwnedFd>,
    /// A descriptor was lost for lack of room.
    lost_descriptor: bool,
    /// The worker has reported its start, successful or not, on this channel.
    has_booted: bool,
    reply: Reply,
}

/// A violation of the protocol, which our host never commits.
#[derive(Debug, thiserror::Error)]
enum Violation {
    /// Bytes that are not a frame.
    #[error(transparent)]
    Frame(#[from] pyserve_wire::Malformed),
    /// Descriptors without a frame.
    #[error("descriptors without the frames of their files")]
    Descriptors,
    /// The start of the worker was reported twice.
    #[error("a second report of the worker's start")]
    BootedTwice,
}

/// A worker whose channel has ended takes requests that it cannot answer, unless it exits.
async fn expect_exit(shared: &GenerationState, worker: u32, exited: &CancellationToken) {
    if tokio::time::timeout(LAST_EXIT, exited.cancelled())
        .await
        .is_err()
    {
        tracing::error!(
            code = codes::DAMAGED,
            worker,
            "worker has closed the channel of its replies, and goes on: replacing it"
        );
        shared.notify(WorkerEvent::ProtocolError { worker });
    }
}

/// Receives one descriptor, which tokio's own read would drop. `None`: the end of the socket.
async fn receive(socket: &UnixStream) -> Option<(Option<OwnedFd>, bool)> {
    let mut descriptors = Vec::new();
    let received = socket
        .async_io(Interest::READABLE, || {
            sockets::receive_with_descriptors(socket, &mut [0], &mut descriptors)
        })
        .await;
    let received = received.ok().filter(|received| received.bytes > 0)?;
    Some((descriptors.pop(), received.lost_descriptor))
}

/// The same bytes, which count only their own length; see [`compact`]. Allocations of less than
/// `least` are kept.
fn detached(bytes: Bytes, allocated: usize, least: usize) -> Bytes {
    match allocated >= least {
        true => compact(bytes, allocated),
        false => bytes,
    }
}

/// A frame split off the buffer.
struct Frame {
    kind: ReplyKind,
    seq: u64,
    app_time: Duration,
    payload: Bytes,
}

enum Reply {
    None,
    /// The head is read but not delivered.
    Head {
        seq: u64,
        response: Box<Response>,
        chunks: Vec<Bytes>,
    },
    /// The head is delivered.
    Streaming {
        seq: u64,
        feed: BodySender,
    },
    /// The rest is not wanted.
    Discarding {
        seq: u64,
    },
}

impl Channel {
    pub(super) fn new(
        shared: Arc<GenerationState>,
        worker: u32,
        thread: usize,
        (channel, inbox): (OwnedFd, Arc<Inbox>),
        exited: CancellationToken,
    ) -> std::io::Result<Self> {
        let socket = StdUnixStream::from(channel);
        socket.set_nonblocking(true)?;
        let socket = UnixStream::from_std(socket)?;
        Ok(Self {
            shared,
            worker,
            thread,
            exited,
            inbox,
            read: 0,
            socket,
            is_over: false,
            buffer: Vec::new(),
            burst: 0,
            descriptors: VecDeque::new(),
            lost_descriptor: false,
            has_booted: false,
            reply: Reply::None,
        })
    }

    /// Reads until the thread has gone: the end of its socket, or the exit of the worker (a child
    /// of the application may hold a copy of its end open) with nothing left to read.
    pub(super) async fn run(mut self) {
        if let Err(error) = self.read_all().await {
            tracing::error!(code = codes::DAMAGED, worker = self.worker, %error, "worker violated the reply protocol");
            self.shared.notify(WorkerEvent::ProtocolError {
                worker: self.worker,
            });
            self.finish();
            return;
        }
        let is_unexpected = self.finish();
        let (shared, worker, exited) = (self.shared, self.worker, self.exited);
        if is_unexpected {
            expect_exit(&shared, worker, &exited).await;
        }
    }

    async fn read_all(&mut self) -> Result<(), Violation> {
        loop {
            // A burst with the beginning of a frame is no longer than one without, so that a piece of
            // a body keeps little more than itself. Only a longer frame gets more room.
            let most = match READ.saturating_sub(self.buffer.len()) {
                0 => READ,
                room => room,
            };
            let read = self.inbox.read(self.read, most, &mut self.buffer)?;
            if read == 0 {
                if self.is_over {
                    return Ok(());
                }
                self.wait().await?;
                continue;
            }
            self.read += read as u64;
            if let Reply::Streaming { seq, .. } = &self.reply {
                self.progress().note(*seq);
            }
            self.take_frames().await?;
        }
    }

    /// Waits until there is something to read, or nothing will come any more. What was written
    /// before the end is read after it.
    async fn wait(&mut self) -> Result<(), Violation> {
        // A descriptor comes before the frame of its file, and a thread sends one reply at a time. The
        // news of a frame may come later than the next descriptor, but the frame itself is there by
        // then, and would have been read.
        if self.descriptors.len() > 1 {
            return Err(Violation::Descriptors);
        }
        tokio::select! {
            biased;
            // Cancel-safe, as it says.
            () = self.inbox.news() => {}
            // Cancel-safe: the token stays cancelled.
            () = self.exited.cancelled() => self.is_over = true,
            // Cancel-safe: a read that does not complete has taken nothing.
            received = receive(&self.socket) => match received {
                Some((descriptor, is_lost)) => {
                    self.descriptors.extend(descriptor);
                    self.lost_descriptor |= is_lost;
                }
                None => self.is_over = true,
            },
        }
        Ok(())
    }

    /// The descriptor for a frame that was read. It was sent before.
    fn take_descriptor(&mut self) -> Option<OwnedFd> {
        if let Some(descriptor) = self.descriptors.pop_front() {
            return Some(descriptor);
        }
        let mut descriptors = Vec::new();
        let received = sockets::receive_with_descriptors(&self.socket, &mut [0], &mut descriptors);
        self.lost_descriptor |= received.is_ok_and(|received| received.lost_descriptor);
        descriptors.pop()
    }

    async fn take_frames(&mut self) -> Result<(), Violation> {
        let mut complete = 0;
        while let Some((_, used)) = frames::read_reply(&self.buffer[complete..])? {
            complete += used;
        }
        let mut burst = self.cut_off(complete);
        while let Some((reply, used)) = frames::read_reply(&burst)? {
            let frame = Frame {
                kind: reply.kind,
                seq: reply.seq,
                app_time: Duration::from_micros(u64::from(reply.elapsed_us)),
                payload: burst.slice_ref(reply.payload),
            };
            burst = burst.split_off(used);
            self.take_frame(frame).await?;
        }
        self.deliver_head();
        Ok(())
    }

    /// Splits the first bytes off the buffer. The rest is the beginning of a frame; frames have a
    /// limit, and so has the buffer.
    fn cut_off(&mut self, length: usize) -> Bytes {
        if length == 0 {
            return Bytes::new();
        }
        let rest = self.buffer[length..].to_vec();
        let mut burst = std::mem::replace(&mut self.buffer, rest);
        burst.truncate(length);
        self.burst = burst.capacity();
        Bytes::from(burst)
    }

    async fn take_frame(&mut self, frame: Frame) -> Result<(), Violation> {
        match frame.kind {
            ReplyKind::Ready | ReplyKind::BootFailed if self.has_booted => {
                return Err(Violation::BootedTwice);
            }
            ReplyKind::Ready => {
                self.has_booted = true;
                let loaded = (!frame.payload.is_empty())
                    .then(|| Loaded::from_bytes(&frame.payload).unwrap_or_default());
                self.shared.worker_ready(self.worker, loaded, &self.exited);
            }
            ReplyKind::BootFailed => {
                self.has_booted = true;
                self.shared.notify(WorkerEvent::BootFailed {
                    worker: self.worker,
                    traceback: String::from_utf8_lossy(&frame.payload).into_owned(),
                });
            }
            ReplyKind::Head => self.take_head(frame),
            ReplyKind::Body => self.take_chunk(frame).await,
            ReplyKind::End => self.take_end(frame),
            ReplyKind::Abort => self.take_abort(frame),
            ReplyKind::File => self.take_file(&frame),
            ReplyKind::Skipped => self.shared.skipped(frame.seq),
        }
        Ok(())
    }

    fn take_head(&mut self, frame: Frame) {
        // An HTTP/2 client can keep the head waiting; its values are slices of the frame.
        let payload = detached(frame.payload, self.burst, KEEP);
        match head::read(&payload) {
            Ok(mut response) => {
                response.worker = Some(self.worker);
                response.app_time = frame.app_time;
                let response = Box::new(response);
                self.reply = Reply::Head {
                    seq: frame.seq,
                    response,
                    chunks: Vec::new(),
                };
            }
            Err(why) => {
                self.shared.deliver(frame.seq, Err(Failure::BadAnswer(why)));
                self.shared.cancel(frame.seq);
                self.reply = Reply::Discarding { seq: frame.seq };
            }
        }
    }

    async fn take_chunk(&mut self, frame: Frame) {
        match &mut self.reply {
            Reply::Head { seq, chunks, .. } if *seq == frame.seq => chunks.push(frame.payload),
            Reply::Streaming { seq, feed } if *seq == frame.seq => {
                if feed.push(detached(frame.payload, self.burst, SMALL)) {
                    let progress = &self.shared.progress[self.thread];
                    progress.set_waits_for_client(true);
                    feed.room().await;
                    progress.note(*seq);
                    progress.set_waits_for_client(false);
                } else {
                    self.reply = Reply::Discarding { seq: frame.seq };
                }
            }
            _ => {}
        }
    }

    /// The body is a file. The worker writes this together with the head, so the head is not
    /// delivered yet.
    fn take_file(&mut self, frame: &Frame) {
        let descriptor = self.take_descriptor();
        let piece = frames::read_file(&frame.payload);
        match (&mut self.reply, descriptor, piece) {
            (Reply::Head { response, .. }, Some(file), Ok(piece)) => {
                response.file = Some((file.into(), piece));
            }
            (Reply::Discarding { .. }, ..) => {}
            _ => {
                let why = match std::mem::take(&mut self.lost_descriptor) {
                    true => {
                        "it is a file, for which pyserve has no descriptor left: raise its limit (ulimit -n)"
                    }
                    false => "a file without its descriptor, or after its head",
                };
                let why = why.to_owned();
                self.shared.deliver(frame.seq, Err(Failure::BadAnswer(why)));
                self.reply = Reply::Discarding { seq: frame.seq };
            }
        }
    }

    fn take_end(&mut self, frame: Frame) {
        match std::mem::replace(&mut self.reply, Reply::None) {
            Reply::Head {
                seq,
                mut response,
                chunks,
            } if seq == frame.seq => {
                response.body = ResponseBody::whole(joined(chunks, self.burst));
                response.app_time = frame.app_time;
                return self.shared.finish(seq, frame.app_time, Some(Ok(response)));
            }
            Reply::Streaming { seq, feed } if seq == frame.seq => feed.end(Ok(()), frame.app_time),
            Reply::Discarding { .. } => {}
            // A client that already has a response, a 504 for instance, does not get another.
            _ => {
                let why = "an end without a head".to_owned();
                let answer = Err(Failure::BadAnswer(why));
                return self.shared.finish(frame.seq, frame.app_time, Some(answer));
            }
        }
        self.shared.finish(frame.seq, frame.app_time, None);
    }

    fn take_abort(&mut self, frame: Frame) {
        match std::mem::replace(&mut self.reply, Reply::None) {
            Reply::Streaming { seq, feed } if seq == frame.seq => {
                feed.end(
                    Err("the application truncated the response"),
                    frame.app_time,
                );
            }
            Reply::Discarding { seq } if seq == frame.seq => {}
            // Before the head is delivered, so the client can still get an error response.
            _ => {
                let traceback = String::from_utf8_lossy(&frame.payload).into_owned();
                let failure = Failure::Application {
                    worker: self.worker,
                    traceback,
                };
                return self
                    .shared
                    .finish(frame.seq, frame.app_time, Some(Err(failure)));
            }
        }
        self.shared.finish(frame.seq, frame.app_time, None);
    }

    /// Delivers a head whose end did not arrive with it.
    fn deliver_head(&mut self) {
        match std::mem::replace(&mut self.reply, Reply::None) {
            Reply::Head {
                seq,
                mut response,
                chunks,
            } => {
                let shared = Arc::clone(&self.shared);
                let (feed, body) =
                    ResponseBody::streamed(Arc::clone(&self.shared.budget), move || {
                        shared.cancel(seq)
                    });
                for chunk in chunks {
                    feed.push(detached(chunk, self.burst, SMALL));
                }
                response.body = body;
                self.shared.deliver(seq, Ok(response));
                self.progress().note(seq);
                self.reply = Reply::Streaming { seq, feed };
            }
            other => self.reply = other,
        }
    }

    fn progress(&self) -> &Progress {
        &self.shared.progress[self.thread]
    }

    /// The thread has gone: its request is lost.
    /// Returns true if the worker was not expected to leave.
    fn finish(&mut self) -> bool {
        if let Reply::Streaming { feed, .. } = &self.reply {
            feed.end(Err("the worker died"), Duration::ZERO);
        }
        self.shared.doorbell.remove(&self.inbox);
        let exited = self.exited.is_cancelled();
        self.shared.thread_gone(self.worker, self.thread, exited)
    }
}

fn joined(mut chunks: Vec<Bytes>, allocated: usize) -> Bytes {
    if chunks.len() <= 1 {
        return detached(chunks.pop().unwrap_or_default(), allocated, KEEP);
    }
    let mut whole = BytesMut::with_capacity(chunks.iter().map(Bytes::len).sum());
    for chunk in chunks {
        whole.extend_from_slice(&chunk);
    }
    whole.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_pieces_of_a_long_read_keep_no_part_of_its_buffer() {
        let buffer = Bytes::from(vec![0; READ]);
        let is_kept = |piece: &Bytes| {
            let piece = detached(piece.clone(), READ, SMALL);
            buffer.as_ptr_range().contains(&piece.as_ptr())
        };
        assert!(!is_kept(&buffer.slice(..1000)));
        assert!(!is_kept(&buffer.slice(1000..READ / 2)));
        assert!(is_kept(&buffer.slice(..READ / 2)));
        assert!(is_kept(&buffer));
        let few = Bytes::from(vec![0; 100]);
        let piece = detached(few.slice(..10), few.len(), SMALL);
        assert_eq!(piece.as_ptr(), few.as_ptr(), "a page is not copied");
    }
}
