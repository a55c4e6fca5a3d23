//! Servers that stand behind pyserve: the text of `--uwsgi` into addresses, `--uwsgi-param`
//! into names and values, and how they are spoken to.
//!
//! Nothing here connects or looks a name up; the addresses are only read.

use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::ServerName;

use super::address::ListenAddress;
use super::error::{Invalid, invalid};
use super::native;

/// Servers that answer the same requests, one as good as the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// Their protocol.
    pub protocol: Protocol,
    /// At least one, each once.
    pub servers: Vec<ServerAddress>,
    /// Their timeouts.
    pub timeouts: UpstreamTimeouts,
    /// The rule by which one of them is chosen.
    pub balance: BalanceBy,
    /// TLS towards all of them; `None`: they are spoken to in the clear.
    pub tls: Option<UpstreamTls>,
}

/// TLS towards servers, whose certificates are always verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The authorities, in PEM, absolute; `None`: those of the system.
    pub ca: Option<PathBuf>,
    /// The name that each server has in its certificate and gets by SNI, in the order of the servers.
    pub names: Vec<ServerName<'static>>,
    /// The certificate with which this server authenticates itself.
    pub own: Option<OwnCertificate>,
}

/// A certificate for connections to servers, with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnCertificate {
    /// The certificate in PEM, and the intermediate ones behind it; absolute.
    pub cert: PathBuf,
    /// The private key in PEM; absolute.
    pub key: PathBuf,
}

/// The rule by which a server is chosen among those that work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BalanceBy {
    /// The one with the fewest requests in flight.
    #[default]
    Requests,
    /// The same for all requests of an address (nginx: `ip_hash`).
    Address,
}

/// The protocol of an upstream server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protocol {
    /// The uwsgi protocol, of uWSGI and others.
    Uwsgi(UwsgiSettings),
    /// HTTP/1.1.
    Http(HttpSettings),
}

/// Names and paths by which an HTTP server knows what clients ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSettings {
    /// The value of `Host`.
    pub host: UpstreamHost,
    /// The replacement of the location's prefix in request targets, if there is one.
    pub replacement: Option<Replacement>,
    /// True if `Location` and `Refresh` fields that name the server are mapped back (nginx:
    /// `proxy_redirect default`).
    pub redirects: bool,
    /// True if paths of cookies are mapped back (nginx: `proxy_cookie_path`).
    pub cookie_paths: bool,
}

/// The value of `Host` in requests for an HTTP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamHost {
    /// The client's, as it is (nginx: `$http_host`).
    Client,
    /// The client's in lower case and without its port, with another port or none (nginx: `$host`).
    ClientName(HostPort),
    /// The server's own address (nginx: `$proxy_host`).
    Server,
    /// This text.
    Name(String),
}

/// The port behind the name of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostPort {
    /// None.
    Absent,
    /// The one that the client connected to (nginx: `$server_port`).
    Connected,
    /// This one.
    Number(u16),
}

/// The replacement of a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    /// The location's prefix as a URL has it; empty for the whole site.
    pub prefix: String,
    /// The path that replaces it, percent-encoded, without a slash at its end; that of an exact path
    /// as it is given.
    pub by: String,
}

/// Variables for a uwsgi server besides those of the request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UwsgiSettings {
    /// First byte of the packet: 0 is WSGI.
    pub modifier1: u8,
    /// Its last byte.
    pub modifier2: u8,
    /// Variables besides those of the request; one of the same name wins over the request's.
    pub params: Vec<(String, OsString)>,
    /// The value of `DOCUMENT_ROOT`.
    pub document_root: PathBuf,
}

/// Timeouts of an upstream server, each at least a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamTimeouts {
    /// Until it has accepted the connection.
    pub connect: Duration,
    /// While it accepts no bytes of what is sent.
    pub send: Duration,
    /// While it sends nothing.
    pub read: Duration,
}

/// Address of an upstream server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ServerAddress {
    /// A host, as a name or an address without brackets, and a port.
    Tcp {
        /// Name or address.
        host: String,
        /// Port, at least 1.
        port: u16,
    },
    /// Absolute path of a Unix socket.
    Unix(PathBuf),
}

impl UpstreamSettings {
    /// True if the servers get another path in place of the location's prefix.
    pub fn replaces_prefix(&self) -> bool {
        matches!(&self.protocol, Protocol::Http(http) if http.replacement.is_some())
    }
}

impl fmt::Display for UpstreamSettings {
    /// `uwsgi unix:/path, 127.0.0.1:3031`, `https 127.0.0.1:9000 below /other`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match (&self.protocol, &self.tls) {
            (Protocol::Uwsgi(_), _) => "uwsgi",
            (Protocol::Http(_), None) => "http",
            (Protocol::Http(_), Some(_)) => "https",
        };
        let servers: Vec<_> = self.servers.iter().map(ToString::to_string).collect();
        write!(f, "{protocol} {}", servers.join(", "))?;
        match &self.protocol {
            Protocol::Http(HttpSettings {
                replacement: Some(replacement),
                ..
            }) if replacement.by.is_empty() => f.write_str(" without the prefix")?,
            Protocol::Http(HttpSettings {
                replacement: Some(replacement),
                ..
            }) => write!(f, " below {}", replacement.by)?,
            _ => {}
        }
        match self.balance {
            BalanceBy::Requests => Ok(()),
            BalanceBy::Address => f.write_str(" by address"),
        }
    }
}

impl fmt::Display for ServerAddress {
    /// `127.0.0.1:3031`, `[::1]:3031` or `unix:/path`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl ServerAddress {
    /// `unix:/path` (a relative path is below `base`), `127.0.0.1:3031`, `[::1]:3031`, `name:3031`,
    /// each also with `uwsgi://` in front; also `uwsgi+unix:/path`.
    ///
    /// # Errors
    /// [`Invalid`] for anything else.
    pub fn uwsgi(text: &str, base: &Path) -> Result<Self, Invalid> {
        let remedy = "give `unix:/path/of.sock` or `127.0.0.1:3031`";
        let bare = match text.strip_prefix("uwsgi+") {
            Some(rest) if rest.starts_with("unix:") => rest,
            _ => text.strip_prefix("uwsgi://").unwrap_or(text),
        };
        if bare.starts_with("http://") || bare.starts_with("https://") {
            return Err(invalid("this is an address of HTTP, not of uwsgi", remedy));
        }
        Self::parse(bare.trim_end_matches('/'), base, remedy)
    }

    /// `http://127.0.0.1:9000`, `http://name` (port 80), `https://name` (port 443),
    /// `http+unix:/path`.
    ///
    /// # Errors
    /// [`Invalid`] for anything else. A path behind the port is refused: requests keep theirs.
    pub fn http(text: &str, base: &Path) -> Result<Self, Invalid> {
        let remedy = "give `http://127.0.0.1:9000`, `https://name` or `http+unix:/path/of.sock`";
        if let Some(rest) = text.strip_prefix("http+")
            && rest.starts_with("unix:")
        {
            return Self::parse(rest, base, remedy);
        }
        if text.starts_with("https+unix:") {
            return Err(invalid("there is no TLS over Unix sockets", remedy));
        }
        let (rest, port) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (rest, 80),
            (None, Some(rest)) => (rest, 443),
            (None, None) => return Err(invalid("not an address of HTTP", remedy)),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '@']) {
            return Err(invalid(
                "a server has no path; requests keep theirs",
                "give scheme, host and port alone, and the path as `replace_prefix` in a \
                 [[location]]",
            ));
        }
        let has_port = match authority.rsplit_once(']') {
            Some((_, behind)) => behind.starts_with(':'),
            None => authority.contains(':'),
        };
        match has_port {
            true => Self::parse(authority, base, remedy),
            false => Self::parse(&format!("{authority}:{port}"), base, remedy),
        }
    }

    /// True if it can only be on this machine.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp { host, .. } => {
                host == "localhost"
                    || host
                        .parse::<IpAddr>()
                        .is_ok_and(|ip| ip.to_canonical().is_loopback())
            }
        }
    }

    fn parse(text: &str, base: &Path, remedy: &str) -> Result<Self, Invalid> {
        if text.starts_with("unix:") {
            return match ListenAddress::parse(text, base)? {
                ListenAddress::Unix(path) => Ok(Self::Unix(path)),
                ListenAddress::Tcp(_) | ListenAddress::Tls(_) => {
                    Err(invalid("no path of a socket", remedy))
                }
            };
        }
        if text.starts_with(['/', '.']) {
            return Err(invalid(
                "a path needs `unix:` before it",
                format!("give unix:{text}"),
            ));
        }
        let (host, port) = text
            .rsplit_once(':')
            .ok_or_else(|| invalid("no port", remedy))?;
        let port = match port.parse::<u16>() {
            Ok(port @ 1..) if port.to_string().len() == text.len() - host.len() - 1 => port,
            _ => return Err(invalid("no such port", "give a port from 1 to 65535")),
        };
        let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(address) if address.parse::<std::net::Ipv6Addr>().is_ok() => address,
            None if is_host_name(host) => host,
            _ => return Err(invalid("no host before the port", remedy)),
        };
        Ok(Self::Tcp {
            host: host.to_ascii_lowercase(),
            port,
        })
    }
}

/// Reads `NAME=VALUE` of a variable for a uwsgi server.
///
/// # Errors
/// [`Invalid`] without a name, or for a name with anything but letters, digits and `_.-`.
pub fn uwsgi_param(text: &str) -> Result<(String, OsString), Invalid> {
    let remedy = "give NAME=VALUE, as in `SCRIPT_NAME=/shop`";
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| invalid("no `=` between name and value", remedy))?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_plain) {
        return Err(invalid("not the name of a variable", remedy));
    }
    if value.contains('\0') {
        return Err(invalid("the value contains a NUL", remedy));
    }
    Ok((name.to_owned(), native::string(value)))
}

/// Reads `NAME=VALUE` of a variable for an application of this server.
///
/// # Errors
/// As [`uwsgi_param`], and for variables that the server sets for each request.
pub fn environ_variable(text: &str) -> Result<(String, OsString), Invalid> {
    let (name, value) = uwsgi_param(text)?;
    if name.starts_with("HTTP_") {
        let remedy = "set the field of the request: `request_header`";
        return Err(invalid("a variable of a header field", remedy));
    }
    let is_own = OF_REQUESTS.contains(&&*name)
        || ["SSL_", "UWSGI_", "wsgi.", "pyserve."]
            .iter()
            .any(|start| name.starts_with(start));
    match is_own {
        true => Err(invalid(
            format!("{name} is set by the server for each request"),
            "remove it",
        )),
        false => Ok((name, value)),
    }
}

/// The variables of every request (`front/request/environ.rs`), and others that frameworks read as
/// facts about it.
const OF_REQUESTS: [&str; 20] = [
    "AUTH_TYPE",
    "CONTENT_LENGTH",
    "CONTENT_TYPE",
    "DOCUMENT_ROOT",
    "GATEWAY_INTERFACE",
    "HTTPS",
    "PATH_INFO",
    "QUERY_STRING",
    "RAW_URI",
    "REMOTE_ADDR",
    "REMOTE_PORT",
    "REMOTE_USER",
    "REQUEST_METHOD",
    "REQUEST_SCHEME",
    "REQUEST_URI",
    "SCRIPT_NAME",
    "SERVER_NAME",
    "SERVER_PORT",
    "SERVER_PROTOCOL",
    "SERVER_SOFTWARE",
];

/// Reads the value of `Host`: `client`, `server`, `{host}` for the client's without its port, or a host;
/// the last two may have a port.
///
/// # Errors
/// [`Invalid`] for anything else.
pub fn upstream_host(text: &str) -> Result<UpstreamHost, Invalid> {
    match text {
        "client" => return Ok(UpstreamHost::Client),
        "server" => return Ok(UpstreamHost::Server),
        _ => {}
    }
    if let Some(behind) = text.strip_prefix("{host}") {
        let port = match behind {
            "" => Some(HostPort::Absent),
            ":{port}" => Some(HostPort::Connected),
            _ => {
                let number = behind.strip_prefix(':').and_then(|port| port.parse().ok());
                number.map(HostPort::Number)
            }
        };
        return port.map(UpstreamHost::ClientName).ok_or_else(|| {
            let remedy = "give `{host}`, `{host}:{port}` or one as in `{host}:8000`";
            invalid("no port behind the name of the client's host", remedy)
        });
    }
    // RFC 9110 §7.2, with the names of Compose services.
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let host = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => Some(host).filter(|_| is_port(port)),
        _ => Some(text),
    };
    let is_host = host.is_some_and(|host| match host.strip_prefix('[') {
        Some(literal) => {
            let address = literal.strip_suffix(']');
            address.is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok())
        }
        None => is_host_name(host),
    });
    match is_host {
        true => Ok(UpstreamHost::Name(text.to_owned())),
        false => Err(invalid(
            "neither `client` nor `server` nor `{host}` nor a host",
            "give one of them, as in `backend.example.org`",
        )),
    }
}

/// Letters, digits, dots, hyphens and underscores, which the names of Compose services have.
fn is_host_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use proptest::prelude::*;

    fn uwsgi(text: &str) -> Result<ServerAddress, Invalid> {
        ServerAddress::uwsgi(text, Path::new("/base"))
    }

    #[test]
    fn addresses_that_are_understood() {
        for (text, expected, local) in [
            ("unix:/tmp/uwsgi.sock", "unix:/tmp/uwsgi.sock", true),
            ("unix:///tmp/uwsgi.sock", "unix:/tmp/uwsgi.sock", true),
            ("unix:app.sock", "unix:/base/app.sock", true),
            ("uwsgi://unix:/tmp/u.sock", "unix:/tmp/u.sock", true),
            ("uwsgi+unix:/tmp/u.sock", "unix:/tmp/u.sock", true),
            ("127.0.0.1:3031", "127.0.0.1:3031", true),
            ("localhost:3031", "localhost:3031", true),
            ("uwsgi://[::1]:3031/", "[::1]:3031", true),
            ("App_1:3031", "app_1:3031", false),
            ("10.0.0.1:3031", "10.0.0.1:3031", false),
            ("[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.1]:80", true),
        ] {
            let address = uwsgi(text).unwrap();
            assert_eq!(address.to_string(), expected, "{text}");
            assert_eq!(address.is_local(), local, "{text}");
        }
    }

    #[test]
    fn addresses_that_are_refused_with_a_remedy() {
        for (text, remedy) in [
            ("/tmp/uwsgi.sock", "unix:/tmp/uwsgi.sock"),
            ("http://127.0.0.1:80", "127.0.0.1:3031"),
            ("127.0.0.1", "127.0.0.1:3031"),
            ("127.0.0.1:0", "65535"),
            ("127.0.0.1:+5", "65535"),
            ("127.0.0.1:65536", "65535"),
            (":3031", "127.0.0.1:3031"),
            ("::1:3031", "127.0.0.1:3031"),
            ("a b:3031", "127.0.0.1:3031"),
            ("", "127.0.0.1:3031"),
            ("unix:", "unix:/path"),
        ] {
            let refused = uwsgi(text).unwrap_err();
            assert!(refused.remedy.contains(remedy), "{text:?}: {refused:?}");
        }
    }

    #[test]
    fn addresses_of_http() {
        let http = |text: &str| ServerAddress::http(text, Path::new("/base"));
        for (text, expected) in [
            ("http://127.0.0.1:9000", "127.0.0.1:9000"),
            ("http://app", "app:80"),
            ("http://[::1]/", "[::1]:80"),
            ("http://[::1]:81/", "[::1]:81"),
            ("https://app", "app:443"),
            ("https://[::1]/", "[::1]:443"),
            ("https://app:8443", "app:8443"),
            ("http+unix:/run/g.sock", "unix:/run/g.sock"),
            ("http+unix:///run/g.sock", "unix:/run/g.sock"),
            ("http+unix:g.sock", "unix:/base/g.sock"),
        ] {
            assert_eq!(http(text).unwrap().to_string(), expected, "{text}");
        }
        for text in [
            "https://a/b",
            "https://",
            "https+unix:/run/g.sock",
            "http://a/b",
            "http://u@a",
            "http://",
            "127.0.0.1:80",
            "http+unix:",
            "http://a:0",
        ] {
            assert!(http(text).is_err(), "{text}");
        }
    }

    #[test]
    fn params_are_names_and_values() {
        let pair = |name: &str, value: &str| Ok((name.to_owned(), OsString::from(value)));
        assert_eq!(uwsgi_param("SCRIPT_NAME=/a=b"), pair("SCRIPT_NAME", "/a=b"));
        assert_eq!(uwsgi_param("HTTP_X="), pair("HTTP_X", ""));
        let bytes = OsStr::from_bytes(b"/caf\xe9");
        let read = uwsgi_param(&format!("DIR={}", native::text(bytes)));
        assert_eq!(read, Ok(("DIR".to_owned(), bytes.to_owned())));
        for wrong in ["NAME", "=x", "a b=c", "\0=c", "A=\0"] {
            assert!(uwsgi_param(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn every_address_reads_back(ip: IpAddr, port in 1u16..) {
            let text = std::net::SocketAddr::new(ip, port).to_string();
            prop_assert_eq!(uwsgi(&text).unwrap().to_string(), text);
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC{0,30}|(unix:|uwsgi://)?[0-9:.\\[\\]]{0,20}") {
            let _ = uwsgi(&text);
            let _ = ServerAddress::http(&format!("http{text}"), Path::new("/"));
            let _ = uwsgi_param(&text);
        }
    }
}
