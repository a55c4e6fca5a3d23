//! The service that hyper calls for each request of a connection, and hyper with its limits.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::header::CONNECTION;
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::TokioExecutor;
use tokio_util::sync::CancellationToken;

use crate::front::activity::Activity;
use crate::front::protocol::limits::{MAX_HEAD, PARSER_LIMIT};
use crate::front::request;
use crate::front::request::record::RecordedBody;
use crate::front::site::CurrentSite;

/// Concurrent requests on one HTTP/2 connection: nginx's default.
const MOST_STREAMS: u32 = 128;
/// Bytes of one HTTP/2 response that may wait in memory before its body is polled again: with all
/// streams 8 MiB per connection; hyper's default makes 50.
const SEND_BUFFER: usize = 64 << 10;
/// Window of each stream and of a connection: 20 MB/s over 50 ms.
/// [`received`](crate::front::body::received) charges unread bytes to memory.
const WINDOW: u32 = 1 << 20;
/// Streams that a client may reset before they are accepted (CVE-2023-44487) until the connection
/// is closed: h2's default.
const MOST_RESETS: usize = 20;

/// A connection of hyper.
pub trait Hyper: Future<Output = hyper::Result<()>> + Send {
    /// Ends it after the responses in progress.
    fn graceful_shutdown(self: Pin<&mut Self>);
}

/// Answers the requests of one connection.
#[derive(Clone)]
pub struct Answering {
    /// The settings' part of the front.
    pub sites: Arc<CurrentSite>,
    /// The state of the connection.
    pub activity: Arc<Activity>,
    /// The shutdown has begun.
    /// Shared: a clone of a token locks it, and so does the end of the clone.
    pub asked: Arc<CancellationToken>,
}

type Answered = Result<Response<Box<RecordedBody>>, h2::Error>;

impl Service<Request<Incoming>> for Answering {
    type Response = Response<Box<RecordedBody>>;
    /// hyper resets a stream with the code of an error of h2.
    type Error = h2::Error;
    /// Boxed once: hyper moves it several times.
    type Future = Pin<Box<dyn Future<Output = Answered> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let version = request.version();
        let site = self.sites.get();
        let activity = Arc::clone(&self.activity);
        match request::admission::admit(&site, &activity, request) {
            Err(reset) => Box::pin(std::future::ready(Err(reset))),
            Ok(admitted) => {
                let asked = Arc::clone(&self.asked);
                Box::pin(async move {
                    let mut response = request::answer(site, activity, admitted).await?;
                    set_persistence(&mut response, version, &asked);
                    Ok(response)
                })
            }
        }
    }
}

impl Answering {
    /// hyper for HTTP/1 over `io`.
    pub fn over_http1<I>(self, io: I) -> Pin<Box<dyn Hyper>>
    where
        I: Read + Write + Unpin + Send + 'static,
    {
        let mut http = http1::Builder::new();
        http.title_case_headers(true)
            .header_read_timeout(None)
            .max_buf_size(PARSER_LIMIT);
        Box::pin(http.serve_connection(io, self).with_upgrades())
    }

    /// hyper for HTTP/2 over `io`.
    pub fn over_http2<I>(self, io: I) -> Pin<Box<dyn Hyper>>
    where
        I: Read + Write + Unpin + Send + 'static,
    {
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.max_header_list_size(MAX_HEAD as u32)
            .max_concurrent_streams(Some(MOST_STREAMS))
            .max_send_buf_size(SEND_BUFFER)
            .initial_connection_window_size(WINDOW)
            .initial_stream_window_size(WINDOW)
            .max_pending_accept_reset_streams(Some(match self.activity.ends.trusted {
                // A trusted proxy carries the streams of many clients.
                true => usize::MAX,
                false => MOST_RESETS,
            }))
            // h2 counts them over the life of a connection; `http2::credit` limits their rate.
            .max_local_error_reset_streams(None);
        Box::pin(http.serve_connection(io, self))
    }
}

impl<I> Hyper for http1::UpgradeableConnection<I, Answering>
where
    I: Read + Write + Unpin + Send + 'static,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I> Hyper for http2::Connection<I, Answering, TokioExecutor>
where
    I: Read + Write + Unpin + Send + 'static,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Announces the end of an HTTP/1 connection when the server stops, and keeps hyper from
/// contradicting our own announcement.
fn set_persistence<B>(response: &mut Response<B>, version: Version, asked: &CancellationToken) {
    if version <= Version::HTTP_11 && asked.is_cancelled() && response.status() != 101 {
        let close = http::HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    if version == Version::HTTP_10 && response.headers().contains_key(CONNECTION) {
        // Else hyper adds `keep-alive` to our `close` for a client that asked for it.
        *response.version_mut() = version;
    }
}
