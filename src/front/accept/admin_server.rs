//! The connections of the admin listener: few, small, and independent of those of clients.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::HttpService;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admin_connections::{AdminConnection, AdminConnections};
use super::spare_descriptor::SpareDescriptor;
use crate::front::accept::listener::Listener;
use crate::front::admin::Probes;
use crate::front::socket::Socket;

/// Connections at a time; one more closes the one that has been idle longest. A few scrapers and
/// probes keep one each.
const CONNECTIONS: usize = 64;
/// Longest request head: a probe's has a few hundred bytes.
const LONGEST_HEAD: usize = 16 << 10;
/// Time limit for a head, and for an idle connection: longer than the minute that Prometheus
/// usually waits between two scrapes.
const IDLE: Duration = Duration::from_secs(90);

/// Time for which a connection stays open for a request that is under way when another process takes
/// the listener over; as for clients at a stop.
const LAST_REQUEST: Duration = Duration::from_millis(250);

/// The steps of the interfaces besides the listeners: the control socket and the admin listener.
#[derive(Debug, Clone, Default)]
pub struct Stages {
    /// Connections are accepted from now on.
    pub open: CancellationToken,
    /// Another process accepts connections from now on; those that exist end with their next response.
    pub released: CancellationToken,
    /// Everything ends.
    pub ended: CancellationToken,
}

/// Answers until the end, also while the server drains.
///
/// # Errors
/// The error of the system call for registering the socket.
pub async fn serve(
    listener: Listener,
    probes: Probes,
    stages: Stages,
    tasks: TaskTracker,
) -> io::Result<()> {
    let ended = &stages.ended;
    // Both are cancel-safe: tokens that stay cancelled.
    tokio::select! {
        () = stages.open.cancelled() => {}
        () = ended.cancelled() => return Ok(()),
    }
    let listener = listener.into_accept()?;
    let visitors = AdminConnections::new(CONNECTIONS);
    let spare = SpareDescriptor::default();
    for number in 0.. {
        let next = async {
            // Accepted first: an idle connection is closed only for a new one.
            let accepted = listener.accept().await;
            visitors.room().await;
            accepted
        };
        let accepted = tokio::select! {
            // Cancel-safe: dropped only at the end.
            next = next => next,
            // Both are cancel-safe: tokens that stay cancelled.
            () = stages.released.cancelled() => return Ok(()),
            () = ended.cancelled() => return Ok(()),
        };
        match accepted {
            Ok((socket, _ends)) => {
                let (probes, stages) = (probes.clone(), stages.clone());
                let reserve = Arc::clone(&spare.reserve);
                let visitor = visitors.enter(number);
                tasks.spawn(async move {
                    tokio::select! {
                        // Cancel-safe: dropped only at the end.
                        () = connection(socket, probes, Arc::clone(&visitor), stages.released) => {}
                        // Cancel-safe: the tokens stay cancelled.
                        () = visitor.leave.cancelled() => {}
                        () = stages.ended.cancelled() => {}
                    }
                    drop(visitor);
                    reserve.refill();
                });
            }
            Err(error) => {
                spare
                    .get_past(&listener, &error, "the admin listener")
                    .await
            }
        }
    }
    Ok(())
}

async fn connection(
    socket: Socket,
    probes: Probes,
    visitor: Arc<AdminConnection>,
    released: CancellationToken,
) {
    let is_last = released.clone();
    let service = tower::service_fn(move |request: Request<Incoming>| {
        let (probes, visitor, is_last) = (probes.clone(), Arc::clone(&visitor), is_last.clone());
        async move {
            let _answering = visitor.answering();
            let (head, _unread) = request.into_parts();
            let target = head.uri.path();
            let mut said = probes.answer(&head.method, target, &head.headers).await;
            if is_last.is_cancelled() {
                let close = HeaderValue::from_static("close");
                said.headers_mut().insert(CONNECTION, close);
            }
            Ok::<Response<Full<Bytes>>, Infallible>(said.map(Full::new))
        }
    });
    let service = TowerToHyperService::new(service);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(LONGEST_HEAD);
    let served = match socket {
        Socket::Tcp(socket) => until_released(http, socket, service, released).await,
        Socket::Unix(socket) => until_released(http, socket, service, released).await,
        Socket::Tls(socket) => until_released(http, socket, service, released).await,
    };
    if let Err(error) = served {
        tracing::debug!(%error, "admin connection ended");
    }
}

/// Serves a connection to its end; when another process takes the listener over, it ends when it is idle.
async fn until_released<I, S>(
    http: http1::Builder,
    socket: I,
    service: S,
    released: CancellationToken,
) -> hyper::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: HttpService<Incoming, ResBody = Full<Bytes>>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut served = pin!(http.serve_connection(TokioIo::new(socket), service));
    let quiet = async {
        released.cancelled().await;
        tokio::time::sleep(LAST_REQUEST).await;
    };
    tokio::select! {
        // Cancel-safe: polled in place, and again below.
        ended = served.as_mut() => return ended,
        () = quiet => served.as_mut().graceful_shutdown(),
    }
    served.await
}
