//! The `server` blocks that are served, with their addresses and hosts.
//!
//! pyserve has one set of addresses for all hosts of a scheme. So servers on other ports than the
//! first one of their scheme are not served.

use super::Meaning;
use super::listen;
use super::served::Site;
use super::{regex, tls};
use crate::config::foreign::Verdict;
use crate::config::foreign::nginx::directives;
use crate::config::{HostPattern, Scheme};

/// The servers in order, the default server first.
pub fn decide(meaning: &mut Meaning<'_>) -> Vec<Site> {
    let tree = meaning.tree;
    let http: Vec<Option<usize>> = tree.named(None, "http").map(Some).collect();
    for block in &http {
        meaning.steers(block.unwrap_or_default(), "the servers in it");
    }
    let root = http.first().copied().unwrap_or(None);
    let mut sites: Vec<Site> = Vec::new();
    for at in tree
        .named(root, "server")
        .filter(|at| tree.items[*at].is_block)
    {
        let listens = listen::of(meaning, at);
        sites.push(Site {
            at,
            server: at,
            hosts: Vec::new(),
            listens,
            scheme: Scheme::Http,
            is_of_scheme: false,
        });
    }
    share_tls(&mut sites);
    let sites = tls::decide(meaning, sites);
    let (with_tls, plain) = sites
        .into_iter()
        .partition(|site| !site.is_of_scheme || site.scheme == Scheme::Https);
    let mut all = Vec::new();
    for sites in [with_tls, plain] {
        let mut sites = on_one_port(meaning, sites);
        hosts(meaning, &mut sites);
        conditions(meaning, &mut sites);
        all.append(&mut sites);
    }
    all
}

/// Gives an address TLS for all servers if one of them asks for it, as nginx does
/// (`ngx_http_add_addresses`).
fn share_tls(sites: &mut [Site]) {
    let listens = sites.iter().flat_map(|site| &site.listens);
    let with_tls = listens.filter(|listen| listen.is_tls);
    let with_tls: Vec<String> = with_tls.map(|listen| listen.bind.clone()).collect();
    for listen in sites.iter_mut().flat_map(|site| &mut site.listens) {
        listen.is_tls |= with_tls.contains(&listen.bind);
    }
}

/// `if ($host = NAME) { return … }` in a server: a site of its own. With `!=`, the site of all other
/// hosts.
fn conditions(meaning: &mut Meaning<'_>, sites: &mut Vec<Site>) {
    let mut made: Vec<Site> = Vec::new();
    let named: Vec<String> = sites.iter().flat_map(|site| site.hosts.clone()).collect();
    for site in sites.iter_mut() {
        let is_for_some = !site.hosts.is_empty();
        // An `if` that is a site of its own has no other in it.
        let all: Vec<_> = meaning.tree.named(Some(site.at), "if").collect();
        for at in all {
            let Some(condition) = condition(&meaning.args(at)) else {
                continue;
            };
            let inside: Vec<_> = meaning.tree.children(Some(at)).collect();
            let is_return =
                inside.len() == 1 && matches!(meaning.name(inside[0]), "return" | "rewrite");
            let is_host = |host: &String| HostPattern::parse(host).is_ok();
            if !is_return || !condition.hosts.iter().all(is_host) {
                continue;
            }
            let has_others = site.hosts.is_empty() || site.hosts.contains(&"*".to_owned());
            if is_for_some && site.hosts.is_empty() {
                // The conditions before it have all hosts of the server.
                break;
            }
            let is_taken = |host: &String| made.iter().any(|other| other.hosts.contains(host));
            let hosts = match condition.is_negated {
                // All others; nothing is left to a site that has none of these hosts.
                true if has_others && !condition.hosts.iter().any(is_taken) => {
                    let is_free =
                        |host: &&String| site.hosts.contains(host) || !named.contains(host);
                    let own = condition.hosts.iter().filter(is_free).cloned().collect();
                    let before = std::mem::replace(&mut site.hosts, own);
                    let is_left = |host: &String| host != "*" && !site.hosts.contains(host);
                    let mut others: Vec<_> = before.into_iter().filter(is_left).collect();
                    others.push("*".to_owned());
                    others
                }
                true => continue,
                false => {
                    let is_own = |host: &String| {
                        site.hosts.contains(host) || has_others && !named.contains(host)
                    };
                    if !condition.hosts.iter().all(is_own) || condition.hosts.iter().any(is_taken) {
                        continue;
                    }
                    site.hosts.retain(|own| !condition.hosts.contains(own));
                    if site.hosts.is_empty() && has_others {
                        site.hosts.push("*".to_owned());
                    }
                    condition.hosts
                }
            };
            meaning.steers(at, format!("locations with host = {hosts:?}"));
            made.push(Site {
                at,
                server: site.server,
                hosts,
                listens: Vec::new(),
                scheme: site.scheme,
                is_of_scheme: site.is_of_scheme,
            });
        }
    }
    // A server of which nothing is left.
    sites.retain(|site| {
        !made
            .iter()
            .any(|other| meaning.tree.items[other.at].parent == Some(site.at))
            || !site.hosts.is_empty()
    });
    sites.extend(made);
}

/// A condition on the host.
struct HostCondition {
    hosts: Vec<String>,
    /// True if it holds for all hosts but these.
    is_negated: bool,
}

/// The hosts of `($host = NAME)`, `($host != NAME)`, `($host ~* ^(a\.org|b\.org)$)` and `!~*`.
fn condition(args: &[&str]) -> Option<HostCondition> {
    let text = args.join(" ");
    let inner = text.strip_prefix('(')?.strip_suffix(')')?.trim();
    let rest = inner
        .strip_prefix("$host")
        .or_else(|| inner.strip_prefix("$http_host"))?
        .trim_start();
    let (operator, value) = ["!~*", "!~", "!=", "~*", "~", "="]
        .iter()
        .find_map(|operator| Some((*operator, rest.strip_prefix(operator)?)))?;
    let value = value.trim().trim_matches(['"', '\'']);
    let hosts = match operator.ends_with('=') {
        true => vec![value.to_owned()],
        false => regex::hosts(value)?,
    };
    let is_name = |host: &String| !host.is_empty() && !host.contains(char::is_whitespace);
    hosts.iter().all(is_name).then(|| HostCondition {
        hosts: hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
        is_negated: operator.starts_with('!'),
    })
}

/// Leaves those with the ports of the default server.
fn on_one_port(meaning: &mut Meaning<'_>, sites: Vec<Site>) -> Vec<Site> {
    let ports = |site: &Site| {
        // Plain addresses beside those with TLS are for all.
        let is_tls = site.scheme == Scheme::Https;
        let ports = site.listens.iter().filter(|listen| listen.is_tls == is_tls);
        let mut ports: Vec<_> = ports
            .map(|listen| {
                listen
                    .port
                    .map_or(listen.bind.clone(), |port| port.to_string())
            })
            .collect();
        ports.sort();
        ports.dedup();
        ports
    };
    let first = sites
        .iter()
        .find(|site| site.is_default())
        .or(sites.first())
        .map(ports);
    let mut kept = Vec::new();
    for site in sites {
        if Some(ports(&site)) == first {
            kept.push(site);
            continue;
        }
        let why = "all hosts have the same addresses here: give this server a pyserve of its own";
        meaning.unsupported(site.at, why);
        meaning.say_inside(
            site.at,
            &Verdict::NoEffect("its server is not served".to_owned()),
        );
    }
    kept
}

/// Gives each its hosts, if there are several, and the default server those that no other has.
fn hosts(meaning: &mut Meaning<'_>, sites: &mut Vec<Site>) {
    if let Some(default) = sites.iter().position(Site::is_default) {
        let site = sites.remove(default);
        sites.insert(0, site);
    }
    let is_alone = sites.len() == 1;
    let mut seen: Vec<String> = Vec::new();
    for (number, site) in sites.iter_mut().enumerate() {
        own_hosts(meaning, site, is_alone);
        site.hosts.retain(|host| !seen.contains(host));
        let mut once = Vec::new();
        site.hosts.retain(|host| {
            !once.contains(host) && {
                once.push(host.clone());
                true
            }
        });
        seen.extend(site.hosts.iter().cloned());
        if number == 0 && !is_alone {
            site.hosts.push("*".to_owned());
        }
        let own: Vec<_> = meaning
            .tree
            .named(Some(site.server), "server_name")
            .collect();
        for at in own {
            match (is_alone, site.hosts.is_empty()) {
                (true, _) => {
                    let text = match site.is_of_scheme {
                        false => "the only server answers for every host, as in nginx",
                        true => "the only server of its scheme answers for every host, as in nginx",
                    };
                    meaning.no_effect(at, text);
                }
                (false, true) => meaning.no_effect(at, "another server has the name"),
                (false, false) => meaning.honoured(at, format!("host = {:?}", site.hosts)),
            }
        }
        let shown = match (is_alone, site.is_of_scheme) {
            (true, false) => "the site".to_owned(),
            (true, true) => format!("locations with scheme = {:?}", site.scheme.as_str()),
            (false, false) => format!("locations with host = {:?}", site.hosts),
            (false, true) => format!(
                "locations with scheme = {:?}, host = {:?}",
                site.scheme.as_str(),
                site.hosts
            ),
        };
        meaning.steers(site.at, shown);
    }
    let is_reached = |site: &Site| is_alone || !site.hosts.is_empty();
    for site in sites.extract_if(.., |site| !is_reached(site)) {
        meaning.verdicts[site.at] = None;
        meaning.unsupported(
            site.at,
            "it has no name that a host can have here, so it is not served",
        );
        meaning.say_inside(
            site.at,
            &Verdict::NoEffect("its server is not served".to_owned()),
        );
    }
}

/// The hosts of a server's names.
fn own_hosts(meaning: &mut Meaning<'_>, site: &mut Site, is_alone: bool) {
    let mut reasons: Vec<(usize, String)> = Vec::new();
    for at in meaning.tree.named(Some(site.server), "server_name") {
        if let Some(name) = swallowed(meaning.tree.items[at].texts()) {
            let text =
                format!("a `;` is missing before {name}, so nginx takes it for a name of the site");
            meaning.say(at, Verdict::Noted(text));
        }
    }
    for at in meaning.tree.named(Some(site.server), "server_name") {
        for name in meaning.tree.items[at].texts() {
            match patterns(name) {
                Ok(patterns) if !is_alone => site.hosts.extend(patterns),
                Ok(_) => {}
                Err(reason) => reasons.push((at, reason)),
            }
        }
    }
    if !is_alone {
        for (at, reason) in reasons {
            meaning.unsupported(at, reason);
        }
    }
}

/// The directive among the names of a `server_name` whose semicolon is missing.
fn swallowed<'t>(names: impl Iterator<Item = &'t str>) -> Option<&'t str> {
    let is_usual = |name: &str| {
        matches!(
            name,
            "charset"
                | "root"
                | "index"
                | "listen"
                | "location"
                | "gzip"
                | "expires"
                | "include"
                | "return"
                | "rewrite"
                | "alias"
        )
    };
    names.skip(1).find(|name| {
        is_usual(name) || name.contains('_') && directives::names().any(|own| own == *name)
    })
}

/// A name of `server_name` as patterns of hosts; none for names that no request has.
fn patterns(name: &str) -> Result<Vec<String>, String> {
    let checked =
        |texts: Vec<String>| match texts.iter().all(|text| HostPattern::parse(text).is_ok()) {
            true => Ok(texts),
            false => Err(format!("{name} is no name of a host")),
        };
    match name {
        "" | "_" | "__" | "@" | "--" => Ok(Vec::new()),
        "$hostname" => Err("the name of the machine: name it".to_owned()),
        _ if name.starts_with('~') => {
            Err("hosts by regular expression: name them, or use *.example.org".to_owned())
        }
        _ if name.ends_with(".*") => {
            Err("a wildcard at the end of a host: name the hosts".to_owned())
        }
        _ => match name.strip_prefix('.') {
            Some(bare) => checked(vec![
                bare.to_ascii_lowercase(),
                format!("*.{}", bare.to_ascii_lowercase()),
            ]),
            None => checked(vec![name.to_ascii_lowercase()]),
        },
    }
}
