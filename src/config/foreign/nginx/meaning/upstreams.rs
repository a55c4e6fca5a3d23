//! `uwsgi_pass` and `proxy_pass`: the application, or servers behind pyserve.

use std::path::Path;

use super::locations::{Context, plain};
use super::passing::{has_host, http_options, options_of_application, timeouts, uwsgi_options};
use super::proxy_tls;
use super::redirects::{captures_rest, constant};
use super::{Meaning, Table};
use crate::config::foreign::nginx::templates::{self, APPLICATION};
use crate::config::foreign::{Verdict, equivalent};
use crate::config::locations as tables;
use crate::config::upstream::ServerAddress;

/// The address of a `*_pass`.
struct Target {
    /// As `[[location]] upstream` takes them.
    servers: Vec<String>,
    /// The path that replaces the prefix.
    path: Option<String>,
    /// Addresses as they stand in files of other servers, by which the application is known.
    plain: Vec<String>,
    /// True if a server may be on another machine.
    is_remote: bool,
    /// True if a client stays at one server.
    is_sticky: bool,
    /// The name of the `upstream`, which nginx sends as `$proxy_host`; `None` for one address.
    group: Option<String>,
    /// The host in the address and whether it names an `upstream`, if the servers have TLS.
    tls: Option<(String, bool)>,
}

impl Target {
    /// The fault of an address that no server can have.
    fn fault(&self, is_uwsgi: bool) -> Option<String> {
        let parse = match is_uwsgi {
            true => ServerAddress::uwsgi,
            false => ServerAddress::http,
        };
        let mut servers = self.servers.iter();
        servers.find_map(|server| {
            let invalid = parse(server, Path::new("/")).err()?;
            Some(format!("{server}: {}", invalid.problem))
        })
    }
}

/// Completes the table of a location whose path is `path`.
pub fn enter(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    pass: usize,
    path: &str,
    table: &mut Table,
) -> Result<(), Verdict> {
    let is_uwsgi = meaning.name(pass) == "uwsgi_pass";
    let target = target(meaning, context, pass, is_uwsgi)?;
    let is_filled = templates::unfilled(meaning.tree, pass, meaning.given.variable).is_none();
    if let Some(invalid) = target.fault(is_uwsgi).filter(|_| is_filled) {
        return Err(Verdict::Wrong(invalid));
    }
    let is_bound = |binds: &[String]| {
        let mut all = target.plain.iter();
        let is_same = |bind, address| same_address(meaning, bind, address);
        all.any(|address| binds.iter().any(|bind| is_same(bind, address)))
    };
    let is_app = meaning.has_app()
        && match is_uwsgi {
            true => is_application(meaning, is_bound(&meaning.given.sockets)),
            false => is_bound(&meaning.given.binds),
        };
    let block = meaning.tree.items[pass].parent.unwrap_or(pass);
    // `$document_uri` is the PATH_INFO of uwsgi_params; a path in the address replaces the normal form.
    let server = Some(context.site.server);
    let merges = meaning.scalar_value(server, "merge_slashes") != Some("off");
    if merges && (is_uwsgi || target.path.is_some()) {
        table.set("normal_path", "yes");
    }
    if is_app {
        if target.path.as_deref().is_some_and(|to| to != path) {
            return Err(Verdict::Unsupported(OTHER_PATH.to_owned()));
        }
        let host = target
            .group
            .as_deref()
            .or(target.plain.first().map(String::as_str));
        let host = host.unwrap_or_default().to_owned();
        to_application(meaning, context, (pass, is_uwsgi, &host), table);
        return Ok(());
    }
    table.entries.push(("upstream", target.servers.clone()));
    let setting = tables::named("upstream");
    let mut shown = setting.map_or_else(String::new, |setting| {
        equivalent::assignment(setting, &target.servers)
    });
    if is_uwsgi && target.is_remote {
        meaning.set(pass, "uwsgi_insecure", vec!["yes".to_owned()]);
        meaning.verdicts[pass] = None;
        shown.push_str(
            ", uwsgi_insecure = true (a client that reaches this port controls the application)",
        );
    }
    if is_uwsgi && !meaning.has_app() {
        shown.push_str(" (with --app, or its uWSGI file beside this one, the application)");
    }
    meaning.honoured(pass, shown.clone());
    if target.is_sticky {
        table.set("balance", "address");
    }
    if target.path.is_none() {
        without_prefix(meaning, (block, is_uwsgi), path, table);
    }
    if let Some(to) = target.path {
        replace_path(meaning, pass, (path, &to), table);
    }
    let names = (target.group.as_deref(), target.tls.as_ref());
    options_of_servers(meaning, context, (pass, &shown), names, table);
    Ok(())
}

/// The advice for an address of the application whose path is not that of the location.
const OTHER_PATH: &str = "the application is in this server, and gets paths as clients send them: give its routes the path of the location, or run it as a server of its own (`upstream`)";

/// Completes the table of a location that is the application's; nginx sends `host` where no line sets `Host`.
fn to_application(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    (pass, is_uwsgi, host): (usize, bool, &str),
    table: &mut Table,
) {
    table.set("pass", "@app");
    if let Some(app) = meaning.given.found_app.clone() {
        let verdict = meaning.verdicts[pass].take();
        meaning.set(pass, "app", vec![app]);
        meaning.verdicts[pass] = verdict;
    }
    let block = meaning.tree.items[pass].parent.unwrap_or(pass);
    match is_uwsgi || has_host(meaning, block) {
        true => meaning.honoured(pass, APPLICATION),
        false => meaning.honoured(
            pass,
            format!("{APPLICATION} (with the client's Host, where nginx sends {host} without a line for it)"),
        ),
    }
    if let Some(line) = is_uwsgi.then(|| other_application(meaning, pass)).flatten() {
        let text = format!(
            "it is the application, as line {line} with another address: if that is another application, give it a [[location]] with app"
        );
        meaning.unsupported(pass, text);
    }
    options_of_application(meaning, context, (block, is_uwsgi), table);
}

/// Takes the prefix away that a `rewrite … break` takes away.
fn without_prefix(
    meaning: &mut Meaning<'_>,
    (block, is_uwsgi): (usize, bool),
    path: &str,
    table: &mut Table,
) {
    if let Some((line, to)) = super::rewrites::replaced(meaning, block, path)
        && table.value("prefix").is_some_and(|prefix| prefix != "/")
    {
        match (is_uwsgi, &*to) {
            (false, _) => {
                table.set("replace_prefix", to.clone());
                let prefix = plain(path);
                let text = format!(
                    "replace_prefix = {to:?} ({prefix} itself is replaced too, and {prefix} is put before the path of the server's redirects)"
                );
                meaning.honoured(line, text);
            }
            (true, "/") => {
                // nginx says nothing of the prefix, which would be in SCRIPT_NAME.
                table.set("strip_prefix", "yes");
                table.set("uwsgi_param", "SCRIPT_NAME=");
                meaning.honoured(line, "strip_prefix = true, uwsgi_param = \"SCRIPT_NAME=\"");
            }
            (true, _) => {}
        }
    }
}

/// Settings of the way to the servers of a `*_pass` that is honoured by `shown`.
fn options_of_servers(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    (pass, shown): (usize, &str),
    (group, tls): (Option<&str>, Option<&(String, bool)>),
    table: &mut Table,
) {
    let block = meaning.tree.items[pass].parent.unwrap_or(pass);
    let is_uwsgi = meaning.name(pass) == "uwsgi_pass";
    match is_uwsgi {
        true => uwsgi_options(meaning, context, block, table),
        false => http_options(meaning, context, (pass, group), table),
    }
    if let Some((host, is_group)) = tls {
        proxy_tls::options(meaning, context, pass, (host, *is_group), shown, table);
    }
    let prefix = if is_uwsgi { "uwsgi" } else { "proxy" };
    timeouts(meaning, block, prefix, table);
}

/// True if a `uwsgi_pass` means the application: there is one address, its settings bind this one, or
/// they bind none of all.
fn is_application(meaning: &Meaning<'_>, is_bound: bool) -> bool {
    let all = uwsgi_addresses(meaning);
    is_bound
        || all.len() < 2
        || !all.iter().any(|(_, addresses)| {
            addresses.iter().any(|address| {
                let mut sockets = meaning.given.sockets.iter();
                sockets.any(|socket| same_address(meaning, socket, address))
            })
        })
}

/// The line of a `uwsgi_pass` before this one with another address, of which none is known to be the
/// application's.
fn other_application(meaning: &Meaning<'_>, pass: usize) -> Option<usize> {
    let all = uwsgi_addresses(meaning);
    let own = all.iter().position(|(passes, _)| passes.contains(&pass))?;
    let is_known = all[own].1.iter().any(|address| {
        let mut sockets = meaning.given.sockets.iter();
        sockets.any(|socket| same_address(meaning, socket, address))
    });
    let first = *all.first()?.0.first()?;
    (own > 0 && !is_known).then(|| meaning.tree.items[first].line)
}

/// The groups of `uwsgi_pass` lines with the same address, each with its servers.
fn uwsgi_addresses(meaning: &Meaning<'_>) -> Vec<(Vec<usize>, Vec<String>)> {
    let mut all: Vec<(Vec<usize>, Vec<String>)> = Vec::new();
    for at in 0..meaning.tree.items.len() {
        if meaning.name(at) != "uwsgi_pass" {
            continue;
        }
        let name = meaning.arg(at, 0);
        let name = name.strip_prefix("uwsgi://").unwrap_or(name);
        let servers = match group(meaning, name) {
            Some(group) => meaning
                .tree
                .named(Some(group), "server")
                .map(|server| meaning.arg(server, 0).to_owned())
                .collect(),
            None => vec![name.to_owned()],
        };
        match all.iter_mut().find(|(_, known)| *known == servers) {
            Some((passes, _)) => passes.push(at),
            None => all.push((vec![at], servers)),
        }
    }
    all
}

/// The `upstream` block of this name.
fn group(meaning: &Meaning<'_>, name: &str) -> Option<usize> {
    let items = meaning.tree.items.iter();
    let mut items = items
        .enumerate()
        .filter(|(_, item)| item.name == "upstream");
    items
        .find(|(_, item)| item.is_block && item.arg(0) == name)
        .map(|(at, _)| at)
}

/// The path `to` of an address in place of the location's.
fn replace_path(
    meaning: &mut Meaning<'_>,
    pass: usize,
    (path, to): (&str, &str),
    table: &mut Table,
) {
    if table.value("prefix").is_none() {
        if to != path {
            table.set("replace_prefix", to);
        }
        return;
    }
    if plain(to) != plain(path) {
        table.set("replace_prefix", plain(to));
    }
    // nginx replaces bytes, which joins or doubles slashes unless both end alike.
    if to.ends_with('/') && !path.ends_with('/') {
        let text = format!(
            "the location has no slash at its end, so nginx sends {to}/x for {path}/x, and {to}../ for {path}../: whole segments are replaced here, {path}/x by {}/x",
            to.trim_end_matches('/')
        );
        meaning.say(pass, Verdict::Dangerous(text));
    } else if to.ends_with('/') != path.ends_with('/') {
        let sent = format!("{to}{}", if path.ends_with('/') { "x" } else { "/x" });
        let asked = format!("{}/x", path.trim_end_matches('/'));
        let here = format!("{}/x", to.trim_end_matches('/'));
        meaning.unsupported(
            pass,
            format!(
                "nginx sends {sent} for {asked}, here it is {here}: end both paths with a slash"
            ),
        );
    }
}

fn target(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    pass: usize,
    is_uwsgi: bool,
) -> Result<Target, Verdict> {
    let given = meaning.arg(pass, 0);
    let block = meaning.tree.items[pass].parent.unwrap_or(pass);
    let unsupported = |text: &str| Err(Verdict::Unsupported(text.to_owned()));
    if given.ends_with("$uri") {
        return unsupported(
            "nginx passes no query to an address with $uri: leave it out, or add $is_args$args",
        );
    }
    // An address with variables gets the target as it is.
    let with_request = WITH_QUERY
        .iter()
        .find_map(|query| given.strip_suffix(query)?.strip_suffix("$uri"))
        .or_else(|| given.strip_suffix("$request_uri"));
    // `http://server/other/$1$is_args$args` of `location ~ ^/prefix/(.*)$` replaces the prefix.
    let with_capture = WITH_QUERY
        .iter()
        .find_map(|query| given.strip_suffix(query)?.strip_suffix("$1"))
        .filter(|base| base.ends_with('/') && captures_rest(meaning, block));
    let fixed = with_request.or(with_capture).unwrap_or(given);
    let Some(text) = constant(meaning, context.site, block, fixed) else {
        return unsupported("an address with variables: name the server");
    };
    let rest = match (is_uwsgi, text.split_once("://")) {
        (false, Some(("http" | "https", rest))) => rest,
        (false, _) => {
            return Err(Verdict::Wrong(
                "no address, as in http://127.0.0.1:8000".to_owned(),
            ));
        }
        (true, Some(("uwsgi", rest))) => rest,
        (true, Some(("suwsgi", _))) => {
            return unsupported(
                "there is no TLS towards servers of uwsgi here: use proxy_pass https",
            );
        }
        (true, _) => &text,
    };
    let (authority, path) = split(rest, is_uwsgi);
    let with_variables = fixed.contains('$') && with_request.is_none();
    let path = (!path.is_empty() && with_request.is_none()).then_some(path);
    if with_variables && path.is_some() {
        return unsupported(
            "an address with variables and a path: nginx then sends this path alone",
        );
    }
    let is_tls = !is_uwsgi && text.starts_with("https://");
    if is_tls && authority.starts_with("unix:") {
        return unsupported("there is no TLS over Unix sockets here: use a port, or http");
    }
    let proxy_host = authority.clone();
    let group = group(meaning, &authority);
    let (addresses, is_sticky) = match group {
        Some(group) => members(meaning, group)?,
        None => (vec![authority], false),
    };
    let servers = addresses
        .iter()
        .map(|address| written(address, is_uwsgi, is_tls, group.is_some()))
        .collect();
    Ok(Target {
        servers,
        path,
        is_remote: !addresses.iter().all(|address| is_local(address)),
        plain: addresses,
        is_sticky,
        group: group.map(|_| proxy_host.clone()),
        tls: is_tls.then(|| (host_of(&proxy_host).to_owned(), group.is_some())),
    })
}

/// True for an address of this machine.
fn is_local(address: &str) -> bool {
    address.starts_with("unix:")
        || host_of(address) == "localhost"
        || host_of(address).starts_with("127.")
        || host_of(address) == "[::1]"
}

/// The address and the path of what follows the scheme.
fn split(rest: &str, is_uwsgi: bool) -> (String, String) {
    match rest.strip_prefix("unix:") {
        Some(socket) => {
            let (socket, path) = match socket.split_once(':') {
                Some((socket, path)) => (socket, path),
                None => (socket, ""),
            };
            (format!("unix:{socket}"), path.to_owned())
        }
        None => match rest.find('/') {
            Some(at) if !is_uwsgi => (rest[..at].to_owned(), rest[at..].to_owned()),
            _ => (rest.to_owned(), String::new()),
        },
    }
}

fn host_of(address: &str) -> &str {
    match address.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => host,
        _ => address,
    }
}

fn written(address: &str, is_uwsgi: bool, is_tls: bool, is_member: bool) -> String {
    let has_port = address
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    match (address.strip_prefix("unix:"), is_uwsgi) {
        (Some(path), true) => format!("uwsgi+unix:{}", one_slash(path)),
        (Some(path), false) => format!("http+unix:{}", one_slash(path)),
        (None, true) => format!("uwsgi://{address}"),
        (None, false) if is_tls && has_port => format!("https://{address}"),
        // nginx's servers of an `upstream` have port 80 unless they name another, with TLS as well.
        (None, false) if is_tls && is_member => format!("https://{address}:80"),
        (None, false) if is_tls => format!("https://{address}:443"),
        (None, false) if has_port => format!("http://{address}"),
        (None, false) => format!("http://{address}:80"),
    }
}

/// `///run/app.sock` with one slash.
fn one_slash(path: &str) -> String {
    match path.strip_prefix('/') {
        Some(rest) => format!("/{}", rest.trim_start_matches('/')),
        None => path.to_owned(),
    }
}

/// True if the application's server, if it binds the one, is found at the other.
fn same_address(meaning: &Meaning<'_>, bind: &str, address: &str) -> bool {
    if bind.starts_with("unix:") || bind.starts_with('/') {
        let bind = bind.strip_prefix("unix:").unwrap_or(bind);
        let address = address.strip_prefix("unix:");
        return address.is_some_and(|address| one_slash(address) == one_slash(bind));
    }
    let port = |text: &str| {
        text.rsplit(':')
            .next()
            .and_then(|port| port.parse::<u16>().ok())
    };
    let is_local = matches!(
        host_of(address),
        "localhost" | "127.0.0.1" | "0.0.0.0" | "[::1]"
    ) || meaning
        .given
        .hosts
        .iter()
        .any(|host| host == host_of(address));
    let bound_host = host_of(bind);
    let covers = matches!(
        bound_host,
        "" | "0.0.0.0" | "[::]" | "*" | "127.0.0.1" | "localhost"
    ) || bound_host.parse::<u16>().is_ok();
    is_local && covers && port(bind).is_some() && port(bind) == port(address)
}

/// The query of a request at the end of an address with variables.
const WITH_QUERY: [&str; 4] = [
    "$is_args$args",
    "$is_args$query_string",
    "?$args",
    "?$query_string",
];

/// The servers of an `upstream` block, and whether a client stays at one of them.
fn members(meaning: &mut Meaning<'_>, group: usize) -> Result<(Vec<String>, bool), Verdict> {
    let mut addresses: Vec<String> = Vec::new();
    let mut is_sticky = false;
    let children: Vec<_> = meaning.tree.children(Some(group)).collect();
    let servers = children
        .iter()
        .filter(|at| meaning.name(**at) == "server")
        .count();
    for at in children {
        match meaning.name(at) {
            "server" => {
                let address = meaning.arg(at, 0).to_owned();
                let options: Vec<_> = meaning.args(at).into_iter().skip(1).collect();
                if options.contains(&"down") {
                    meaning.honoured(at, "left out");
                    continue;
                }
                let unsupported = options.iter().find(|option| {
                    option.starts_with("weight=") && **option != "weight=1" || **option == "backup"
                });
                match unsupported {
                    Some(option) if servers > 1 => {
                        let text = format!(
                            "there is no {option} here: the server with the fewest requests in flight gets the next"
                        );
                        meaning.unsupported(at, text);
                    }
                    _ => meaning.honoured(at, "a server of upstream (one that fails is skipped)"),
                }
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            "ip_hash" if servers > 1 && tables::named("balance").is_some() => {
                is_sticky = true;
                meaning.honoured(at, "balance = \"address\"");
            }
            "ip_hash" | "hash" | "sticky" if servers > 1 => {
                meaning.unsupported(
                    at,
                    "the server with the fewest requests in flight gets the next",
                );
            }
            "ip_hash" | "hash" | "sticky" => meaning.no_effect(at, "there is one server"),
            "least_conn" | "random" => meaning.already(
                at,
                "the server with the fewest requests in flight gets the next",
            ),
            "keepalive" | "keepalive_timeout" | "keepalive_requests" | "keepalive_time" => {
                meaning.already(at, "idle connections are kept")
            }
            "zone" | "state" | "queue" => {
                meaning.no_effect(at, "all threads share the state of servers")
            }
            _ => {}
        }
    }
    match addresses.is_empty() {
        true => Err(Verdict::Wrong("the upstream has no server".to_owned())),
        false => {
            meaning.honoured(group, "servers of upstream");
            Ok((addresses, is_sticky))
        }
    }
}
