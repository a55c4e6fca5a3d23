//! Requests to the authority: HTTP/1.1 by hyper inside a TLS session, one connection at a time.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::error::AcmeError;
use crate::front::tls;
use crate::front::tls::roots;
use crate::front::tls::stream::TlsStream;

/// Longest time of one request with its answer; a connection is a part of it.
const LIMIT: Duration = Duration::from_secs(30);
/// Longest answer: a chain has some KiB.
const LONGEST_ANSWER: usize = 1 << 20;
/// RFC 8555 §6.1 wants one.
const AGENT: &str = concat!("pyserve/", env!("CARGO_PKG_VERSION"));

/// Sends requests to the authority.
pub struct Client {
    config: Arc<ClientConfig>,
    open: Option<Open>,
}

/// A connection that waits for the next request.
struct Open {
    authority: String,
    sender: SendRequest<Full<Bytes>>,
    _task: Task,
}

/// The task that drives a connection; it ends with the value.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// A field of the head.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// `Retry-After`, in seconds or as a date (RFC 9110 §10.2.3).
    pub fn retry_after(&self) -> Option<Duration> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        if let Ok(seconds) = text.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let date = httpdate::parse_http_date(text).ok()?;
        let left = date.duration_since(std::time::SystemTime::now());
        Some(left.unwrap_or_default())
    }
}

impl Client {
    /// A client that trusts the roots in `ca`, else those of the system. Blocks.
    ///
    /// # Errors
    /// There are no roots.
    pub fn new(ca: Option<&PathBuf>) -> Result<Self, AcmeError> {
        let roots = match ca {
            Some(ca) => Arc::new(roots_in(ca)?),
            None => roots::of_system("give --acme-ca FILE")
                .map_err(|error| AcmeError::Settings(error.to_string()))?,
        };
        let config = ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| AcmeError::internal("cannot use TLS", error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            config: Arc::new(config),
            open: None,
        })
    }

    /// Sends a request and receives the whole answer, of any status.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn request(
        &mut self,
        method: Method,
        url: &str,
        body: Option<String>,
    ) -> Result<Answer, AcmeError> {
        let uri: Uri = url
            .parse()
            .map_err(|error| AcmeError::Unexpected(format!("{url:?} is no URL: {error}")))?;
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        if uri.scheme_str() != Some("https") || authority.is_empty() {
            let text = format!("the authority names {url:?}, which is no https:// URL");
            return Err(AcmeError::Unexpected(text));
        }
        let unreachable = |why: String| AcmeError::Unreachable {
            authority: authority.clone(),
            why,
        };
        let answer = self.exchange(method, &uri, &authority, body);
        match tokio::time::timeout(LIMIT, answer).await {
            Ok(answer) => answer.map_err(|error| unreachable(error.to_string())),
            Err(_) => {
                self.open = None;
                let limit = LIMIT.as_secs();
                Err(unreachable(format!("no answer within {limit} s")))
            }
        }
    }

    async fn exchange(
        &mut self,
        method: Method,
        uri: &Uri,
        authority: &str,
        body: Option<String>,
    ) -> io::Result<Answer> {
        let kept = self.open.take().filter(|open| open.authority == authority);
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let body = body.map(Bytes::from);
        let request = || {
            let request = Request::builder()
                .method(&method)
                .uri(target)
                .header(HOST, authority)
                .header(USER_AGENT, AGENT)
                .header(ACCEPT, "*/*");
            let request = match &body {
                Some(body) => request
                    .header(CONTENT_TYPE, "application/jose+json")
                    .header(CONTENT_LENGTH, body.len()),
                None => request,
            };
            request
                .body(Full::new(body.clone().unwrap_or_default()))
                .map_err(io::Error::other)
        };
        let mut answer = None;
        // The authority may have closed a connection that was kept: then the request was not handled,
        // or its nonce is used, which the caller handles.
        if let Some(mut open) = kept
            && open.sender.ready().await.is_ok()
            && let Ok(received) = open.sender.send_request(request()?).await
        {
            answer = Some((open, received));
        }
        let (open, received) = match answer {
            Some(answer) => answer,
            None => {
                let mut open = self.connect(uri, authority).await?;
                let received = open.sender.send_request(request()?).await;
                (open, received.map_err(io::Error::other)?)
            }
        };
        let (head, body) = received.into_parts();
        let body = Limited::new(body, LONGEST_ANSWER).collect().await;
        let body = body.map_err(io::Error::other)?.to_bytes();
        self.open = Some(open);
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
        })
    }

    async fn connect(&self, uri: &Uri, authority: &str) -> io::Result<Open> {
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let tcp = TcpStream::connect((host, uri.port_u16().unwrap_or(443))).await?;
        let _slower = tcp.set_nodelay(true);
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let session = ClientConnection::new(Arc::clone(&self.config), name);
        let session = session.map_err(io::Error::other)?;
        let mut stream = TlsStream::new(tcp, session, Bytes::new());
        while stream.receive_handshake().await? {
            stream.process().map_err(io::Error::other)?;
        }
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let task = tokio::spawn(async {
            // The request gets the error as well.
            let _ended = connection.await;
        });
        Ok(Open {
            authority: authority.to_owned(),
            sender,
            _task: Task(task),
        })
    }
}

/// The roots in a file in PEM. Blocks.
#[allow(clippy::disallowed_methods, reason = "called in the FilePool")]
fn roots_in(file: &Path) -> Result<RootCertStore, AcmeError> {
    let problem = |why: String| {
        let file = file.display();
        AcmeError::Settings(format!("cannot use the root certificates in {file}: {why}"))
    };
    let text = std::fs::read(file).map_err(|error| problem(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(&text) {
        let root = root.map_err(|error| problem(error.to_string()))?;
        roots
            .add(root)
            .map_err(|error| problem(error.to_string()))?;
    }
    match roots.is_empty() {
        true => Err(problem("there is none".to_owned())),
        false => Ok(roots),
    }
}
