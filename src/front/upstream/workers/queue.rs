//! The queue of a generation: a ring in shared memory, into which the pool pushes requests and from
//! which every worker thread pops, see [`pyserve_wire::request_ring`]. Descriptors of bodies travel
//! over a SEQPACKET socket pair beside it.
//!
//! All workers share the ring and the receiving end of the socket, so one of them can break both
//! for all. A broken queue is replaced by the pool; see
//! [`super::worker_set::GenerationState::replace_queue`].

use parking_lot::{Mutex, MutexGuard};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use pyserve_wire::frames::{BodyKind, REQUEST_HEADER, RequestHeader};
use pyserve_wire::request_ring::{self, Handed, PushError, RequestRing};
use rustix::net::SocketType;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use super::slot_memory::SlotMemory;
use crate::front::body::request::RequestBody;
use crate::front::upstream::Request;
use crate::os::inotify::watch;
use crate::os::memory::SharedWords;
use crate::os::sockets::PeerEnd;
use crate::os::{futex, memory, sockets};

/// The ring, and both ends of the socket beside it.
pub(super) struct Queue {
    memory: SharedWords,
    slots: SlotMemory,
    threads: usize,
    /// Threads of each worker.
    each: usize,
    claims: usize,
    producer: Mutex<Producer>,
    sender: AsyncFd<OwnedFd>,
    /// The workers' end, kept for the next template.
    receiver: OwnedFd,
    /// Called when a wake-up is left for the end of the turn.
    later: Arc<Notify>,
}

/// The front's own account of the ring: workers can write to the one in its memory.
#[derive(Debug, Default)]
struct Producer {
    /// Words pushed.
    tail: u64,
    /// A thread was woken in this turn of the runtime: it finds what is pushed in the rest of it.
    has_woken: bool,
    /// Another thread is to be woken at the end of the turn.
    wakes_later: bool,
    has_ended: bool,
}

/// The reason why a request cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// A worker has damaged the queue: it is to be replaced.
    #[error("{0}")]
    Broken(&'static str),
    /// The request has more variables than fit into a slot, or the kernel refuses it.
    #[error(transparent)]
    Refused(#[from] io::Error),
}

impl From<SendError> for io::Error {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Broken(damage) => Self::other(damage),
            SendError::Refused(error) => error,
        }
    }
}

impl Queue {
    /// An empty queue for so many threads and requests.
    ///
    /// # Errors
    /// The error of the system call for sockets and memory.
    pub(super) fn new(threads: usize, claims: usize, later: Arc<Notify>) -> io::Result<Self> {
        let memory = SharedWords::create("pyserve-queue", RequestRing::size(threads, claims))?;
        RequestRing::create(memory.words(), threads, claims);
        let (sender, receiver) = sockets::pair(SocketType::SEQPACKET)?;
        sockets::set_nonblocking(sender.as_fd())?;
        Ok(Self {
            memory,
            slots: SlotMemory::new(claims),
            threads,
            each: 1,
            claims,
            producer: Mutex::default(),
            sender: watch(sender)?,
            receiver,
            later,
        })
    }

    /// The same for workers of so many threads; otherwise of one.
    pub(super) fn for_workers_of(self, each: usize) -> Self {
        Self { each, ..self }
    }

    /// The workers' end of the socket.
    pub(super) fn receiver(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }

    /// The memory of the ring.
    pub(super) fn memory(&self) -> BorrowedFd<'_> {
        self.memory.file()
    }

    pub(super) fn ring(&self) -> RequestRing<'_> {
        RequestRing::over(self.memory.words(), self.threads, self.claims)
    }

    /// Ends the queue; queued requests are still received.
    pub(super) fn end(&self) {
        self.lock().has_ended = true;
        let ring = self.ring();
        ring.end();
        let _already_ended =
            rustix::net::shutdown(self.sender.get_ref(), rustix::net::Shutdown::Write);
        // All of them: a worker may have cleared the bits of those that wait.
        for thread in 0..self.threads {
            futex::wake(ring.futex(thread));
        }
    }

    /// The damage that a worker did to the queue: its header is overwritten, or the workers' end of
    /// the socket is shut down.
    pub(super) fn damage(&self) -> Option<&'static str> {
        let producer = self.lock();
        if producer.has_ended {
            return None;
        }
        if !self.ring().is_intact(producer.tail, false) {
            return Some(OVERWRITTEN);
        }
        match sockets::peer_end(self.receiver()) {
            Ok(PeerEnd::Open) => None,
            _ => Some(SHUT_DOWN),
        }
    }

    /// True if every request that was pushed has been popped.
    pub(super) fn is_drained(&self) -> bool {
        self.ring().is_drained(self.lock().tail)
    }

    /// Removes all requests from the ring. Their claims are withdrawn first, or are about to be.
    pub(super) fn clear(&self) {
        let _no_other_pushes = self.lock();
        let ring = self.ring();
        // Bounded: a worker can set the head back again and again.
        let most = 2 * ring.capacity();
        let _words = (0..most).take_while(|_| ring.pop().is_some()).count();
        let mut header = [0; REQUEST_HEADER];
        let mut receive = || sockets::receive(self.receiver(), &mut header);
        // Their descriptors are closed.
        let _messages = (0..most)
            .take_while(|_| receive().is_ok_and(|length| length > 0))
            .count();
    }

    /// Gives the kernel the pages of these slots that have not been used for a while. No request may
    /// be sent to them during the call.
    pub(super) fn give_back(&self, free: &[usize]) {
        self.slots.give_back(free, |slot, bytes| {
            let start = self.ring().slot_offset(slot);
            let pages = start + bytes.start..start + bytes.end;
            self.memory.discard(pages).is_ok()
        });
    }

    /// Forgets that threads wait whose process has exited.
    pub(super) fn forget(&self, threads: Range<usize>) {
        let ring = self.ring();
        for thread in threads {
            ring.withdraw_wait(thread);
        }
    }

    /// Moves a body that does not fit into a slot into a memory file, and streams one that is still
    /// arriving into a socket.
    ///
    /// # Errors
    /// The error of the system call for either.
    pub(super) fn fit(&self, request: &mut Request, tasks: &TaskTracker) -> io::Result<()> {
        if let RequestBody::Stream(stream) = &mut request.body {
            stream.fill_socket(tasks)?;
        }
        if let RequestBody::Memory(body) = &request.body
            && !request_ring::fits(request.message.len(), body.len())
        {
            let length = body.len() as u64;
            let file = memory::sealed_file("pyserve-body", body)?.into();
            request.body = RequestBody::File { file, length };
        }
        Ok(())
    }

    /// Sends a request under a number of its own, for claim `entry` of the scoreboard. `is_live`: a
    /// thread has to read the request of a word in the ring.
    ///
    /// # Errors
    /// [`SendError`].
    pub(super) async fn send(
        &self,
        request: &Request,
        entry: usize,
        seq: u64,
        is_live: impl Fn(Handed) -> bool,
    ) -> Result<(), SendError> {
        let (kind, body_len, inline, descriptor) = match &request.body {
            RequestBody::Memory(body) => (BodyKind::Inline, body.len() as u64, &body[..], None),
            RequestBody::File { file, length } => {
                (BodyKind::File, *length, &[][..], Some(file.as_fd()))
            }
            RequestBody::Stream(stream) => (BodyKind::Stream, 0, &[][..], stream.socket()),
        };
        let vars = &request.message[REQUEST_HEADER..];
        if !request_ring::fits(vars.len(), inline.len()) {
            return Err(io::Error::from(rustix::io::Errno::MSGSIZE).into());
        }
        let header = RequestHeader {
            seq,
            entry: entry as u32,
            body: kind,
            body_len,
            vars_len: vars.len() as u32,
        };
        self.ring()
            .write(entry, header, vars, inline, memory::copy_in);
        self.slots
            .wrote(entry, REQUEST_HEADER + vars.len() + inline.len());
        if let Some(descriptor) = descriptor {
            self.send_descriptor(&header.to_bytes(), descriptor).await?;
        }
        let handed = Handed {
            seq,
            entry,
            has_descriptor: descriptor.is_some(),
        };
        self.push(handed, is_live)
    }

    /// Sends a header with its descriptor, before the word that announces it.
    async fn send_descriptor(
        &self,
        header: &[u8],
        descriptor: BorrowedFd<'_>,
    ) -> Result<(), SendError> {
        let send = |queue: &AsyncFd<OwnedFd>| {
            sockets::send(
                queue.get_ref().as_fd(),
                &[IoSlice::new(header)],
                &[descriptor],
            )
        };
        let mut sent = send(&self.sender);
        while matches!(&sent, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            let mut writable = self.sender.writable().await?;
            match writable.try_io(send) {
                Ok(done) => sent = done,
                Err(_would_block) => {}
            }
        }
        match sent {
            Err(error) if is_end(&error) => Err(SendError::Broken(SHUT_DOWN)),
            sent => Ok(sent.map(drop)?),
        }
    }

    fn push(&self, handed: Handed, is_live: impl Fn(Handed) -> bool) -> Result<(), SendError> {
        let mut producer = self.lock();
        let ring = self.ring();
        if producer.has_ended {
            return Err(SendError::Broken(SHUT_DOWN));
        }
        let pushed = match ring.push(producer.tail, handed) {
            Err(PushError::Full) => {
                producer.drop_stale(ring, is_live)?;
                ring.push(producer.tail, handed)
            }
            pushed => pushed,
        };
        producer.tail = pushed.map_err(|_full_or_damaged| SendError::Broken(OVERWRITTEN))?;
        if !producer.has_woken {
            producer.has_woken = self.wake(ring);
        } else if !producer.wakes_later && ring.has_waiting() {
            producer.wakes_later = true;
            self.later.notify_one();
        }
        Ok(())
    }

    /// Wakes threads for the requests of this turn that no thread has popped. `false`: there was
    /// nothing to do.
    ///
    /// The first request of a turn wakes a thread at once, so that a lone client does not wait. A
    /// wake-up costs as much as a short request, and a thread that pops as fast as the front pushes
    /// would need one for each. Measured with a hello application, two workers and 64 connections:
    /// 0.5 wake-ups per request without this.
    pub(super) fn end_turn(&self) -> bool {
        let mut producer = self.lock();
        producer.has_woken = false;
        if !std::mem::take(&mut producer.wakes_later) {
            return false;
        }
        let ring = self.ring();
        for _ in 0..ring.pending(producer.tail) {
            if !self.wake(ring) {
                break;
            }
        }
        true
    }

    /// Wakes a thread. `false`: none waits.
    fn wake(&self, ring: RequestRing<'_>) -> bool {
        let chosen = ring.choose_waiting(self.each);
        if let Some(thread) = chosen {
            futex::wake(ring.futex(thread));
        }
        chosen.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Producer> {
        self.producer.lock()
    }
}

impl Producer {
    /// Removes words whose entries belong to other requests by now; the others stay in their order.
    fn drop_stale(
        &mut self,
        ring: RequestRing<'_>,
        is_live: impl Fn(Handed) -> bool,
    ) -> Result<(), SendError> {
        let mut live = Vec::new();
        // Bounded, as in [`Queue::clear`].
        for _ in 0..2 * ring.capacity() {
            let Some(handed) = ring.pop() else { break };
            if is_live(handed) {
                live.push(handed);
            }
        }
        for handed in live {
            let pushed = ring.push(self.tail, handed);
            self.tail = pushed.map_err(|_| SendError::Broken(OVERWRITTEN))?;
        }
        Ok(())
    }
}

const OVERWRITTEN: &str = "its queue is overwritten";
const SHUT_DOWN: &str = "its queue is shut down";

/// True if an error of a send means that the other end was shut down.
fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(body: &'static [u8]) -> Request {
        Request {
            message: vec![7; REQUEST_HEADER + 5],
            body: RequestBody::Memory(bytes::Bytes::from_static(body)),
        }
    }

    async fn send(queue: &Queue, request: &Request, seq: u64) -> Result<(), SendError> {
        let all_live = |_: Handed| true;
        queue.send(request, seq as usize % 3, seq, all_live).await
    }

    #[tokio::test]
    async fn a_request_and_its_descriptor_arrive() {
        let queue = Queue::new(1, 3, Arc::default()).unwrap();
        send(&queue, &request(b"body"), 4).await.unwrap();
        let handed = queue.ring().pop().unwrap();
        assert_eq!(
            (handed.seq, handed.entry, handed.has_descriptor),
            (4, 1, false)
        );
        let header = queue.ring().header(1).unwrap();
        let (mut vars, mut body) = (Vec::new(), Vec::new());
        queue.ring().read_vars(1, &header, &mut vars);
        memory::append(&queue.ring().body(1, &header)[..1], &mut body);
        assert_eq!((&vars[..], &body[..4]), (&[7; 5][..], &b"body"[..]));
        // Longer than a slot.
        let mut long = request(&[1; request_ring::SLOT]);
        queue.fit(&mut long, &TaskTracker::new()).unwrap();
        send(&queue, &long, 5).await.unwrap();
        assert!(queue.ring().pop().unwrap().has_descriptor);
        let (mut bytes, mut files) = ([0; REQUEST_HEADER], Vec::new());
        sockets::receive_with_descriptors(queue.receiver(), &mut bytes, &mut files).unwrap();
        let header = RequestHeader::from_bytes(&bytes).unwrap();
        assert_eq!((header.seq, header.body), (5, BodyKind::File));
        assert_eq!(header.body_len, request_ring::SLOT as u64);
        assert_eq!(files.len(), 1);
        assert!(queue.is_drained());
    }

    #[tokio::test]
    async fn one_thread_is_woken_at_once_and_others_at_the_end_of_the_turn() {
        let later = Arc::new(Notify::new());
        let queue = Queue::new(3, 9, Arc::clone(&later)).unwrap();
        let ring = queue.ring();
        let waiting = || (0..3).filter(|thread| ring.is_waiting(*thread)).count();
        assert!(!queue.end_turn());
        for thread in 0..3 {
            ring.announce_wait(thread);
        }
        send(&queue, &request(b""), 1).await.unwrap();
        assert_eq!(waiting(), 2);
        send(&queue, &request(b""), 2).await.unwrap();
        assert_eq!(waiting(), 2);
        later.notified().await;
        assert!(queue.end_turn() && !queue.end_turn());
        assert_eq!(waiting(), 0, "one for each request");
        // A thread that has waited again is woken at once in the next turn.
        while ring.pop().is_some() {}
        ring.announce_wait(1);
        send(&queue, &request(b""), 3).await.unwrap();
        assert_eq!(waiting(), 0);
    }

    #[tokio::test]
    async fn stale_words_make_room_and_live_ones_stay_in_order() {
        let queue = Queue::new(1, 3, Arc::default()).unwrap();
        let most = queue.ring().capacity() as u64;
        for seq in 1..=most {
            send(&queue, &request(b""), seq).await.unwrap();
        }
        let full = send(&queue, &request(b""), most + 1).await;
        assert!(
            matches!(full, Err(SendError::Broken(_))),
            "more than can be handed out"
        );
        let live = [3, 5, most];
        let is_live = |handed: Handed| live.contains(&handed.seq);
        let last = request(b"");
        queue.send(&last, 0, most + 1, is_live).await.unwrap();
        let left: Vec<_> = std::iter::from_fn(|| queue.ring().pop()).collect();
        let left: Vec<_> = left.iter().map(|handed| handed.seq).collect();
        assert_eq!(left, [3, 5, most, most + 1]);
    }

    #[tokio::test]
    async fn a_queue_that_a_worker_has_damaged_is_known_to_be() {
        let queue = Queue::new(1, 3, Arc::default()).unwrap();
        assert_eq!(queue.damage(), None);
        rustix::net::shutdown(queue.receiver(), rustix::net::Shutdown::Read).unwrap();
        assert_eq!(queue.damage(), Some(SHUT_DOWN));
        let mut long = request(&[1; request_ring::SLOT]);
        queue.fit(&mut long, &TaskTracker::new()).unwrap();
        let sent = send(&queue, &long, 1).await;
        assert!(matches!(sent, Err(SendError::Broken(SHUT_DOWN))));

        for at in [0, 1, 2, 8, 24] {
            let queue = Queue::new(1, 3, Arc::default()).unwrap();
            queue.memory.words()[at].store(9, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(queue.damage(), Some(OVERWRITTEN));
            queue.end();
            assert_eq!(queue.damage(), None, "it is over");
        }
        // The head ahead of the tail, and far behind it.
        for head in [1, u64::MAX] {
            let queue = Queue::new(1, 3, Arc::default()).unwrap();
            queue.memory.words()[16].store(head, std::sync::atomic::Ordering::Relaxed);
            let sent = send(&queue, &request(b""), 1).await;
            assert!(matches!(sent, Err(SendError::Broken(OVERWRITTEN))));
            queue.clear();
        }
    }

    #[tokio::test]
    async fn a_cleared_queue_has_neither_words_nor_descriptors() {
        let queue = Queue::new(1, 3, Arc::default()).unwrap();
        let mut long = request(&[1; request_ring::SLOT]);
        queue.fit(&mut long, &TaskTracker::new()).unwrap();
        for seq in 1..4 {
            send(&queue, &long, seq).await.unwrap();
        }
        queue.clear();
        assert!(queue.is_drained() && queue.ring().is_empty());
        let nothing = sockets::receive(queue.receiver(), &mut [0; REQUEST_HEADER]);
        assert_eq!(nothing.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
