//! The TLS handshake of a connection, bounded in time as a slow head is, and in bytes.
//!
//! rustls gathers messages of up to 64 KiB. The bytes of an unfinished handshake are limited here
//! and, beyond those that [`TLS`] counts for each session, charged to the client's account.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::{HandshakeKind, ServerConnection};

use super::Unintroduced;
use crate::front::client_limits::handshakes;
use crate::front::client_limits::memory_budget::{Account, Reservation, Resource, SMALL, TLS};
use crate::front::shutdown::Shutdown;
use crate::front::site::Site;
use crate::front::socket::Socket;
use crate::front::tls::facts::TlsFacts;
use crate::front::tls::refused_clients;
use crate::front::tls::stand_ins::CHALLENGE_PROTOCOL;
use crate::front::tls::stream::TlsStream;
use crate::observe::metrics::METRICS;

/// A connection inside its session.
pub struct Secured {
    pub socket: Socket,
    /// The facts about the session; `None`: the client sends plain HTTP.
    pub facts: Option<Arc<TlsFacts>>,
    /// Plain bytes that were received before those of the socket.
    pub early: Bytes,
}

impl Secured {
    /// A connection whose client sends plain HTTP.
    fn not(stream: TlsStream) -> Self {
        let (tcp, early) = stream.into_plain();
        Self {
            socket: Socket::Tcp(tcp),
            facts: None,
            early,
        }
    }
}

/// The reason why there is no session.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Socket(#[from] io::Error),
    #[error(transparent)]
    Protocol(#[from] rustls::Error),
    #[error("it has more than {0} bytes")]
    TooLong(usize),
    #[error("the memory of clients is in use")]
    NoMemory,
    #[error("it is plain HTTP")]
    PlainHttp,
}

/// Longest handshake of a client without a certificate: a ClientHello, once more after a
/// HelloRetryRequest, and what completes it. BoringSSL refuses a message above 16 KiB; real ones
/// have less than 3 KiB, with a session ticket and a post-quantum key share.
const LONGEST: usize = 32 << 10;
/// The same where client certificates are asked for. The chain, and the session ticket that
/// contains it, have up to 64 KiB each (the limit of rustls for a message).
const LONGEST_WITH_CERTIFICATES: usize = 192 << 10;

/// Carries the handshake out within `limit`; `early` has been received already. Plain HTTP is left
/// as it is, to be refused with a page. `None`: the connection is closed.
pub async fn secure(
    site: &Site,
    socket: Socket,
    early: Bytes,
    client: Option<IpAddr>,
    account: &Arc<Account>,
    limit: Duration,
    stop: &Shutdown,
) -> Option<Secured> {
    let (Some(tls), Socket::Tcp(tcp)) = (&site.https.tls, socket) else {
        return None;
    };
    let session = ServerConnection::new(tls.config());
    let session = session.inspect_err(|error| tracing::error!(%error, "no TLS session"));
    let mut stream = TlsStream::new(tcp, session.ok()?, early);
    let longest = match tls.client_auth() {
        None => LONGEST,
        Some(_) => LONGEST_WITH_CERTIFICATES,
    };
    let mut memory = Reservation::none(Arc::clone(account), Resource::Memory);
    let waiting = Arc::new(Unintroduced::new());
    let _listed = site
        .connections
        .listed
        .enter(&waiting, client, stop.drain.clone());
    let counted = &METRICS.tls.handshakes;
    // Nothing is lost by dropping the branches that were too late: the connection ends.
    let done = tokio::select! {
        done = shake_hands(&mut stream, client, longest, &mut memory) => done,
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
        Err(Failure::PlainHttp) => {
            counted.failed.inc();
            return Some(Secured::not(stream));
        }
        Err(failure) => {
            note(&failure, client);
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
    Some(Secured {
        socket,
        facts: Some(facts),
        early: Bytes::new(),
    })
}

/// Counts a handshake without a session and logs it.
fn note(failure: &Failure, client: Option<IpAddr>) {
    let counted = &METRICS.tls.handshakes;
    let is_noted = match failure {
        Failure::Socket(_) => {
            counted.aborted.inc();
            false
        }
        Failure::Protocol(error) => {
            counted.failed.inc();
            refused_clients::note(error, client)
        }
        Failure::TooLong(_) | Failure::NoMemory | Failure::PlainHttp => {
            counted.failed.inc();
            false
        }
    };
    if !is_noted {
        tracing::debug!(?client, error = %failure, "TLS handshake failed");
    }
}

async fn shake_hands(
    stream: &mut TlsStream,
    client: Option<IpAddr>,
    longest: usize,
    memory: &mut Reservation,
) -> Result<(), Failure> {
    if stream.begins_with_letter().await? {
        return Err(Failure::PlainHttp);
    }
    while stream.receive_handshake().await? {
        let received = stream.received();
        if received > longest {
            return Err(Failure::TooLong(longest));
        }
        // Twice, because rustls's buffer doubles when it grows.
        if received > TLS - SMALL && !memory.grow(2 * received - TLS) {
            return Err(Failure::NoMemory);
        }
        let turn = handshakes::turn(client).await;
        stream.process()?;
        drop(turn);
        // Others first, before the next step.
        tokio::task::yield_now().await;
    }
    Ok(())
}
