//! The TLS handshake of a connection, bounded as a slow head is.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::{HandshakeKind, ServerConnection};

use super::Unintroduced;
use crate::front::client_limits::handshakes;
use crate::front::shutdown::Shutdown;
use crate::front::site::Site;
use crate::front::socket::Socket;
use crate::front::tls::facts::TlsFacts;
use crate::front::tls::stand_ins::CHALLENGE_PROTOCOL;
use crate::front::tls::stream::TlsStream;
use crate::observe::metrics::METRICS;

/// A connection inside its session.
pub struct Secured {
    pub socket: Socket,
    pub facts: Arc<TlsFacts>,
}

/// The reason why there is no session.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Socket(#[from] std::io::Error),
    #[error(transparent)]
    Protocol(#[from] rustls::Error),
}

/// Carries the handshake out within `limit`; `early` has been received already. `None`: the
/// connection is closed.
pub async fn secure(
    site: &Site,
    socket: Socket,
    early: Bytes,
    client: Option<IpAddr>,
    limit: Duration,
    stop: &Shutdown,
) -> Option<Secured> {
    let (Some(tls), Socket::Tcp(tcp)) = (&site.https.tls, socket) else {
        return None;
    };
    let session = ServerConnection::new(tls.config());
    let session = session.inspect_err(|error| tracing::error!(%error, "no TLS session"));
    let mut stream = TlsStream::new(tcp, session.ok()?, early);
    let waiting = Arc::new(Unintroduced::new());
    let _listed = site
        .connections
        .listed
        .enter(&waiting, client, stop.drain.clone());
    let counted = &METRICS.tls.handshakes;
    // Nothing is lost by dropping the branches that were too late: the connection ends.
    let done = tokio::select! {
        done = shake_hands(&mut stream, client) => done,
        () = tokio::time::sleep(limit) => {
            counted.timed_out.inc();
            tracing::debug!(?client, "connection closed: the TLS handshake was not complete in time");
            return None;
        }
        () = waiting.must_end(stop) => return None,
        () = stop.cut.cancelled() => return None,
    };
    match done {
        Ok(()) => {}
        Err(failure) => {
            match failure {
                Failure::Socket(_) => counted.aborted.inc(),
                Failure::Protocol(_) => counted.failed.inc(),
            }
            tracing::debug!(?client, error = %failure, "TLS handshake failed");
            return None;
        }
    }
    let session = stream.session();
    if session.alpn_protocol() == Some(CHALLENGE_PROTOCOL) {
        // RFC 8737 §3: no data follows.
        tracing::info!(
            ?client,
            "challenge of the authority answered in a TLS handshake"
        );
        return None;
    }
    let name = match session {
        rustls::Connection::Server(session) => session.server_name(),
        rustls::Connection::Client(_) => None,
    };
    let facts = Arc::new(TlsFacts::of(session, name, tls.client_auth()));
    let is_resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
    counted.completed(facts.protocol, is_resumed);
    let socket = Socket::Tls(Box::new(stream));
    Some(Secured { socket, facts })
}

async fn shake_hands(stream: &mut TlsStream, client: Option<IpAddr>) -> Result<(), Failure> {
    while stream.receive_handshake().await? {
        let turn = handshakes::turn(client).await;
        stream.process()?;
        drop(turn);
        // Others first, before the next step.
        tokio::task::yield_now().await;
    }
    Ok(())
}
