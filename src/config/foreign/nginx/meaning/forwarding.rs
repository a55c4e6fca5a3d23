//! Fields of requests that describe the client and its connection: `X-Forwarded-For` and its relatives,
//! `Connection` and `Upgrade`.

use super::served::Site;
use super::{Meaning, listen};
use crate::config::foreign::Verdict;

/// Fields in which proxies describe the client's connection.
pub const FORWARDED: [&str; 12] = [
    "x-forwarded-for",
    "x-real-ip",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-protocol",
    "x-scheme",
    "x-url-scheme",
    "x-forwarded-ssl",
    "x-forwarded-server",
    "x-forwarded-scheme",
    "x-client-ip",
];

/// Those that are set for every server, whatever its location says.
pub const STATED: [&str; 4] = [
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
];

/// The difference for an application that does not get a field of [`STATED`].
pub const IN_THE_ENVIRON: &str = "a value of each request, which the application does not get: it finds the client in REMOTE_ADDR, and the scheme in wsgi.url_scheme";

/// The verdict of a line that believes every client.
pub const BELIEVED: &str =
    "nginx believes here what any client says of itself: name the proxy that says it with --trust";

/// True if a value is what the request itself says, perhaps by way of a `map`.
pub fn is_believed(meaning: &Meaning<'_>, value: &str) -> bool {
    let is_mapped = |name: &str| {
        let mut items = meaning.tree.items.iter();
        items.any(|item| {
            item.name == "map" && item.arg(1) == name && item.arg(0).starts_with("$http_")
        })
    };
    value.starts_with("$http_") && value != "$http_host" || is_mapped(value)
}

/// The verdict of a field of [`STATED`]; `None` where the file asks for another value than a server gets.
pub fn stated(meaning: &Meaning<'_>, at: usize, name: &str, value: &str) -> Option<Verdict> {
    let already = |text: &str| Some(Verdict::AlreadySo(text.to_owned()));
    let set = "set from the connection, or by a proxy of --trust";
    match (name, value) {
        // nginx sends the address that it has found, and not that of the connection.
        ("x-forwarded-for", "$proxy_add_x_forwarded_for" | "$remote_addr") if has_real_ip(meaning) => None,
        ("x-forwarded-for", "$proxy_add_x_forwarded_for" | "$remote_addr")
        | ("x-forwarded-proto", "$scheme")
        | ("x-forwarded-port", "$server_port") => already(set),
        ("x-forwarded-for", "$proxy_protocol_addr") if has_proxy_protocol(meaning) => already(set),
        ("x-forwarded-for", "$realip_remote_addr") if !has_real_ip(meaning) => already(set),
        ("x-forwarded-proto", "https") if is_tls_alone(meaning, at) => already(set),
        ("x-forwarded-port", port) if is_only_port(meaning, at, port) => already(set),
        ("x-forwarded-host", "$http_host" | "$host:$server_port" | "$http_host:$server_port") => {
            already("the host that the client asks for, or that a proxy of --trust names")
        }
        // nginx's variable has no port.
        ("x-forwarded-host", "$host") => Some(Verdict::Differs(
            "the host that the client asks for, with its port, which nginx leaves out, or that a proxy of --trust names".to_owned(),
        )),
        _ => None,
    }
}

/// The reason for which another value of a field of [`STATED`] is not sent.
pub const OF_THE_CONNECTION: &str = "the address, scheme and port are those of the connection, or of a proxy of --trust: name the balancer there";

/// True if all requests that a server passes on come over this scheme: it has no other addresses, or redirects
/// those that come over the other one.
pub fn is_scheme_of_all(meaning: &Meaning<'_>, site: &Site, scheme: &str) -> bool {
    match scheme {
        "http" => !site.has_tls(),
        "https" => site.has_tls() && meaning.layer.entry("redirect_to_https").is_some(),
        _ => false,
    }
}

/// True if an address of the file has the PROXY protocol.
pub fn has_proxy_protocol(meaning: &Meaning<'_>) -> bool {
    let mut items = meaning.tree.items.iter();
    items.any(|item| item.name == "listen" && item.texts().any(|text| text == "proxy_protocol"))
}

/// True if the address of a client is taken from a field or from the PROXY protocol.
pub fn has_real_ip(meaning: &Meaning<'_>) -> bool {
    let mut items = meaning.tree.items.iter();
    items.any(|item| item.name == "set_real_ip_from") && !is_never_read(meaning)
}

/// True if the address of a client would be taken from a field that nginx drops: one with an underscore in its name
/// (`underscores_in_headers`).
pub fn is_never_read(meaning: &Meaning<'_>) -> bool {
    let items = meaning.tree.items.iter();
    let names = items.filter(|item| item.name == "real_ip_header");
    let mut names = names
        .map(|item| item.arg(0))
        .filter(|name| *name != "proxy_protocol")
        .peekable();
    let is_there = names.peek().is_some();
    is_there && names.all(|name| name.contains('_'))
}

/// True if certificates of clients are asked for.
pub fn has_client_certificates(meaning: &Meaning<'_>) -> bool {
    let mut items = meaning.tree.items.iter();
    items.any(|item| item.name == "ssl_verify_client" && item.arg(0) != "off")
}

/// True if all addresses of the server around a directive have TLS.
fn is_tls_alone(meaning: &Meaning<'_>, at: usize) -> bool {
    let server = meaning.around(at, "server");
    let mut listens = meaning.tree.named(server, "listen");
    let mut switches = meaning.tree.named(server, "ssl");
    let is_on = switches.any(|switch| meaning.arg(switch, 0) == "on");
    listen::has_tls(meaning, at)
        && (is_on || listens.all(|listen| meaning.args(listen).contains(&"ssl")))
}

/// True if all addresses of the server around a directive have this port.
fn is_only_port(meaning: &Meaning<'_>, at: usize, port: &str) -> bool {
    let Some(server) = meaning.around(at, "server") else {
        return false;
    };
    let mut listens = meaning.tree.named(Some(server), "listen").peekable();
    let is_it = |listen: usize| meaning.arg(listen, 0).rsplit(':').next() == Some(port);
    let is_number = port.parse::<u16>().is_ok();
    is_number && listens.peek().is_some() && listens.all(is_it)
}

/// Upgrades that nginx passes on by its lines `Connection` and `Upgrade`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrades {
    /// Those that clients ask for.
    Asked,
    /// None, because one of the lines is missing or has another value.
    Never,
    /// One for every request.
    Always,
}

/// The upgrades of all lines that hold together. nginx sends `Connection: close` and no `Upgrade` unless
/// they say otherwise.
pub fn upgrades(meaning: &Meaning<'_>, headers: &[usize]) -> Upgrades {
    let value = |name: &str| {
        let mut found = headers.iter();
        let found = found.find(|at| meaning.arg(**at, 0).eq_ignore_ascii_case(name));
        found.map_or("", |at| meaning.arg(*at, 1))
    };
    let (connection, protocol) = (value("connection"), value("upgrade"));
    let lower = connection.to_ascii_lowercase();
    let is_listed = lower.contains("upgrade") || connection.starts_with('$');
    match (is_listed, protocol) {
        (false, _) | (_, "") => Upgrades::Never,
        (true, protocol) if protocol.starts_with('$') => Upgrades::Asked,
        (true, _) => Upgrades::Always,
    }
}
