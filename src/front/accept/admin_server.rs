//! The connections of the admin listener: few, small, and independent of those of clients.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
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

/// Answers until `ended`, also while the server drains.
///
/// # Errors
/// The error of the system call for registering the socket.
pub async fn serve(
    listener: Listener,
    probes: Probes,
    ended: CancellationToken,
    tasks: TaskTracker,
) -> io::Result<()> {
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
            // Cancel-safe: the token stays cancelled.
            () = ended.cancelled() => return Ok(()),
        };
        match accepted {
            Ok((socket, _ends)) => {
                let (probes, ended) = (probes.clone(), ended.clone());
                let reserve = Arc::clone(&spare.reserve);
                let visitor = visitors.enter(number);
                tasks.spawn(async move {
                    tokio::select! {
                        // Cancel-safe: dropped only at the end.
                        () = connection(socket, probes, Arc::clone(&visitor)) => {}
                        // Cancel-safe: the tokens stay cancelled.
                        () = visitor.leave.cancelled() => {}
                        () = ended.cancelled() => {}
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

async fn connection(socket: Socket, probes: Probes, visitor: Arc<AdminConnection>) {
    let service = tower::service_fn(move |request: Request<Incoming>| {
        let (probes, visitor) = (probes.clone(), Arc::clone(&visitor));
        async move {
            let _answering = visitor.answering();
            let (head, _unread) = request.into_parts();
            let target = head.uri.path();
            let said = probes.answer(&head.method, target, &head.headers).await;
            Ok::<Response<Full<Bytes>>, Infallible>(said.map(Full::new))
        }
    });
    let service = TowerToHyperService::new(service);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(LONGEST_HEAD);
    let served = match socket {
        Socket::Tcp(socket) => http.serve_connection(TokioIo::new(socket), service).await,
        Socket::Unix(socket) => http.serve_connection(TokioIo::new(socket), service).await,
        Socket::Tls(socket) => http.serve_connection(TokioIo::new(socket), service).await,
    };
    if let Err(error) = served {
        tracing::debug!(%error, "admin connection ended");
    }
}
