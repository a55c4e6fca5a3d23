//! `listen`: addresses.

use super::Meaning;
use crate::config::foreign::Verdict;

/// One `listen`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The directive, unless nginx's default holds.
    pub at: Option<usize>,
    /// As `bind` takes it.
    pub bind: String,
    /// The port; none for a Unix socket.
    pub port: Option<u16>,
    /// True with TLS.
    pub is_tls: bool,
    /// True with `default_server`.
    pub is_default: bool,
    /// True with `proxy_protocol`.
    pub has_proxy_protocol: bool,
}

/// True if the server around a directive has an address with TLS.
pub fn has_tls(meaning: &Meaning<'_>, at: usize) -> bool {
    let server = meaning.around(at, "server");
    let mut listens = meaning.tree.named(server, "listen");
    let mut switches = meaning.tree.named(server, "ssl");
    server.is_some()
        && (listens.any(|listen| meaning.args(listen).contains(&"ssl"))
            || switches.any(|switch| meaning.arg(switch, 0) == "on"))
}

/// The addresses of a server.
pub fn of(meaning: &mut Meaning<'_>, server: usize) -> Vec<Listen> {
    let switches: Vec<_> = meaning.tree.named(Some(server), "ssl").collect();
    let ssl_on = switches.iter().any(|at| meaning.arg(*at, 0) == "on");
    for at in switches.into_iter().filter(|_| ssl_on) {
        meaning.honoured(at, "https:// in `bind`");
    }
    let all: Vec<_> = meaning.tree.named(Some(server), "listen").collect();
    let mut listens = Vec::new();
    for at in all {
        match listen(&meaning.args(at)) {
            Ok(mut listen) => {
                listen.at = Some(at);
                listen.is_tls |= ssl_on;
                listens.push(listen);
            }
            Err(verdict) => meaning.say(at, verdict),
        }
    }
    if listens.is_empty() {
        listens.push(Listen {
            at: None,
            bind: "0.0.0.0:80".to_owned(),
            port: Some(80),
            is_tls: false,
            is_default: false,
            has_proxy_protocol: false,
        });
    }
    listens
}

fn listen(args: &[&str]) -> Result<Listen, Verdict> {
    let address = args.first().copied().unwrap_or_default();
    let has = |name: &str| args.iter().skip(1).any(|arg| *arg == name);
    for arg in args.iter().skip(1) {
        let name = arg.split('=').next().unwrap_or_default();
        if !PARAMETERS.contains(&name) {
            return Err(Verdict::Wrong(format!("{arg:?} is no parameter of listen")));
        }
    }
    if has("quic") {
        return Err(Verdict::Unsupported("there is no HTTP/3 here".to_owned()));
    }
    let (bind, port) = bind(address).map_err(|problem| {
        match address.contains(|c: char| c.is_ascii_uppercase() || "${}<>".contains(c)) {
            true => {
                Verdict::Unset("a placeholder, which the start of the container fills".to_owned())
            }
            false => Verdict::Wrong(problem.to_owned()),
        }
    })?;
    Ok(Listen {
        at: None,
        bind,
        port,
        is_tls: has("ssl"),
        is_default: has("default_server") || has("default"),
        has_proxy_protocol: has("proxy_protocol"),
    })
}

const PARAMETERS: &[&str] = &[
    "default_server",
    "default",
    "ssl",
    "http2",
    "spdy",
    "quic",
    "proxy_protocol",
    "setfib",
    "fastopen",
    "backlog",
    "rcvbuf",
    "sndbuf",
    "accept_filter",
    "deferred",
    "bind",
    "ipv6only",
    "reuseport",
    "so_keepalive",
];

/// The address as `bind` takes it, and its port.
fn bind(address: &str) -> Result<(String, Option<u16>), &'static str> {
    if let Some(path) = address.strip_prefix("unix:") {
        return match path.is_empty() {
            true => Err("no path of a socket"),
            false => Ok((address.to_owned(), None)),
        };
    }
    if let Ok(port) = address.parse::<u16>() {
        return Ok((format!("0.0.0.0:{port}"), Some(port)));
    }
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            (host, port.parse().map_err(|_| "no such port")?)
        }
        _ => (address, 80),
    };
    let host = match host {
        "*" => "0.0.0.0",
        "localhost" => "127.0.0.1",
        host => host,
    };
    let literal = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let is_address = match literal {
        Some(literal) => literal.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.parse::<std::net::Ipv4Addr>().is_ok(),
    };
    match is_address {
        true => Ok((format!("{host}:{port}"), Some(port))),
        false => Err("no address (give an IP address, a port or unix:/path)"),
    }
}
