//! Addresses, proxies, and as whom the server runs.

use std::path::Path;

use super::processes;
use super::scheme;
use super::tls;
use super::{Meaning, listed};
use crate::config::address::ListenAddress;
use crate::config::foreign::{Verdict, waiting};
use crate::config::trust::Trust;

/// Bytes and fields of request headers that pyserve takes.
const LARGEST_HEAD: i64 = 64 << 10;
const MOST_FIELDS: i64 = 100;
/// Networks in which the proxies of a container or a data centre are: this machine, private
/// networks (RFC 1918, RFC 4193), shared address space (RFC 6598).
const NEAR: &[&str] = &[
    "127.0.0.0/8",
    "::1",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "fc00::/7",
    "unix",
];

pub(super) fn decide(meaning: &mut Meaning<'_>) {
    binds(meaning);
    socket_files(meaning);
    users(meaning);
    trusted(meaning);
    proxy_protocol(meaning);
    limits(meaning);
    files(meaning);
}

fn binds(meaning: &mut Meaning<'_>) {
    for at in meaning.all("bind") {
        let given = meaning.items[at].value.texts();
        let addresses: Result<Vec<_>, _> = given.iter().map(|text| address(text)).collect();
        match addresses {
            Ok(addresses) if addresses.is_empty() => {}
            Ok(addresses) => {
                let addresses = tls::with_scheme(meaning, addresses);
                meaning.append(at, "bind", &addresses);
            }
            Err(verdict) => meaning.say(at, verdict),
        }
    }
    tls::bind_of_default(meaning);
}

/// The address as `bind` takes it (gunicorn: util.py, `parse_address`).
fn address(given: &str) -> Result<String, Verdict> {
    let text = written(given)?;
    match ListenAddress::parse(&text, Path::new("/")) {
        Ok(_) => Ok(text),
        Err(invalid) => {
            let problem = format!("{} ({})", invalid.problem, invalid.remedy);
            Err(Verdict::Wrong(problem))
        }
    }
}

/// The address in the form of `bind`.
fn written(given: &str) -> Result<String, Verdict> {
    if let Some(path) = given.strip_prefix("unix:") {
        return match path.strip_prefix("//").unwrap_or(path) {
            path if path.starts_with('@') => Err(Verdict::Unsupported(
                "abstract sockets are not supported: name a path or a port".to_owned(),
            )),
            path => Ok(format!("unix:{path}")),
        };
    }
    if given.starts_with("fd://") {
        return Err(Verdict::Unsupported(
            "inherited descriptors are not taken: name an address".to_owned(),
        ));
    }
    let plain = given.strip_prefix("tcp://").unwrap_or(given);
    let (host, port) = match plain
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        Some((host, rest)) => (format!("[{host}]"), rest.strip_prefix(':')),
        None => match plain.split_once(':') {
            Some((host, port)) => (host.to_owned(), Some(port)),
            None => (plain.to_owned(), None),
        },
    };
    let port = port.unwrap_or("8000");
    match port.trim().parse::<u16>() {
        Ok(port) if host.is_empty() => Ok(format!("0.0.0.0:{port}")),
        Ok(port) => Ok(format!("{host}:{port}")),
        Err(_) => Err(Verdict::Wrong(format!("{port:?} is no port"))),
    }
}

/// gunicorn creates sockets with its umask, 0 by default: everybody may connect.
fn socket_files(meaning: &mut Meaning<'_>) {
    let binds = meaning.draft.layer.entry("bind");
    let is_unix = |address: &String| address.starts_with("unix:");
    let has_files = binds.is_some_and(|entry| entry.values.iter().any(is_unix));
    match meaning.given("umask") {
        Some((at, mask)) if has_files => {
            let mode = format!("{:03o}", 0o777 & !mask.number());
            meaning.set(at, "bind_mode", vec![mode]);
        }
        Some((at, _)) => {
            let why = "gunicorn uses it for its sockets alone, and there is no Unix socket: `umask` sets that of the application";
            meaning.no_effect(at, why);
        }
        None if has_files => {
            let reason = "gunicorn lets every user connect to its sockets without `umask`";
            meaning.imply("bind_mode", &["777"], reason);
        }
        None => {}
    }
}

fn users(meaning: &mut Meaning<'_>) {
    for (name, setting) in [("user", "uid"), ("group", "gid")] {
        let Some((at, value)) = meaning.given(name) else {
            continue;
        };
        match meaning.around.is_root {
            true => {
                meaning.set(at, setting, value.texts());
                if name == "user" {
                    let note = match meaning.given("group") {
                        Some(_) => AS_THAT_USER.to_owned(),
                        None => format!(
                            "and its own group, where gunicorn keeps that of root; {AS_THAT_USER}"
                        ),
                    };
                    meaning.note(at, &note);
                }
            }
            false => meaning.no_effect(at, "only root can become another user"),
        }
    }
}

/// The differences for an application that runs as another user.
const AS_THAT_USER: &str = "HOME, USER and LOGNAME follow, which gunicorn leaves as they are; without supplementary groups";

fn trusted(meaning: &mut Meaning<'_>) {
    scheme::decide(meaning);
    let by_variable = meaning.around.environment.variable("FORWARDED_ALLOW_IPS");
    let variable = by_variable.map(|value| value.to_string_lossy().into_owned());
    match meaning.given("forwarded_allow_ips") {
        Some((at, value)) => {
            let proxies = listed(&value.text().unwrap_or_default());
            if proxies.iter().any(|proxy| proxy == "*") {
                let near: Vec<_> = NEAR.iter().map(|net| (*net).to_owned()).collect();
                meaning.set(at, "trust", near);
                let why = "every client could claim any address and scheme: proxies on this machine and in private networks are trusted, name others with `trust`";
                meaning.say(at, Verdict::Dangerous(why.to_owned()));
            } else if proxies.is_empty() {
                let only_sockets = vec!["unix".to_owned()];
                meaning.set(at, "trust", only_sockets);
                meaning.note(at, "as in gunicorn, peers on Unix sockets alone");
            } else if let Some(wrong) = proxies
                .iter()
                .find(|proxy| Trust::default().add(proxy).is_err())
            {
                let why = format!("{wrong} is no address or network");
                meaning.say(at, Verdict::Wrong(why));
            } else {
                let mut proxies = proxies;
                proxies.push("unix".to_owned());
                meaning.set(at, "trust", proxies);
            }
        }
        None => match variable {
            Some(text) if text.split(',').any(|proxy| proxy.trim() == "*") => {
                let reason = "FORWARDED_ALLOW_IPS=* would trust every client: proxies on this machine and in private networks are trusted";
                meaning.imply("trust", NEAR, reason);
            }
            Some(text) => {
                let proxies = listed(&text);
                let proxies = proxies.iter().map(String::as_str);
                let proxies: Vec<_> = proxies.chain(["unix"]).collect();
                meaning.imply("trust", &proxies, "FORWARDED_ALLOW_IPS");
            }
            None => meaning.imply(
                "trust",
                &["127.0.0.1", "::1", "unix"],
                "gunicorn trusts proxies on this machine without `forwarded_allow_ips`",
            ),
        },
    }
}

fn proxy_protocol(meaning: &mut Meaning<'_>) {
    let allowed = meaning.given("proxy_allow_ips");
    let networks = match &allowed {
        Some((_, value)) => listed(&value.text().unwrap_or_default()),
        None => vec!["127.0.0.1".to_owned(), "::1".to_owned()],
    };
    let mode = meaning.given("proxy_protocol");
    let is_on = mode
        .as_ref()
        .and_then(|(_, value)| value.text())
        .is_some_and(|mode| !matches!(&*mode, "off" | "false" | "0" | "none"));
    let is_any = networks.iter().any(|net| net == "*");
    if let Some((at, _)) = mode {
        match is_on {
            true if is_any => {
                let near = NEAR.iter().map(|net| (*net).to_owned());
                meaning.set(at, "proxy_protocol", near.collect());
            }
            true => meaning.set(at, "proxy_protocol", networks.clone()),
            false => meaning.already(at, "it is off"),
        }
        let note = "these peers have to send it on every connection, where gunicorn also takes requests without it";
        meaning.note(at, note);
    }
    if let Some((at, _)) = allowed {
        match (is_on, is_any) {
            (true, true) => {
                let why = "every client could claim any address: the PROXY protocol is taken from this machine and private networks";
                meaning.say(at, Verdict::Dangerous(why.to_owned()));
            }
            (true, false) => {
                let text = format!("proxy_protocol = {networks:?}");
                meaning.say(at, Verdict::Honoured(text));
            }
            (false, _) => meaning.no_effect(at, "`proxy_protocol` is off"),
        }
    }
}

fn limits(meaning: &mut Meaning<'_>) {
    if let Some((at, value)) = meaning.given("backlog") {
        match value.number() {
            0 => meaning.no_effect(at, "no length"),
            length => match waiting::beyond_default(length) {
                Ok(length) => meaning.set(at, "queue_limit", vec![length]),
                Err(verdict) => meaning.say(at, verdict),
            },
        }
    }
    if let Some((at, value)) = meaning.given("keepalive") {
        match value.number() {
            0 => meaning.no_effect(
                at,
                "connections of clients stay open: `keepalive_timeout` is their time",
            ),
            seconds => {
                meaning.time(at, "keepalive_timeout", seconds);
                if processes::closes_connections(meaning) {
                    meaning.note(at, "sync workers of gunicorn close each connection");
                }
            }
        }
    }
    for (name, most, what) in [
        (
            "limit_request_line",
            LARGEST_HEAD,
            "bytes, target and headers together",
        ),
        ("limit_request_field_size", LARGEST_HEAD, "bytes together"),
        ("limit_request_fields", MOST_FIELDS, "fields"),
    ] {
        let Some((at, value)) = meaning.given(name) else {
            continue;
        };
        let number = value.number();
        let has = format!("a request may have {most} {what}");
        let verdict = match number {
            0 if name != "limit_request_fields" => Verdict::AlreadySo(has),
            number if number <= most && value.is_default_of(meaning.items[at].setting) => {
                Verdict::AlreadySo(has)
            }
            number if number <= most => Verdict::AlreadySo(format!("{has}, which covers {number}")),
            _ => Verdict::Unsupported(format!("{has}, not more")),
        };
        meaning.say(at, verdict);
    }
    let reason = "gunicorn sets no limit to bodies";
    meaning.imply("max_body", &["0"], reason);
}

fn files(meaning: &mut Meaning<'_>) {
    for (name, setting) in [("pidfile", "pidfile"), ("tmp_upload_dir", "temp_dir")] {
        if let Some((at, value)) = meaning.given(name)
            && value.text().is_some_and(|text| !text.is_empty())
        {
            meaning.set(at, setting, value.texts());
        }
    }
}
