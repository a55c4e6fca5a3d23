//! hyper over a [`Stream`], and the bytes that its client receives: pins hyper's treatment of
//! stand-ins.

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
use crate::front::client_limits::min_rate::Patience;
use crate::front::context::Endpoints;
use crate::front::error::Rejection;
use crate::front::sendfile::file_pool::FilePool;
use crate::front::static_files::FileBody;

/// All that a client receives that sends one request and half-closes, with the result of the
/// connection.
async fn exchange<B>(wrap: impl Fn(FileBody) -> B, body: FileBody) -> (Vec<u8>, bool)
where
    B: Body<Data = Bytes, Error = io::Error> + 'static,
{
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let patience = Patience {
        grace: Duration::from_secs(3600),
        rate: 0,
    };
    let activity = Arc::new(Activity::new(Endpoints::default(), patience));
    let mut body = body;
    body.send_by(&activity.sendfile_queue);
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

/// A stream, and the peer's end of its socket.
fn stream_of(early: &'static [u8]) -> (Stream, UnixStream, Arc<Activity>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let patience = Patience {
        grace: Duration::from_secs(3600),
        rate: 0,
    };
    let activity = Arc::new(Activity::new(Endpoints::default(), patience));
    let early = Bytes::from_static(early);
    let stream = Stream::new(Socket::Unix(ours), early, Arc::clone(&activity));
    (stream, theirs, activity)
}

/// The bytes that one read gives hyper; `None`: it has to wait.
async fn read_once(stream: &mut Stream) -> Option<io::Result<Vec<u8>>> {
    let mut room = vec![0; 128 << 10];
    let mut into = ReadBuf::new(&mut room);
    std::future::poll_fn(|context| {
        Poll::Ready(match Pin::new(&mut *stream).poll_read(context, &mut into) {
            Poll::Ready(read) => Some(read),
            Poll::Pending => None,
        })
    })
    .await
    .map(|read| read.map(|()| into.filled().to_vec()))
}

/// Reads once there is something.
async fn read(stream: &mut Stream) -> io::Result<Vec<u8>> {
    loop {
        match read_once(stream).await {
            Some(read) => return read,
            None => tokio::task::yield_now().await,
        }
    }
}

#[tokio::test]
async fn a_body_is_read_in_small_parts_so_that_hyper_keeps_a_small_buffer() {
    let (mut stream, mut theirs, _activity) = stream_of(b"");
    let head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n";
    theirs.write_all(head).await.unwrap();
    assert_eq!(read(&mut stream).await.unwrap(), head);
    theirs.write_all(&[b'x'; 100_000]).await.unwrap();
    assert_eq!(read(&mut stream).await.unwrap().len(), reading::READ_BODY);
    // HTTP/2 has buffers of its own.
    let (mut stream, mut theirs, _activity) = stream_of(b"");
    theirs
        .write_all(crate::front::protocol::framing::PREFACE)
        .await
        .unwrap();
    // DATA frames of the maximum length.
    let frame = [0, 0x40, 0, 0, 0, 0, 0, 0, 1];
    let frame = [&frame[..], &[0; 0x4000]].concat();
    theirs.write_all(&frame.repeat(6)).await.unwrap();
    // The first ones are short, until they show that the frames are long.
    let mut lengths = vec![0];
    while lengths[lengths.len() - 1] <= reading::READ_BODY {
        lengths.push(read(&mut stream).await.unwrap().len());
        assert!(lengths.len() < 5, "{lengths:?}");
    }
}

/// Body, bytes that hyper gets with the head, and what is in the socket behind the body.
async fn given(head: &str, behind: &[u8]) -> (Option<Bytes>, Vec<u8>, Stream, UnixStream) {
    let (mut stream, mut theirs, activity) = stream_of(b"");
    theirs
        .write_all(&[head.as_bytes(), behind].concat())
        .await
        .unwrap();
    let got = read(&mut stream).await.unwrap();
    (activity.take_body(), got, stream, theirs)
}

#[tokio::test]
async fn a_body_that_has_arrived_with_its_head_is_read_at_once() {
    let next = b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n";
    for length in [1, 5000, 20_000, 64 << 10] {
        let head = format!("POST / HTTP/1.1\r\nContent-length:  {length}\r\nHost: h\r\n\r\n");
        let sent: Vec<u8> = (0..length).map(|at| at as u8).collect();
        for behind in [&[][..], next] {
            let (body, got, mut stream, mut theirs) =
                given(&head, &[&sent[..], behind].concat()).await;
            assert!(body.unwrap() == sent, "{length}");
            let digits = length.to_string();
            let zeros = "0".repeat(digits.len());
            let expected = head.replace(&format!("  {digits}\r"), &format!("  {zeros}\r"));
            assert_eq!(
                got.escape_ascii().to_string(),
                expected.escape_default().to_string()
            );
            assert!(
                read_once(&mut stream).await.is_none(),
                "the request is whole"
            );
            stream.framing.settle();
            if behind.is_empty() {
                assert!(read_once(&mut stream).await.is_none());
                theirs.write_all(next).await.unwrap();
            }
            assert_eq!(read(&mut stream).await.unwrap(), next);
        }
    }
}

#[tokio::test]
async fn a_body_that_has_not_arrived_or_is_awaited_or_long_is_read_by_hyper() {
    let long = vec![b'x'; 70_000];
    for (fields, behind) in [
        ("Content-Length: 4\r\n", &b"abc"[..]),
        ("Content-Length: 10000\r\n", &long[..9999]),
        ("Content-Length: 3\r\nExpect: 100-continue\r\n", b"abc"),
        ("Upgrade: x\r\nContent-Length: 3\r\n", b"abc"),
        ("Content-Length: 3\r\nContent-Length: 3\r\n", b"abc"),
        ("Content-Length: 65537\r\n", &long[..65537]),
        ("Content-Length: 0\r\n", b""),
        ("Transfer-Encoding: chunked\r\n", b"1\r\na\r\n0\r\n\r\n"),
    ] {
        let head = format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let (body, got, mut stream, _theirs) = given(&head, behind).await;
        assert_eq!(body, None, "{fields}");
        assert_eq!(got, head.as_bytes());
        let mut rest = Vec::new();
        while rest.len() < behind.len() {
            rest.extend(read(&mut stream).await.unwrap());
        }
        assert!(rest == behind, "{fields}");
    }
}

#[tokio::test]
async fn hyper_gets_one_request_at_a_time_and_no_byte_behind_it() {
    let one: &[u8] = b"POST /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n";
    let two: &[u8] = b"POST /2 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (chunks, three): (&[u8], &[u8]) = (
        b"3\r\nabc\r\n0\r\n\r\n",
        b"GET /3 HTTP/1.1\r\nHost: h\r\n\r\n",
    );
    let all = [one, b"abc\r\n", two, chunks, b"\r\n\n", three, three].concat();
    for step in [1, 7, all.len()] {
        let (mut stream, mut theirs, activity) = stream_of(b"");
        let feed = async {
            for part in all.chunks(step) {
                theirs.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
            theirs
        };
        let read_all = async {
            for parts in [&[one, b"abc"][..], &[two, chunks], &[three], &[three]] {
                let request = InUse::begin(&activity, http::Version::HTTP_11);
                activity.hyper_began();
                let expected = parts.concat();
                let mut got = Vec::new();
                while got.len() < expected.len() {
                    got.extend(read(&mut stream).await.unwrap());
                    if let Some(body) = activity.take_body() {
                        let zeros = got.windows(8).position(|at| at == b"h: 0\r\n\r\n");
                        got[zeros.expect("hyper expects no body") + 3] = b'3';
                        got.extend(body);
                    }
                }
                assert_eq!(
                    got.escape_ascii().to_string(),
                    expected.escape_ascii().to_string()
                );
                for _ in 0..9 {
                    assert!(read_once(&mut stream).await.is_none());
                    tokio::task::yield_now().await;
                }
                stream.flush().await.unwrap();
                assert!(read_once(&mut stream).await.is_none(), "it still runs");
                drop(request);
                stream.flush().await.unwrap();
            }
        };
        let (theirs, ()) = tokio::join!(feed, read_all);
        drop(theirs);
        assert!(read(&mut stream).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn the_preface_of_http2_passes_in_any_pieces_but_only_as_the_first_bytes() {
    let all = [
        crate::front::protocol::framing::PREFACE,
        &[0, 0, 0, 4, 0, 0, 0, 0, 0],
    ]
    .concat();
    for step in [1, 5, 18, 24, 33] {
        let (mut stream, mut theirs, _activity) = stream_of(b"");
        let feed = async {
            for part in all.chunks(step) {
                theirs.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let read_all = async {
            let mut got = Vec::new();
            while got.len() < all.len() {
                got.extend(read(&mut stream).await.unwrap());
            }
            got
        };
        assert_eq!(tokio::join!(feed, read_all).1, all, "{step}");
    }
    let (mut stream, mut theirs, activity) = stream_of(b"");
    let head = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    theirs.write_all(head).await.unwrap();
    assert_eq!(read(&mut stream).await.unwrap(), head);
    theirs.write_all(&all).await.unwrap();
    activity.hyper_began();
    stream.flush().await.unwrap();
    assert_eq!(read(&mut stream).await.unwrap(), b"GET / HTTP/1.1\r\n\r\n");
    let (stand_in, ()) = http::Request::new(()).into_parts();
    let refused = activity.refused.take(&stand_in);
    let refused = refused.expect("a version that is not served");
    assert!(matches!(refused.rejection, Rejection::Version));
}

#[tokio::test]
async fn a_client_that_has_gone_is_seen_behind_bytes_that_are_not_read() {
    for behind in [0, 2, 100_000] {
        let (mut stream, mut theirs, _activity) = stream_of(b"");
        theirs
            .write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            .await
            .unwrap();
        read(&mut stream).await.unwrap();
        theirs.write_all(&b"\r\n".repeat(behind / 2)).await.unwrap();
        for _ in 0..3 {
            assert!(read_once(&mut stream).await.is_none());
            tokio::task::yield_now().await;
        }
        drop(theirs);
        let error = read(&mut stream).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}

/// The end of a stream.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Cut,
    ShutDown,
    /// hyper has answered the request and drops the stream as it is.
    Dropped,
}

/// True if a socket is handed over for lingering when the client has sent these bytes.
async fn is_left_behind(unread: &[u8], early: &'static [u8], end: End) -> bool {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let patience = Patience {
        grace: Duration::from_secs(3600),
        rate: 0,
    };
    let activity = Arc::new(Activity::new(Endpoints::default(), patience));
    let (behind, mut left_behind) = oneshot::channel();
    let early = Bytes::from_static(early);
    let stream = Stream::new(Socket::Unix(ours), early, Arc::clone(&activity));
    let mut stream = stream.leaving_behind(behind);
    theirs.write_all(unread).await.unwrap();
    match end {
        End::Cut => {}
        End::ShutDown => stream.shutdown().await.unwrap(),
        End::Dropped => activity.hyper_began(),
    }
    drop(stream);
    let is_left_behind = left_behind.try_recv();
    if is_left_behind.is_ok() && end != End::Cut {
        // The write side is closed, and the client sees it.
        assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0);
    }
    is_left_behind.is_ok()
}

#[tokio::test]
async fn only_a_connection_that_ends_well_is_left_behind_and_only_if_something_is_unread() {
    for end in [End::ShutDown, End::Dropped] {
        assert!(is_left_behind(b"GET", b"", end).await);
        assert!(is_left_behind(b"", b"GET", end).await);
        assert!(!is_left_behind(b"", b"", end).await);
    }
    // Otherwise the client would wait for the end of a truncated response.
    assert!(!is_left_behind(b"GET", b"GET", End::Cut).await);
}
