//! The admin listener's connections: few, small, and never in the way of clients'.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Probes;
use super::door::Door;
use crate::front::listener::Listener;
use crate::front::socket::Socket;

/// Connections at a time; more wait in the kernel. A few scrapers and probes keep one each.
const CONNECTIONS: usize = 64;
/// Longest request head: a probe's has some hundred bytes.
const LONGEST_HEAD: usize = 16 << 10;
/// How long a head may take, and how long a connection may stay idle: beyond Prometheus'
/// usual minute between two scrapes.
const IDLE: Duration = Duration::from_secs(90);

/// Answers until `ended`, also while the server drains.
///
/// # Errors
/// What the kernel says about registering the socket.
pub async fn serve(
    listener: Listener,
    probes: Probes,
    ended: CancellationToken,
    tasks: TaskTracker,
) -> io::Result<()> {
    let listener = listener.into_accept()?;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let door = Door::default();
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            // Cancel-safe: dropped only when nothing more is wanted.
            next = next => next,
            // Cancel-safe: the token stays cancelled.
            () = ended.cancelled() => return Ok(()),
        };
        match accepted {
            Ok((socket, _ends)) => {
                let (probes, ended) = (probes.clone(), ended.clone());
                let reserve = Arc::clone(&door.reserve);
                tasks.spawn(async move {
                    let _place = place;
                    tokio::select! {
                        // Cancel-safe: dropped only when nothing more is wanted.
                        () = connection(socket, probes) => {}
                        // Cancel-safe: the token stays cancelled.
                        () = ended.cancelled() => {}
                    }
                    reserve.refill();
                });
            }
            Err(error) => door.get_past(&listener, &error, "the admin listener").await,
        }
    }
}

async fn connection(socket: Socket, probes: Probes) {
    let service = service_fn(move |request: Request<Incoming>| {
        let probes = probes.clone();
        async move {
            let (head, _unread) = request.into_parts();
            let target = head.uri.path();
            let said = probes.answer(&head.method, target, &head.headers).await;
            Ok::<Response<Full<Bytes>>, Infallible>(said.map(Full::new))
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(LONGEST_HEAD);
    let served = match socket {
        Socket::Tcp(socket) => http.serve_connection(TokioIo::new(socket), service).await,
        Socket::Unix(socket) => http.serve_connection(TokioIo::new(socket), service).await,
    };
    if let Err(error) = served {
        tracing::debug!(%error, "admin connection ended");
    }
}
