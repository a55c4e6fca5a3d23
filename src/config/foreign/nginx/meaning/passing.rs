//! Parameters, header fields and timeouts towards a server or the application.

use super::locations::Context;
use super::redirects::constant;
use super::{Meaning, Table, numbers, tls};
use crate::config::foreign::Verdict;

/// Directives about the way to a server, where the application is in the same process.
pub fn options_of_application(meaning: &mut Meaning<'_>, block: usize, is_uwsgi: bool) {
    let prefix = if is_uwsgi { "uwsgi" } else { "proxy" };
    for name in ["read_timeout", "send_timeout"] {
        let full = format!("{prefix}_{name}");
        let Some(at) = meaning.scalar(Some(block), &full) else {
            continue;
        };
        if name != "read_timeout" {
            meaning.no_effect(at, "the application is in this server");
        } else if meaning.given.has_deadline {
            meaning.no_effect(at, "the settings of the application have a time limit");
        } else {
            let seconds = numbers::seconds(meaning.arg(at, 0));
            let own = meaning
                .layer
                .entry("request_timeout")
                .and_then(|entry| entry.values.first())
                .and_then(|value| value.parse::<u64>().ok());
            match (seconds, own) {
                (None, _) => meaning.say(at, Verdict::Wrong("no time".to_owned())),
                (Some(seconds), Some(own)) if own > seconds => {
                    meaning.say(
                        at,
                        Verdict::Noted(format!(
                            "the longest of all locations holds: request_timeout = {own}"
                        )),
                    );
                }
                (Some(seconds), _) => meaning.set(at, "request_timeout", vec![seconds.to_string()]),
            }
        }
    }
    for at in meaning.nearest(Some(block), "uwsgi_param") {
        let (name, value) = (meaning.arg(at, 0), meaning.arg(at, 1));
        let is_https = (name, value) == ("HTTPS", "on") && tls::has_tls(meaning, at);
        match is_https || is_standard(name, value) {
            true => meaning.already(at, "in the environ of the application"),
            false => meaning.unsupported(at, format!("the environ of the application has no {name} of its own: set it in the application")),
        }
    }
    for name in ["uwsgi_modifier1", "uwsgi_modifier2"] {
        if let Some(at) = meaning.scalar(Some(block), name) {
            match meaning.arg(at, 0) {
                "0" => meaning.already(at, "WSGI"),
                _ => meaning.unsupported(at, "the application is in this server: use a [[location]] with app and a prefix, which is then in SCRIPT_NAME"),
            }
        }
    }
    // nginx sends these fields beside proxy_pass alone.
    if !is_uwsgi {
        for at in meaning.nearest(Some(block), "proxy_set_header") {
            header(meaning, at, None);
        }
    }
}

/// True for the variables of nginx's `uwsgi_params`, and those that frameworks read with a usual value.
fn is_standard(name: &str, value: &str) -> bool {
    STANDARD_PARAMS.contains(&(name, value))
}

const STANDARD_PARAMS: &[(&str, &str)] = &[
    ("QUERY_STRING", "$query_string"),
    ("QUERY_STRING", "$args"),
    ("REQUEST_METHOD", "$request_method"),
    ("CONTENT_TYPE", "$content_type"),
    ("CONTENT_LENGTH", "$content_length"),
    ("REQUEST_URI", "$request_uri"),
    ("PATH_INFO", "$document_uri"),
    ("PATH_INFO", "$uri"),
    ("SERVER_PROTOCOL", "$server_protocol"),
    ("REQUEST_SCHEME", "$scheme"),
    ("HTTPS", "$https"),
    ("REMOTE_ADDR", "$remote_addr"),
    ("REMOTE_PORT", "$remote_port"),
    ("SERVER_PORT", "$server_port"),
    ("SERVER_NAME", "$server_name"),
    ("SERVER_NAME", "$host"),
    ("HTTP_HOST", "$host"),
    ("HTTP_HOST", "$http_host"),
    ("Host", "$host"),
    ("Host", "$http_host"),
    ("UWSGI_SCHEME", "$scheme"),
    ("DOCUMENT_ROOT", "$document_root"),
    ("DOCUMENT_URI", "$document_uri"),
    ("SERVER_SOFTWARE", "nginx/$nginx_version"),
    ("SERVER_ADDR", "$server_addr"),
    ("HTTPS", "$https if_not_empty"),
    ("HTTP_X_FORWARDED_FOR", "$proxy_add_x_forwarded_for"),
    ("HTTP_X_FORWARDED_PROTO", "$scheme"),
    ("HTTP_X_REAL_IP", "$remote_addr"),
    ("X-Real-IP", "$remote_addr"),
    ("X-Forwarded-For", "$proxy_add_x_forwarded_for"),
    ("X-Forwarded-Proto", "$scheme"),
    ("X-Forwarded-Proto", "$http_x_forwarded_proto"),
    ("UWSGI_SCHEME", "$http_x_forwarded_proto"),
    ("HTTP_X_FORWARDED_PROTO", "$http_x_forwarded_proto"),
];

pub fn uwsgi_options(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    block: usize,
    table: &mut Table,
) {
    let mut params = Vec::new();
    for at in meaning.nearest(Some(block), "uwsgi_param") {
        let (name, value) = (meaning.arg(at, 0), meaning.arg(at, 1));
        if is_standard(name, value) {
            meaning.already(at, "sent to the server");
        } else if name.is_empty()
            || !name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        {
            meaning.unsupported(at, "no name of a variable");
        } else if let Some(value) =
            constant(meaning, context.site, block, value).filter(|value| !value.is_empty())
        {
            params.push(format!("{name}={value}"));
            meaning.honoured(at, "uwsgi_param");
        } else {
            meaning.unsupported(at, "a variable with a value of each request");
        }
    }
    if !params.is_empty() {
        table.entries.push(("uwsgi_param", params));
    }
    for name in ["uwsgi_modifier1", "uwsgi_modifier2"] {
        if let Some(value) = meaning.scalar_value(Some(block), name) {
            let at = meaning.scalar(Some(block), name);
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

pub fn http_options(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    block: usize,
    table: &mut Table,
) {
    let headers = meaning.nearest(Some(block), "proxy_set_header");
    let includes = meaning.nearest(Some(block), "include");
    let has_params = includes
        .iter()
        .any(|at| meaning.arg(*at, 0).ends_with("proxy_params"));
    let mut host = match has_params {
        // Debian's file sets `Host $http_host`.
        true => Some("client".to_owned()),
        false => Some("server".to_owned()),
    };
    for at in headers {
        let (name, value) = (meaning.arg(at, 0), meaning.arg(at, 1));
        if !name.eq_ignore_ascii_case("host") {
            header(meaning, at, Some(()));
            continue;
        }
        host = match value {
            "$host"
            | "$http_host"
            | "$host:$server_port"
            | "$host:$proxy_port"
            | "$http_host:$server_port" => Some("client".to_owned()),
            "$proxy_host" => Some("server".to_owned()),
            text => constant(meaning, context.site, block, text).filter(|text| !text.is_empty()),
        };
        match &host {
            Some(text) => meaning.honoured(at, format!("upstream_host = {text:?}")),
            None => meaning.unsupported(at, "a Host with variables: client, server, or a text"),
        }
    }
    if let Some(host) = host.filter(|host| host != "client") {
        table.set("upstream_host", host);
    }
    if let Some(at) = meaning.scalar(Some(block), "proxy_redirect") {
        match (meaning.arg(at, 0), meaning.args(at).len()) {
            ("off", _) => {
                table.set("upstream_redirects", "no");
                meaning.honoured(at, "upstream_redirects = false");
            }
            ("default", _) => meaning.already(at, "redirects that name the server are mapped back"),
            _ => meaning.unsupported(
                at,
                "redirects that name the server are mapped back, and no others",
            ),
        }
    }
    if let Some(at) = meaning.scalar(Some(block), "proxy_cookie_path") {
        match (table.value("replace_prefix").is_some(), meaning.arg(at, 0)) {
            (true, from) if !from.starts_with('~') => {
                table.set("upstream_cookie_paths", "yes");
                meaning.honoured(at, "upstream_cookie_paths = true");
            }
            _ => meaning.unsupported(at, "paths of cookies are replaced only where the prefix is"),
        }
    }
}

/// A field that nginx would send to a server; `to_server` unless the application is meant.
fn header(meaning: &mut Meaning<'_>, at: usize, to_server: Option<()>) {
    let (name, value) = (meaning.arg(at, 0).to_ascii_lowercase(), meaning.arg(at, 1));
    let is_forwarded = [
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
    ]
    .contains(&&*name);
    match &*name {
        "host" if to_server.is_none() && value.starts_with('$') => meaning.already(at, "the application gets the Host of the client"),
        "upgrade" | "connection" => meaning.already(at, "upgrades such as WebSocket pass through"),
        "accept-encoding" | "x-request-id" | "content-length" | "content-type" if value.starts_with('$') => meaning.already(at, "it is passed on"),
        _ if is_forwarded && to_server.is_none() && (value.starts_with('$') || value.is_empty()) => meaning.no_effect(at, "the application finds the client in REMOTE_ADDR, and the scheme in wsgi.url_scheme"),
        _ if is_forwarded && (value.starts_with('$') || value.is_empty()) => match &*name {
            "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host" | "x-forwarded-port" => {
                meaning.already(at, "set from the connection, or by a proxy of --trust");
            }
            _ => meaning.say(at, Verdict::Noted("servers get X-Forwarded-For, -Proto, -Host and -Port".to_owned())),
        },
        "x-forwarded-proto" | "x-forwarded-ssl" if matches!(value, "https" | "on") && tls::has_tls(meaning, at) => meaning.already(at, "set from the connection, or by a proxy of --trust"),
        _ if is_forwarded => meaning.unsupported(at, "the scheme and host are those of the connection, or of a proxy of --trust: name the balancer there"),
        _ if value.starts_with("$http_") && value[6..].replace('_', "-") == name => meaning.already(at, "header fields are passed on"),
        "cookie" | "authorization" | "user-agent" | "referer" if value.starts_with('$') => meaning.already(at, "header fields are passed on"),
        "x-nginx-proxy" => meaning.no_effect(at, "a mark that no server of Python reads"),
        _ if OF_RESPONSES.contains(&&*name) => meaning.no_effect(at, "a field of responses, which no server reads in a request: add_header sends it"),
        "proxy" if value.is_empty() => meaning.already(at, "never passed on as HTTP_PROXY"),
        _ => meaning.unsupported(at, "no header fields are added to requests here"),
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
                table.set(setting, seconds.to_string());
                meaning.honoured(at, format!("{setting} = {seconds}"));
            }
            _ => meaning.say(at, Verdict::Wrong("no time".to_owned())),
        }
    }
}
