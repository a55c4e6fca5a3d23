//! Upstream connections that are reserved for one client connection.
//!
//! NTLM and Negotiate authenticate a connection, not a request (RFC 4559 §6): the server takes
//! every later request on it for one of the same user. So a connection on which either appears
//! never serves another client. It is kept with the client's connection for that client's next
//! request, as long as both live; nginx does the same with `ntlm`.
//!
//! HTTP/2 requests share their client's connection, so that no next request is defined: such an
//! upstream connection is closed after the response.

use parking_lot::Mutex;
use std::sync::Arc;

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName, WWW_AUTHENTICATE};
use tokio::sync::OwnedMutexGuard;

use super::reply_head::listed_in;
use crate::front::socket::Socket;

/// Schemes that authenticate connections.
const SCHEMES: [&[u8]; 2] = [b"ntlm", b"negotiate"];

/// The client of a request, for the ownership of connections.
pub struct Owner {
    /// Upstream connections of this client alone; `None` where its requests share a connection.
    pub links: Option<Arc<PrivateLinks>>,
    /// True if the request authenticates the connection over which it is sent.
    pub authenticates: bool,
}

/// The reserved connections of one client connection: at most one for each set of servers.
#[derive(Debug, Default)]
pub struct PrivateLinks(Mutex<Vec<(u64, Shared)>>);

type Shared = Arc<tokio::sync::Mutex<Option<Link>>>;

/// A connection kept for its client's next request.
#[derive(Debug)]
pub struct Link {
    /// The connection.
    pub socket: Socket,
    /// Number of the server.
    pub server: usize,
}

/// The lock on a reserved connection. It is held while a request is in flight, so that the next one
/// finds the connection there.
pub type PrivateLinkGuard = OwnedMutexGuard<Option<Link>>;

impl PrivateLinks {
    /// The lock for these servers, if it exists or `is_needed`.
    async fn place(&self, servers: u64, is_needed: bool) -> Option<PrivateLinkGuard> {
        let shared = self.shared(servers, is_needed)?;
        Some(shared.lock_owned().await)
    }

    fn shared(&self, servers: u64, is_needed: bool) -> Option<Shared> {
        let mut places = self.0.lock();
        let found = places.iter().find(|(of, _)| *of == servers);
        if let Some((_, shared)) = found {
            return Some(Arc::clone(shared));
        }
        is_needed.then(|| {
            let shared = Shared::default();
            places.push((servers, Arc::clone(&shared)));
            shared
        })
    }
}

/// The owner of the connection during one exchange.
#[derive(Debug)]
pub struct Ownership {
    /// The client's connections, unless its requests share a connection.
    links: Option<Arc<PrivateLinks>>,
    servers: u64,
    is_private: bool,
    place: Option<PrivateLinkGuard>,
}

impl Ownership {
    /// No owner: the protocol has one request per connection.
    pub fn none() -> Self {
        Self {
            links: None,
            servers: 0,
            is_private: false,
            place: None,
        }
    }

    /// The owner for a request to these servers. Waits until the client's previous request has
    /// released its connection.
    pub async fn of(owner: &Owner, servers: u64) -> Self {
        let place = match &owner.links {
            Some(links) => links.place(servers, owner.authenticates).await,
            None => None,
        };
        Self {
            links: owner.links.clone(),
            servers,
            is_private: owner.authenticates || place.is_some(),
            place,
        }
    }

    /// True if the connection may serve this client alone.
    pub fn is_private(&self) -> bool {
        self.is_private
    }

    /// The connection reserved for this request, if it is still open.
    pub fn take(&mut self) -> Option<Link> {
        let mut link = self.place.as_mut()?.take()?;
        link.socket.is_quiet().then_some(link)
    }

    /// Inspects a response: the connection becomes private if it asks for one of the schemes. The
    /// client does not have the response yet, so its next request has not begun.
    pub fn answered(&mut self, said: &HeaderMap) {
        if !self.is_private && names_scheme(said, &WWW_AUTHENTICATE) {
            self.is_private = true;
            let shared = self.links.as_ref();
            let shared = shared.and_then(|links| links.shared(self.servers, true));
            self.place = shared.and_then(|shared| shared.try_lock_owned().ok());
        }
    }

    /// Keeps the reusable connection if it is private; returns it if it is not.
    pub fn keep(mut self, link: Link) -> Option<Link> {
        if !self.is_private {
            return Some(link);
        }
        if let Some(place) = &mut self.place {
            **place = Some(link);
        }
        None
    }
}

/// True if a request authenticates the connection over which it is sent.
pub fn authenticates(asked: &HeaderMap) -> bool {
    names_scheme(asked, &AUTHORIZATION)
}

/// True if one of the fields begins with such a scheme, or lists one (RFC 9110 §11.6.1).
fn names_scheme(headers: &HeaderMap, field: &HeaderName) -> bool {
    listed_in(headers, field).any(|part| {
        let word = part.split(u8::is_ascii_whitespace).next();
        let word = word.unwrap_or_default();
        SCHEMES
            .iter()
            .any(|scheme| word.eq_ignore_ascii_case(scheme))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn schemes_of_connections_are_found_wherever_they_stand() {
        for (value, expected) in [
            ("NTLM", true),
            ("ntlm TlRMTVNTUAAB", true),
            ("Negotiate oYG2MIGz", true),
            ("NTLM\tTlRMTVNTUAAB", true),
            ("nEGOTIATE\t oYG2MIGz", true),
            ("Basic realm=\"a\",\tNTLM\tx", true),
            ("NTLMv3\tx", false),
            ("Basic realm=\"x\", NTLM", true),
            ("Basic realm=\"a\",Negotiate", true),
            ("Basic bnRsbTp4", false),
            ("Bearer ntlm", false),
            ("NTLMv3 x", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Digest x=y"));
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(value));
            assert_eq!(
                names_scheme(&headers, &WWW_AUTHENTICATE),
                expected,
                "{value}"
            );
        }
    }
}
