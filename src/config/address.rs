//! The listen address: `--bind` parsed into a socket address or a path.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::error::{Invalid, invalid};
use super::native;

/// Longest path of a Unix socket in bytes: `sun_path` has 108 with its final zero (unix(7)).
const LONGEST_SOCKET_PATH: usize = 107;

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// Internet address and port; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// The same, with TLS.
    Tls(SocketAddr),
    /// Absolute path of a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    /// `http://127.0.0.1:8000` or `unix:/path`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Tls(address) => write!(f, "https://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl ListenAddress {
    /// True for an address with TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// True if a socket at one of the addresses keeps another from the other one. Port 0 is a free port.
    pub fn conflicts_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp(one) | Self::Tls(one), Self::Tcp(other) | Self::Tls(other)) => {
                let is_any = |address: &SocketAddr| address.ip().is_unspecified();
                // `[::]` takes the port of IPv4 as well (ipv6(7), IPV6_V6ONLY).
                let is_every = |address: &SocketAddr| is_any(address) && address.is_ipv6();
                let meet = one.ip() == other.ip()
                    || is_every(one)
                    || is_every(other)
                    || (one.is_ipv4() == other.is_ipv4() && (is_any(one) || is_any(other)));
                one.port() != 0 && one.port() == other.port() && meet
            }
            (Self::Unix(one), Self::Unix(other)) => one == other,
            _ => false,
        }
    }

    /// `8000`, `:8000`, `127.0.0.1:8000`, `[::]:8080`, `localhost:8000`, `unix:PATH`; behind
    /// `http://` as our log prints them, with TLS behind `https://`; a relative path is below `base`. Without a host it is every IPv4 interface, as in
    /// nginx and uWSGI.
    ///
    /// # Errors
    /// [`Invalid`] for anything else. Host names other than `localhost` are not looked up.
    pub fn parse(text: &str, base: &Path) -> Result<Self, Invalid> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path.strip_prefix("//").unwrap_or(path), base);
        }
        let secure = text.strip_prefix("https://");
        if let Some(rest) = secure.or_else(|| text.strip_prefix("http://")) {
            let rest = rest.strip_suffix('/').unwrap_or(rest);
            return match (Self::parse(rest, base)?, secure.is_some()) {
                (Self::Tcp(address), true) => Ok(Self::Tls(address)),
                (Self::Tcp(address), false) if !rest.contains("://") => Ok(Self::Tcp(address)),
                (_, true) => Err(invalid(
                    "TLS is for addresses of TCP",
                    "give `https://0.0.0.0:443`",
                )),
                (_, false) => Err(invalid(
                    "`http://` is for addresses of TCP",
                    "give `http://0.0.0.0:8000`",
                )),
            };
        }
        let remedy = "give `127.0.0.1:8000`, `8000`, `[::]:8000` or `unix:/path`";
        if text.starts_with('/') || text.starts_with("./") {
            return Err(invalid(
                "a path needs `unix:` before it",
                format!("give unix:{text}"),
            ));
        }
        if text.contains("://") {
            return Err(invalid(
                "no such scheme: `http://` and `https://` are known",
                remedy,
            ));
        }
        if text.parse::<IpAddr>().is_ok() {
            let host = if text.contains(':') {
                format!("[{text}]")
            } else {
                text.to_owned()
            };
            return Err(invalid("no port", format!("give {host}:8000")));
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self::Tcp(address));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, port),
            None => ("", text),
        };
        let digits_only = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        if !digits_only {
            return Err(invalid("not an address with a port", remedy));
        }
        let port: u16 = port
            .parse()
            .map_err(|_| invalid("no such port", "give a port from 0 to 65535"))?;
        let ip = match host {
            "" | "*" => Ipv4Addr::UNSPECIFIED,
            "localhost" => Ipv4Addr::LOCALHOST,
            "http" | "https" => {
                return Err(invalid(
                    "the two slashes behind the scheme are missing",
                    format!("give `{host}://0.0.0.0:{port}`"),
                ));
            }
            _ if host.contains(':') => {
                return Err(invalid(
                    "not an IPv6 address in brackets",
                    "give it as in `[::1]:8000`",
                ));
            }
            _ => {
                return Err(invalid(
                    "not an IP address; host names are not looked up",
                    "give `0.0.0.0` for every interface, or the address of one",
                ));
            }
        };
        Ok(Self::Tcp(SocketAddr::new(IpAddr::V4(ip), port)))
    }
}

fn unix(path: &str, base: &Path) -> Result<ListenAddress, Invalid> {
    if path.is_empty() || path.ends_with('/') || path.contains('\0') {
        return Err(invalid("no path of a socket", "give `unix:/path/of.sock`"));
    }
    let path = base.join(native::path(path));
    let length = path.as_os_str().len();
    if length > LONGEST_SOCKET_PATH {
        return Err(invalid(
            format!("the path has {length} bytes, a socket's at most {LONGEST_SOCKET_PATH}"),
            "give a shorter one",
        ));
    }
    Ok(ListenAddress::Unix(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<ListenAddress, Invalid> {
        ListenAddress::parse(text, Path::new("/base"))
    }

    #[test]
    fn addresses_that_are_understood() {
        let check = |text: &str, expected: &str| {
            assert_eq!(parse(text).unwrap().to_string(), expected, "{text:?}");
        };
        check("8000", "http://0.0.0.0:8000");
        check(":8000", "http://0.0.0.0:8000");
        check("*:80", "http://0.0.0.0:80");
        check("127.0.0.1:0", "http://127.0.0.1:0");
        check("localhost:8000", "http://127.0.0.1:8000");
        check("[::]:8080", "http://[::]:8080");
        check("[::1]:8080", "http://[::1]:8080");
        check("http://127.0.0.1:8000/", "http://127.0.0.1:8000");
        check("https://0.0.0.0:443", "https://0.0.0.0:443");
        check("https://[::1]:443/", "https://[::1]:443");
        check("https://:443", "https://0.0.0.0:443");
        check("unix:/run/app.sock", "unix:/run/app.sock");
        check("unix:///run/app.sock", "unix:/run/app.sock");
        check("unix:app.sock", "unix:/base/app.sock");
    }

    #[test]
    fn addresses_conflict_where_a_second_socket_cannot_listen() {
        let check = |one: &str, other: &str, expected: bool| {
            let (first, second) = (parse(one).unwrap(), parse(other).unwrap());
            assert_eq!(first.conflicts_with(&second), expected, "{one} {other}");
            assert_eq!(second.conflicts_with(&first), expected, "{other} {one}");
        };
        check("80", "0.0.0.0:80", true);
        check("80", "https://127.0.0.1:80", true);
        check("127.0.0.1:80", "127.0.0.2:80", false);
        check("80", "[::]:80", true);
        check("80", "[::1]:80", false);
        check("80", "81", false);
        check("0", "0", false);
        check("unix:a", "unix:/base/a", true);
        check("unix:a", "80", false);
    }

    #[test]
    fn addresses_that_are_refused_with_a_remedy() {
        let check = |text: &str, remedy: &str| {
            let refused = parse(text).unwrap_err();
            assert!(refused.remedy.contains(remedy), "{text:?}: {refused:?}");
        };
        check("127.0.0.1", "127.0.0.1:8000");
        check("::1", "[::1]:8000");
        check("/run/app.sock", "unix:/run/app.sock");
        check("http://unix:/run/app.sock", "http://0.0.0.0:8000");
        check("http://https://0.0.0.0:443", "http://0.0.0.0:8000");
        check("ftp://127.0.0.1:8000", "127.0.0.1:8000");
        check("https:9445", "https://0.0.0.0:9445");
        check("http:80", "http://0.0.0.0:80");
        check("example.org:80", "0.0.0.0");
        check("fe80::g:80", "[::1]:8000");
        check("127.0.0.1:65536", "65535");
        check("127.0.0.1:+5", "127.0.0.1:8000");
        check("", "8000");
        check(":", "8000");
        check("unix:", "unix:/path");
        check("https://unix:/run/app.sock", "https://0.0.0.0:443");
        check("https://https://0.0.0.0:443", "https://0.0.0.0:443");
        check("https://example.org:443", "0.0.0.0");
        check(&format!("unix:/{}", "x".repeat(107)), "shorter");
    }

    proptest! {
        #[test]
        fn every_socket_address_reads_back(ip: IpAddr, port: u16) {
            let address = SocketAddr::new(ip, port);
            prop_assert_eq!(parse(&address.to_string()), Ok(ListenAddress::Tcp(address)));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC{0,30}|(unix:)?[0-9:.\\[\\]]{0,20}") {
            let _ = parse(&text);
        }
    }
}
