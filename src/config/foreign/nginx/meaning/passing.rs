//! Parameters, header fields and timeouts towards a server or the application.

use super::forwarding::{
    self, BELIEVED, FORWARDED, IN_THE_ENVIRON, OF_THE_CONNECTION, STATED, Upgrades, is_believed,
};
use super::locations::{Context, plain};
use super::redirects::{constant, expanded, variable};
use super::{Meaning, Table, listen, numbers, site, uwsgi_params};
use crate::config::foreign::{Verdict, secrets};
use crate::config::request_headers;
use crate::config::upstream::{environ_variable, upstream_host};

/// Directives about the way to a server, where the application is in the same process.
pub fn options_of_application(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    (block, is_uwsgi): (usize, bool),
    table: &mut Table,
) {
    let prefix = if is_uwsgi { "uwsgi" } else { "proxy" };
    for name in ["read_timeout", "send_timeout"] {
        let full = format!("{prefix}_{name}");
        let Some(at) = meaning.scalar(Some(block), &full) else {
            continue;
        };
        match name {
            "read_timeout" => read_timeout(meaning, at),
            _ => meaning.no_effect(at, "the application is in this server"),
        }
    }
    for at in meaning.nearest(Some(block), "uwsgi_param") {
        let (name, value) = (meaning.arg(at, 0), meaning.arg(at, 1));
        let is_https = (name, value) == ("HTTPS", "on") && listen::has_tls(meaning, at);
        match uwsgi_params::verdict((name, value), true) {
            _ if uwsgi_params::is_left_out(&meaning.args(at)) => {
                meaning.no_effect(at, uwsgi_params::LEFT_OUT);
            }
            Some(verdict) => meaning.say(at, verdict),
            None if is_https => meaning.already(at, "in the environ of the application"),
            // uWSGI loads another application for such a request.
            None if APPLICATION_PARAMS.contains(&name) => {
                meaning.no_effect(at, "the application is that of its own settings");
            }
            None if is_field(meaning, at, (context, block), table) => {}
            None if is_variable(meaning, at, (context, block), table) => {}
            None => meaning.unsupported(at, format!("the environ of the application has no {name} of its own: set it in the application")),
        }
    }
    for name in ["uwsgi_modifier1", "uwsgi_modifier2"] {
        if let Some(at) = meaning.scalar(Some(block), name) {
            match meaning.arg(at, 0) {
                "0" => meaning.already(at, "WSGI"),
                number if number.parse::<u8>().is_err() => {
                    meaning.say(at, Verdict::Wrong(NO_MODIFIER.to_owned()));
                }
                _ => meaning.unsupported(at, "the application is in this server: use a [[location]] with app and a prefix, which is then in SCRIPT_NAME"),
            }
        }
    }
    // nginx sends these fields beside proxy_pass alone.
    if !is_uwsgi {
        let (headers, params) = fields_of_requests(meaning, block);
        if let Some(at) = params {
            standard_fields(meaning, at, (&headers, false), table);
        }
        for at in &headers {
            header(
                meaning,
                *at,
                (context, block, &headers),
                (false, &mut *table),
            );
        }
    }
}

/// The fault of a modifier of uwsgi that nginx refuses.
const NO_MODIFIER: &str = "no number from 0 to 255";

/// The time limit of an application: the longest of all locations, unless its own settings have a shorter one.
fn read_timeout(meaning: &mut Meaning<'_>, at: usize) {
    let Some(seconds) = numbers::seconds(meaning.arg(at, 0)) else {
        return meaning.say(at, Verdict::Wrong("no time".to_owned()));
    };
    if let Some(deadline) = meaning.given.deadline.filter(|own| *own <= seconds) {
        let text = format!("the application has {deadline} s by its own settings");
        return meaning.no_effect(at, text);
    }
    let own = meaning.layer.entry("request_timeout");
    let own = own.and_then(|entry| entry.values.first()?.parse::<u64>().ok());
    match own.filter(|own| *own > seconds) {
        Some(own) => {
            let text = format!("the longest of all locations holds: request_timeout = {own}");
            meaning.say(at, Verdict::Differs(text));
        }
        None => site::set_time(meaning, at, "request_timeout", seconds),
    }
}

/// Decides about a `uwsgi_param` that carries a field of the request, or what a client says of itself;
/// false for another one.
fn is_field(
    meaning: &mut Meaning<'_>,
    at: usize,
    (context, block): (&Context<'_>, usize),
    table: &mut Table,
) -> bool {
    let (name, value) = (meaning.arg(at, 0), meaning.arg(at, 1));
    let field = name.strip_prefix("HTTP_").unwrap_or(name).replace('_', "-");
    let lower = field.to_ascii_lowercase();
    let is_about_client = name == "UWSGI_SCHEME" || FORWARDED.contains(&&*lower);
    if is_about_client && is_believed(meaning, value) {
        meaning.say(at, Verdict::Dangerous(BELIEVED.to_owned()));
        return true;
    }
    // CGI variables have no dashes: nginx sends this one under a name that nothing looks for.
    if value.starts_with('$') && (name.contains('-') || name == "Host") {
        let text = format!(
            "the environ has no {name}, which nginx would put there beside the fields of the request: those are under names like HTTP_HOST, and the client is in REMOTE_ADDR"
        );
        meaning.say(at, Verdict::Differs(text));
        return true;
    }
    if !name.starts_with("HTTP_") || value.is_empty() {
        return false;
    }
    // A field of the request is what an application finds under this name.
    let made = request_value(meaning, context, block, value);
    let is_set = made.is_some_and(|made| request_header(meaning, at, (&field, &made), table));
    let is_open = STATED.contains(&&*lower) && value.starts_with('$');
    if is_open && !is_set {
        meaning.say(at, Verdict::Differs(IN_THE_ENVIRON.to_owned()));
    }
    is_set || is_open
}

/// Sets a variable of the application's environ, with a value that the file itself decides; false if
/// that is not possible.
fn is_variable(
    meaning: &mut Meaning<'_>,
    at: usize,
    (context, block): (&Context<'_>, usize),
    table: &mut Table,
) -> bool {
    let name = meaning.arg(at, 0);
    let Some(value) = constant(meaning, context.site, block, meaning.arg(at, 1)) else {
        return false;
    };
    let param = format!("{name}={value}");
    if environ_variable(&param).is_err() {
        return false;
    }
    let is_hidden = !value.is_empty() && secrets::is_secret(name);
    let shown = match is_hidden {
        true => format!("{name}={}", secrets::HIDDEN),
        false => param.clone(),
    };
    if is_hidden {
        meaning.layer.secrets.push(value);
    }
    meaning.honoured(at, format!("uwsgi_param = {shown:?}"));
    add(table, "uwsgi_param", param);
    true
}

/// Adds a value to a setting of the table.
fn add(table: &mut Table, name: &'static str, value: String) {
    match table.entries.iter_mut().find(|(own, _)| *own == name) {
        Some((_, values)) => values.push(value),
        None => table.entries.push((name, vec![value])),
    }
}

/// True if a variable for the other end of the connection has the address of the client.
fn is_of_client(meaning: &Meaning<'_>, name: &str) -> bool {
    let is_proxied = name == "proxy_protocol_addr";
    is_proxied == forwarding::has_proxy_protocol(meaning) && !forwarding::has_real_ip(meaning)
}

/// The value of a field as `request_header` takes it; `None` if it has other variables.
fn request_value(
    meaning: &Meaning<'_>,
    context: &Context<'_>,
    block: usize,
    value: &str,
) -> Option<String> {
    if request_headers::has_fact(value) {
        return None;
    }
    expanded(value, |name| match name {
        "remote_addr" => Some("{client}".to_owned()),
        "scheme" => Some("{scheme}".to_owned()),
        "host" => Some("{host}".to_owned()),
        "http_host" => Some("{authority}".to_owned()),
        "server_port" => Some("{port}".to_owned()),
        "request_uri" => Some("{target}".to_owned()),
        "request_id" => Some("{request_id}".to_owned()),
        "proxy_add_x_forwarded_for" => Some("{forwarded_for}".to_owned()),
        "proxy_protocol_addr" | "realip_remote_addr" if is_of_client(meaning, name) => {
            Some("{client}".to_owned())
        }
        _ => variable(meaning, context.site, block, name)
            .filter(|value| !request_headers::has_fact(value)),
    })
}

pub fn uwsgi_options(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    block: usize,
    table: &mut Table,
) {
    let mut params = Vec::new();
    for at in meaning.nearest(Some(block), "uwsgi_param") {
        let (name, value) = (meaning.arg(at, 0), meaning.arg(at, 1));
        if uwsgi_params::is_left_out(&meaning.args(at)) {
            meaning.no_effect(at, uwsgi_params::LEFT_OUT);
        } else if let Some(verdict) = uwsgi_params::verdict((name, value), false) {
            meaning.say(at, verdict);
        } else if name.is_empty()
            || !name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        {
            meaning.unsupported(at, "no name of a variable");
        } else if (name, value) == ("SCRIPT_NAME", "") {
            meaning.already(at, "SCRIPT_NAME is empty");
        } else if let Some(value) = constant(meaning, context.site, block, value)
            .filter(|constant| !constant.is_empty() || value.is_empty())
        {
            params.push(format!("{name}={value}"));
            meaning.honoured(at, "uwsgi_param");
        } else if !is_field(meaning, at, (context, block), table) {
            meaning.unsupported(at, "a variable with a value of each request");
        }
    }
    for param in params {
        add(table, "uwsgi_param", param);
    }
    for name in ["uwsgi_modifier1", "uwsgi_modifier2"] {
        if let Some(value) = meaning.scalar_value(Some(block), name) {
            let at = meaning.scalar(Some(block), name);
            if value.parse::<u8>().is_err() {
                meaning.say(at.unwrap_or(block), Verdict::Wrong(NO_MODIFIER.to_owned()));
                continue;
            }
            table.set(
                if name == "uwsgi_modifier1" {
                    "uwsgi_modifier1"
                } else {
                    "uwsgi_modifier2"
                },
                value,
            );
            meaning.honoured(at.unwrap_or(block), format!("{name} = {value}"));
        }
    }
}

/// Options of the `proxy_pass` at `pass` to the servers of the `upstream` named `group`, or to one address.
pub fn http_options(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    (pass, group): (usize, Option<&str>),
    table: &mut Table,
) {
    let block = meaning.tree.items[pass].parent.unwrap_or(pass);
    // `$proxy_host`
    let proxy_host = group.unwrap_or("server").to_owned();
    let (headers, params) = fields_of_requests(meaning, block);
    let mut host = match params {
        // Debian's file sets `Host $http_host`.
        Some(_) => Some("client".to_owned()),
        None => Some(proxy_host.clone()),
    };
    if let Some(at) = params {
        standard_fields(meaning, at, (&headers, true), table);
    }
    for at in headers.iter().copied() {
        let (name, value) = (meaning.arg(at, 0), meaning.arg(at, 1));
        if !name.eq_ignore_ascii_case("host") {
            header(meaning, at, (context, block, &headers), (true, &mut *table));
            continue;
        }
        host = match value {
            "$http_host" => Some("client".to_owned()),
            "$host" => Some("{host}".to_owned()),
            "$host:$server_port" => Some("{host}:{port}".to_owned()),
            "$proxy_host" => Some(proxy_host.clone()),
            with_port if with_port.starts_with("$host:") => {
                constant(meaning, context.site, block, &with_port[6..])
                    .map(|port| format!("{{host}}:{port}"))
                    .filter(|host| upstream_host(host).is_ok())
            }
            text => constant(meaning, context.site, block, text).filter(|text| !text.is_empty()),
        };
        match &host {
            Some(text) => {
                let note = without_host(meaning, (context, block), text);
                meaning.honoured(at, format!("upstream_host = {text:?}{note}"));
            }
            None => meaning.unsupported(at, "a Host with variables: client, server, or a text"),
        }
    }
    let sent = host.clone().unwrap_or_default();
    match host.filter(|host| host != "client") {
        Some(host) if upstream_host(&host).is_ok() => table.set("upstream_host", host),
        Some(host) => meaning.unsupported(
            pass,
            format!("nginx sends Host: {host}, which is no host: proxy_set_header Host $host"),
        ),
        None => {}
    }
    places(meaning, block, &sent, table);
}

/// `proxy_redirect` and `proxy_cookie_path`, where the server is `sent` this host.
fn places(meaning: &mut Meaning<'_>, block: usize, sent: &str, table: &mut Table) {
    if let Some(at) = meaning.scalar(Some(block), "proxy_redirect") {
        match (meaning.arg(at, 0), meaning.args(at).len()) {
            ("off", _) => {
                table.set("upstream_redirects", "no");
                meaning.honoured(at, "upstream_redirects = false");
            }
            ("default", _) => {
                let text = "redirects that name the server are mapped back, also by an address of its upstream, and for paths outside of that of proxy_pass";
                meaning.say(at, Verdict::Differs(text.to_owned()));
            }
            _ if is_mapped(meaning, at, sent, table) => {
                meaning.already(at, "redirects that name the server are mapped back");
            }
            _ => meaning.unsupported(
                at,
                "redirects that name the server are mapped back, and no others",
            ),
        }
    }
    if let Some(at) = meaning.scalar(Some(block), "proxy_cookie_path") {
        let args = meaning.args(at);
        match args[..] {
            ["off"] => meaning.already(at, "paths of cookies stay as they are"),
            [from, to] if are_places(table, from, to) => {
                table.set("upstream_cookie_paths", "yes");
                meaning.honoured(at, "upstream_cookie_paths = true");
            }
            _ => meaning.unsupported(
                at,
                "paths of cookies are replaced only as the path of proxy_pass replaces the location's",
            ),
        }
    }
}

/// The difference of an `upstream_host` for a request that names no host, for which nginx's `$host` is the first name
/// of the server (`ngx_http_variable_host`).
fn without_host(
    meaning: &Meaning<'_>,
    (context, block): (&Context<'_>, usize),
    host: &str,
) -> String {
    let hosts = &context.site.hosts;
    let is_default = hosts.is_empty() || hosts.iter().any(|host| host == "*");
    let is_concerned = is_default && host.starts_with("{host}");
    let name = variable(meaning, context.site, block, "server_name");
    match name.filter(|name| is_concerned && !name.is_empty()) {
        Some(name) => format!(" (for HTTP/1.0 without Host, nginx sends {name})"),
        None => String::new(),
    }
}

/// True if a line sets the `Host` of the requests of a block.
pub fn has_host(meaning: &Meaning<'_>, block: usize) -> bool {
    let (headers, params) = fields_of_requests(meaning, block);
    let mut names = headers.iter().map(|at| meaning.arg(*at, 0));
    params.is_some() || names.any(|name| name.eq_ignore_ascii_case("host"))
}

/// True if `from` is the path that a server gets in the place of the location's, and `to` that of the location.
fn are_places(table: &Table, from: &str, to: &str) -> bool {
    let (own, replaced) = (table.value("prefix"), table.value("replace_prefix"));
    own.zip(replaced)
        .is_some_and(|(own, replaced)| plain(own) == plain(to) && plain(replaced) == plain(from))
}

/// True for a `proxy_redirect` from the server, by the host that it is `sent`, to the location.
fn is_mapped(meaning: &Meaning<'_>, at: usize, sent: &str, table: &Table) -> bool {
    let [from, to] = meaning.args(at)[..] else {
        return false;
    };
    let Some(rest) = from.strip_prefix("http://") else {
        return false;
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let is_whole = table.value("replace_prefix").is_none() && plain(path) == "/" && to == "/";
    authority == sent && (is_whole || are_places(table, path, to))
}

/// The lines that set fields of requests, and the `include` of Debian's `proxy_params` beside them: those
/// of the nearest block that has either.
fn fields_of_requests(meaning: &Meaning<'_>, block: usize) -> (Vec<usize>, Option<usize>) {
    let mut block = Some(block);
    while let Some(at) = block {
        let headers: Vec<_> = meaning.tree.named(Some(at), "proxy_set_header").collect();
        let mut includes = meaning.tree.named(Some(at), "include");
        let params = includes.find(|at| meaning.arg(*at, 0).ends_with("proxy_params"));
        if !headers.is_empty() || params.is_some() {
            return (headers, params);
        }
        block = meaning.tree.items[at].parent;
    }
    (meaning.nearest(None, "proxy_set_header"), None)
}

/// The fields of Debian's `proxy_params`: `Host` and those of [`STATED`] are sent anyway, `X-Real-IP` is
/// not.
fn standard_fields(
    meaning: &mut Meaning<'_>,
    at: usize,
    (headers, to_server): (&[usize], bool),
    table: &mut Table,
) {
    let is_own = |field: &str| {
        let mut own = headers.iter().map(|header| meaning.arg(*header, 0));
        own.any(|name| name.eq_ignore_ascii_case(field))
    };
    let mut rules = Vec::new();
    if !is_own("x-real-ip") {
        rules.push("set X-Real-IP: {client}");
    }
    let is_set = !to_server || forwarding::has_real_ip(meaning);
    if is_set && !is_own("x-forwarded-for") {
        rules.push("set X-Forwarded-For: {forwarded_for}");
    }
    if !to_server && !is_own("x-forwarded-proto") {
        rules.push("set X-Forwarded-Proto: {scheme}");
    }
    for rule in rules {
        let text = format!("request_header = {rule:?}; its other fields are sent anyway");
        meaning.honoured(at, text);
        add(table, "request_header", rule.to_owned());
    }
}

/// The `Host` of requests for an application of this server.
fn host_of_application(meaning: &mut Meaning<'_>, at: usize, value: &str) {
    let text = "the application gets the Host of the client";
    match value {
        "$http_host" => meaning.already(at, text),
        "$host" | "$host:$server_port" | "$host:$proxy_port" | "$http_host:$server_port" => {
            let port = "as it is, with its port, which nginx would leave out or replace";
            meaning.say(at, Verdict::Differs(format!("{text} {port}")));
        }
        "$proxy_host" => meaning.say(at, Verdict::Differs(text.to_owned())),
        _ => meaning.unsupported(at, format!("{text}: have it take all names of the site")),
    }
}

/// A field that nginx would send to a server, beside `all` others; `to_server` unless the application is meant.
fn header(
    meaning: &mut Meaning<'_>,
    at: usize,
    (context, block, all): (&Context<'_>, usize, &[usize]),
    (to_server, table): (bool, &mut Table),
) {
    let (name, value) = (meaning.arg(at, 0).to_ascii_lowercase(), meaning.arg(at, 1));
    match &*name {
        "host" if !to_server && value.starts_with('$') => host_of_application(meaning, at, value),
        "upgrade" | "connection" => {
            let kind = forwarding::upgrades(meaning, all);
            upgrades(meaning, at, kind, (to_server, table));
        }
        "content-length" | "content-type" if value.get(1..) == Some(&*name.replace('-', "_")) => {
            meaning.already(at, "it is passed on");
        }
        "x-request-id" if value == "$request_id" => meaning.already(at, "sent to every server"),
        "x-request-id" if value.starts_with("$http_") => meaning.say(
            at,
            Verdict::Differs(
                "a server gets the id of the request, which a client of --trust alone may name"
                    .to_owned(),
            ),
        ),
        _ if FORWARDED.contains(&&*name) && is_believed(meaning, value) => {
            meaning.say(at, Verdict::Dangerous(BELIEVED.to_owned()));
        }
        _ if STATED.contains(&&*name) => {
            stated(meaning, at, (context, block), (to_server, table));
        }
        _ if value.starts_with("$http_") && value[6..].replace('_', "-") == name => {
            meaning.already(at, "header fields are passed on");
        }
        "x-nginx-proxy" => meaning.no_effect(at, "a mark that no server of Python reads"),
        _ if OF_RESPONSES.contains(&&*name) => meaning.no_effect(
            at,
            "a field of responses, which no server reads in a request: add_header sends it",
        ),
        "proxy" if value.is_empty() => meaning.already(at, "never passed on as HTTP_PROXY"),
        _ => {
            let given = meaning.arg(at, 0);
            let value = match value.is_empty() {
                true => Some(String::new()),
                false => request_value(meaning, context, block, value),
            };
            let is_set =
                value.is_some_and(|value| request_header(meaning, at, (given, &value), table));
            if !is_set {
                meaning.unsupported(at, "a field of requests with a value of each request, or one that the server sets itself");
            }
        }
    }
}

/// A field of [`STATED`].
fn stated(
    meaning: &mut Meaning<'_>,
    at: usize,
    (context, block): (&Context<'_>, usize),
    (to_server, table): (bool, &mut Table),
) {
    let (given, value) = (meaning.arg(at, 0), meaning.arg(at, 1));
    let name = given.to_ascii_lowercase();
    if to_server
        && name == "x-forwarded-proto"
        && forwarding::is_scheme_of_all(meaning, context.site, value)
    {
        return meaning.already(at, "set from the connection, or by a proxy of --trust");
    }
    let stated = forwarding::stated(meaning, at, &name, value);
    if let Some(verdict) = stated.filter(|_| to_server) {
        return meaning.say(at, verdict);
    }
    let value = request_value(meaning, context, block, value);
    let is_set = value.is_some_and(|value| request_header(meaning, at, (given, &value), table));
    match (is_set, &*name) {
        (true, _) => {}
        (false, _) if !to_server => meaning.say(at, Verdict::Differs(IN_THE_ENVIRON.to_owned())),
        (false, "x-forwarded-host") => meaning.unsupported(
            at,
            "a server gets the host that the client asks for, or that a proxy of --trust names: leave the line out, or give it a text",
        ),
        (false, _) => meaning.unsupported(at, OF_THE_CONNECTION),
    }
}

/// `Connection` and `Upgrade`.
fn upgrades(
    meaning: &mut Meaning<'_>,
    at: usize,
    upgrades: Upgrades,
    (to_server, table): (bool, &mut Table),
) {
    match upgrades {
        _ if !to_server => meaning.no_effect(
            at,
            "the application is in this server, and has no connection of its own to switch",
        ),
        Upgrades::Asked => meaning.already(at, "upgrades such as WebSocket pass through"),
        Upgrades::Never => {
            let rule = "remove Upgrade";
            let text = format!("request_header = {rule:?}: no upgrade such as WebSocket passes");
            meaning.honoured(at, text);
            if !table.values("request_header").iter().any(|own| own == rule) {
                add(table, "request_header", rule.to_owned());
            }
        }
        Upgrades::Always => meaning.unsupported(
            at,
            "an upgrade is asked of a server where the client asks for it: Upgrade $http_upgrade",
        ),
    }
}

/// Fields of responses that files set for requests by mistake.
const OF_RESPONSES: &[&str] = &[
    "x-frame-options",
    "x-content-type-options",
    "x-xss-protection",
    "strict-transport-security",
    "content-security-policy",
    "referrer-policy",
    "permissions-policy",
    "access-control-allow-origin",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-allow-credentials",
];

/// Parameters by which uWSGI loads an application at its first request ("uwsgi protocol magic variables").
const APPLICATION_PARAMS: &[&str] = &[
    "UWSGI_SCRIPT",
    "UWSGI_MODULE",
    "UWSGI_CALLABLE",
    "UWSGI_PYHOME",
    "UWSGI_CHDIR",
    "UWSGI_FILE",
];

/// Sets a field of requests; without a value it is removed. False if that is not possible.
fn request_header(
    meaning: &mut Meaning<'_>,
    at: usize,
    (name, value): (&str, &str),
    table: &mut Table,
) -> bool {
    let rule = match value {
        "" => format!("remove {name}"),
        value => format!("set {name}: {value}"),
    };
    if request_headers::parse(&rule).is_err() {
        return false;
    }
    let is_credential = ["authorization", "cookie", "proxy-authorization"]
        .iter()
        .any(|telling| name.eq_ignore_ascii_case(telling));
    let is_credential =
        is_credential || name.eq_ignore_ascii_case("x-auth") && !value.contains('{');
    if !value.is_empty() && (is_credential || secrets::is_secret(name)) {
        meaning.layer.secrets.push(value.to_owned());
        let shown = format!("set {name}: {}", secrets::HIDDEN);
        meaning.honoured(at, format!("request_header = {shown:?}"));
    } else {
        meaning.honoured(at, format!("request_header = {rule:?}"));
    }
    add(table, "request_header", rule);
    true
}

pub fn timeouts(meaning: &mut Meaning<'_>, block: usize, prefix: &str, table: &mut Table) {
    for (name, setting) in [
        ("connect_timeout", "upstream_connect_timeout"),
        ("send_timeout", "upstream_send_timeout"),
        ("read_timeout", "upstream_read_timeout"),
    ] {
        let Some(at) = meaning.scalar(Some(block), &format!("{prefix}_{name}")) else {
            continue;
        };
        match numbers::seconds(meaning.arg(at, 0)) {
            Some(seconds) if seconds > 0 => {
                let (seconds, note) = numbers::longest(seconds);
                table.set(setting, seconds.to_string());
                meaning.honoured(at, format!("{setting} = {seconds}{note}"));
            }
            _ => meaning.say(at, Verdict::Wrong("no time".to_owned())),
        }
    }
}
