//! hyper over a [`Stream`], and what its client receives: pins what hyper does with bytes
//! that it must not look at.

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;
use crate::front::activity::InUse;
use crate::front::file_pool::FilePool;
use crate::front::pace::Patience;
use crate::front::request::context::Ends;
use crate::front::static_files::FileBody;

/// All that a client receives which asks once and then closes its side, with the result of
/// the connection.
async fn exchange<B>(wrap: impl Fn(FileBody) -> B, body: FileBody) -> (Vec<u8>, bool)
where
    B: Body<Data = Bytes, Error = io::Error> + 'static,
{
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let patience = Patience {
        grace: Duration::from_secs(3600),
        rate: 0,
    };
    let activity = Arc::new(Activity::new(Ends::default(), patience));
    let mut body = body;
    body.send_by(&activity.outbox);
    let body = std::cell::RefCell::new(Some(body));
    let stream = Stream::new(Socket::Unix(ours), Bytes::new(), activity);
    let service = service_fn(|_: Request<Incoming>| {
        let body = wrap(body.borrow_mut().take().unwrap());
        async { Ok::<_, io::Error>(Response::new(body)) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let client = async {
        let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        theirs.write_all(request).await.unwrap();
        let mut received = Vec::new();
        theirs.read_to_end(&mut received).await.unwrap();
        received
    };
    let (ended, received) = tokio::join!(connection, client);
    (received, ended.is_ok())
}

fn body_of(received: &[u8]) -> &[u8] {
    let end = received.windows(4).position(|at| at == b"\r\n\r\n");
    &received[end.expect("a head") + 4..]
}

fn numbered(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 3 % 251) as u8 + 1).collect()
}

#[tokio::test]
async fn a_part_of_a_file_arrives_from_any_place() {
    let content = numbered((2 << 20) + 77);
    for offset in [0, 1, 4095, 5 << 30] {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&content, offset).unwrap();
        file.write_all_at(b"behind", offset + content.len() as u64)
            .unwrap();
        let body = FileBody::new(file, offset, content.len() as u64, FilePool::new(1));
        let (received, complete) = exchange(|body| body, body).await;
        assert!(complete && body_of(&received) == content, "from {offset}");
    }
}

#[tokio::test]
async fn a_file_that_the_kernel_cannot_send_is_copied() {
    let content: &'static [u8] = numbered((1 << 20) + 300_001).leak();
    let memory = std::fs::File::open("/proc/self/mem").unwrap();
    let address = content.as_ptr().addr() as u64;
    let body = FileBody::new(memory, address, content.len() as u64, FilePool::new(1));
    let (received, complete) = exchange(|body| body, body).await;
    assert!(complete && body_of(&received) == content);
}

#[tokio::test]
async fn a_file_that_ends_too_early_never_ends_the_response() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&numbered(100_000)).unwrap();
    let body = FileBody::new(file, 50_000, 60_000, FilePool::new(1));
    let (received, complete) = exchange(|body| body, body).await;
    assert!(!complete);
    assert!(body_of(&received).len() <= 50_000);
}

#[tokio::test]
async fn whoever_touches_the_bytes_breaks_the_connection_before_one_leaves() {
    type Touch = fn(Bytes) -> Bytes;
    let touches: [Touch; 4] = [
        |bytes| Bytes::copy_from_slice(&bytes),
        |bytes| bytes.slice(1..),
        |bytes| bytes.slice(..bytes.len() - 1),
        |_| Bytes::from_static(b"other"),
    ];
    for touch in touches {
        let file = tempfile::tempfile().unwrap();
        file.set_len(200_000).unwrap();
        let body = FileBody::new(file, 0, 200_000, FilePool::new(1));
        let touched = move |body: FileBody| body.map_frame(move |frame| frame.map_data(touch));
        let (received, complete) = exchange(touched, body).await;
        assert!(!complete);
        assert!(received.is_empty(), "{} bytes", received.len());
    }
}

/// How much of 100,000 bytes one read gives hyper.
async fn read_at_once(request: Option<http::Version>) -> usize {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let patience = Patience {
        grace: Duration::from_secs(3600),
        rate: 0,
    };
    let activity = Arc::new(Activity::new(Ends::default(), patience));
    let _running = request.map(|version| InUse::begin(&activity, version));
    let mut stream = Stream::new(Socket::Unix(ours), Bytes::new(), activity);
    theirs.write_all(&[b'x'; 100_000]).await.unwrap();
    let mut room = vec![0; 128 << 10];
    let mut into = ReadBuf::new(&mut room);
    std::future::poll_fn(|context| Pin::new(&mut stream).poll_read(context, &mut into))
        .await
        .unwrap();
    assert!(into.filled().iter().all(|byte| *byte == b'x'));
    into.filled().len()
}

#[tokio::test]
async fn a_body_is_read_in_small_parts_so_that_hyper_keeps_a_small_buffer() {
    assert_eq!(read_at_once(Some(http::Version::HTTP_11)).await, READ_BODY);
    // A head has to be read as a whole, and HTTP/2 has buffers of its own.
    assert!(read_at_once(None).await > READ_BODY);
    assert!(read_at_once(Some(http::Version::HTTP_2)).await > READ_BODY);
}

/// Whether a socket is left behind of which the client has sent these bytes.
async fn is_left_behind(unread: &[u8], early: &'static [u8], is_shut_down: bool) -> bool {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let patience = Patience {
        grace: Duration::from_secs(3600),
        rate: 0,
    };
    let activity = Arc::new(Activity::new(Ends::default(), patience));
    let (behind, mut left_behind) = oneshot::channel();
    let early = Bytes::from_static(early);
    let mut stream = Stream::new(Socket::Unix(ours), early, activity).leaving_behind(behind);
    theirs.write_all(unread).await.unwrap();
    if is_shut_down {
        stream.shutdown().await.unwrap();
    }
    drop(stream);
    left_behind.try_recv().is_ok()
}

#[tokio::test]
async fn only_a_connection_that_ends_well_is_left_behind_and_only_if_something_is_unread() {
    assert!(is_left_behind(b"GET", b"", true).await);
    assert!(is_left_behind(b"", b"GET", true).await);
    assert!(!is_left_behind(b"", b"", true).await);
    // Else the client would wait for the end of a response that was broken off.
    assert!(!is_left_behind(b"GET", b"GET", false).await);
}
