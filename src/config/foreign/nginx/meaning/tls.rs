//! TLS: addresses with `ssl`, certificates, and servers of one scheme alone.

use super::access::beside_nginx_conf;
use super::listen::Listen;
use super::locations::plain;
use super::served::Site;
use super::uwsgi_params::is_standard;
use super::{Meaning, Table, method_conditions};
use crate::config::Scheme;
use crate::config::foreign::Verdict;

/// Gives addresses with TLS their scheme. Where nothing happens over plain HTTP but a redirect to the
/// same host, `redirect_to_https` does it; where other servers answer there, each scheme has
/// locations of its own.
pub fn decide(meaning: &mut Meaning<'_>, mut sites: Vec<Site>) -> Vec<Site> {
    if !sites.iter().any(Site::has_tls) {
        return sites;
    }
    for site in sites.iter_mut().filter(|site| site.has_tls()) {
        site.scheme = Scheme::Https;
        for listen in site.listens.iter_mut().filter(|listen| listen.is_tls) {
            listen.bind = format!("https://{}", listen.bind);
        }
    }
    let redirects = |site: &&Site| match site.has_tls() {
        true => condition(meaning, site.at).is_some_and(|line| is_same_host(meaning, line)),
        false => redirects_to_same_host(meaning, site.at),
    };
    let plain: Vec<&Site> = sites.iter().filter(|site| site.has_plain()).collect();
    // The address of `redirect_to_https` has the port; that of `https://$host` has none.
    let tls = sites.iter().flat_map(|site| &site.listens);
    let has_usual_port = tls
        .filter(|listen| listen.is_tls)
        .all(|listen| listen.port == Some(443));
    // Its redirect has no fields of the site.
    let has_fields = plain.iter().any(|site| has_fields(meaning, site.at));
    if !plain.is_empty() && has_usual_port && !has_fields && plain.iter().all(redirects) {
        return redirected(meaning, sites);
    }
    let is_split = |site: &&Site| {
        !site.has_tls() || condition(meaning, site.at).is_some() || says_scheme(meaning, site.at)
    };
    match plain.iter().any(is_split) {
        true => by_scheme(meaning, sites),
        false => sites,
    }
}

/// True if responses of a server, or of a location in it, have fields of the site.
fn has_fields(meaning: &Meaning<'_>, server: usize) -> bool {
    let is_field = |at: usize| matches!(meaning.name(at), "add_header" | "expires");
    (0..meaning.tree.items.len()).any(|at| is_field(at) && concerns(meaning, at, server))
}

/// True if a line stands in a server, or around all of them.
fn concerns(meaning: &Meaning<'_>, at: usize, server: usize) -> bool {
    let around = meaning.around(at, "server");
    around.is_none_or(|around| around == server)
}

/// True if a line of a server, or one for all, has `$scheme` where a setting here has one value.
fn says_scheme(meaning: &Meaning<'_>, server: usize) -> bool {
    (0..meaning.tree.items.len()).any(|at| {
        let is_fixed = match meaning.name(at) {
            "return" | "rewrite" | "add_header" | "root" | "alias" => true,
            "uwsgi_param" => !is_standard(meaning.arg(at, 0), meaning.arg(at, 1)),
            name => name.ends_with("_pass"),
        };
        let args = meaning.args(at);
        let mut args = args.iter();
        is_fixed
            && concerns(meaning, at, server)
            && args.any(|arg| arg.contains("$scheme") || arg.contains("${scheme}"))
    })
}

/// The servers with TLS, and `redirect_to_https` in the place of those without.
fn redirected(meaning: &mut Meaning<'_>, sites: Vec<Site>) -> Vec<Site> {
    let (mut kept, plain): (Vec<_>, Vec<_>) = sites.into_iter().partition(Site::has_tls);
    for site in &kept {
        if let Some(line) = condition(meaning, site.at) {
            let block = meaning.tree.items[line].parent.unwrap_or(site.at);
            meaning.set(block, "redirect_to_https", vec!["yes".to_owned()]);
            meaning.say_inside(block, &Verdict::Honoured(REDIRECTED.to_owned()));
        }
    }
    for site in plain {
        redirect(meaning, &site);
        let listens = site.listens.into_iter().map(|listen| Listen {
            is_default: false,
            ..listen
        });
        if let Some(first) = kept.first_mut() {
            first.listens.extend(listens);
        }
    }
    kept
}

/// The servers of each scheme; one that has addresses of both is one of each.
fn by_scheme(meaning: &mut Meaning<'_>, sites: Vec<Site>) -> Vec<Site> {
    let (mut with_tls, mut plain) = (Vec::new(), Vec::new());
    for site in sites {
        let mut site = Site {
            is_of_scheme: true,
            ..site
        };
        if site.has_tls() && site.has_plain() {
            let (own, others) = site.listens.into_iter().partition(|listen| listen.is_tls);
            site.listens = own;
            let line = condition(meaning, site.at);
            let block = line.and_then(|line| meaning.tree.items[line].parent);
            if let Some(block) = block {
                meaning.steers(block, "locations with scheme = \"http\"");
            }
            plain.push(Site {
                at: block.unwrap_or(site.at),
                listens: others,
                scheme: Scheme::Http,
                ..site.clone()
            });
        }
        match site.has_tls() {
            true => with_tls.push(site),
            false => plain.push(site),
        }
    }
    with_tls.append(&mut plain);
    with_tls
}

/// True for a server that redirects everything to the same host over https, with status 301, except
/// the files for authorities of certificates, and does nothing else.
fn redirects_to_same_host(meaning: &Meaning<'_>, server: usize) -> bool {
    let mut found = 0;
    for at in meaning.tree.children(Some(server)) {
        let args = meaning.args(at);
        match meaning.name(at) {
            "listen" | "server_name" | "access_log" | "error_log" | "log_not_found"
            | "server_tokens" | "root" | "index" | "charset" => {}
            "location" if args.iter().any(|arg| arg.contains("well-known")) => {}
            "return" | "rewrite" if is_same_host(meaning, at) => found += 1,
            "location" if args == ["/"] => {
                let inside: Vec<_> = meaning.tree.children(Some(at)).collect();
                match inside[..] {
                    [line] if is_same_host(meaning, line) => found += 1,
                    _ => return false,
                }
            }
            _ => return false,
        }
    }
    found == 1
}

/// True for `return 301 https://$host$request_uri` and the like.
fn is_same_host(meaning: &Meaning<'_>, line: usize) -> bool {
    let args = meaning.args(line);
    let to = match (meaning.name(line), &args[..]) {
        ("return", ["301" | "308", to]) => *to,
        ("rewrite", ["^", to, "permanent"]) => match to.strip_suffix("$request_uri?") {
            Some(_) => to.trim_end_matches('?'),
            None => return false,
        },
        ("rewrite", ["^(.*)$" | "^(.*)" | "(.*)", to, "permanent"]) => {
            return ["https://$host$1", "https://$http_host$1"].contains(to);
        }
        _ => return false,
    };
    [
        "https://$host$request_uri",
        "https://${host}$request_uri",
        "https://${host}${request_uri}",
        "https://$http_host$request_uri",
        "https://$host$uri$is_args$args",
    ]
    .contains(&to)
}

/// The redirect in `if ($scheme = http) { return … }` of a server.
fn condition(meaning: &Meaning<'_>, server: usize) -> Option<usize> {
    let mut all = meaning.tree.named(Some(server), "if");
    all.find_map(|at| method_conditions::of_plain(meaning, at))
}

const REDIRECTED: &str = "redirect_to_https = true (the host stays that of the request; 308 for other methods than GET and HEAD)";

fn redirect(meaning: &mut Meaning<'_>, site: &Site) {
    meaning.set(site.at, "redirect_to_https", vec!["yes".to_owned()]);
    let children: Vec<_> = meaning.tree.children(Some(site.at)).collect();
    for at in children {
        match meaning.name(at) {
            "listen" => {}
            "server_name" => meaning.no_effect(at, "every host is redirected to itself"),
            "location"
                if meaning
                    .args(at)
                    .iter()
                    .any(|arg| arg.contains("well-known")) =>
            {
                challenge(meaning, at);
            }
            "return" | "rewrite" | "location" => {
                meaning.honoured(at, REDIRECTED);
                let inside = Verdict::Honoured(REDIRECTED.to_owned());
                meaning.say_inside(at, &inside);
            }
            _ => {}
        }
    }
}

/// The files of `/.well-known/acme-challenge/`, which are not redirected.
fn challenge(meaning: &mut Meaning<'_>, at: usize) {
    let path = meaning
        .args(at)
        .last()
        .copied()
        .unwrap_or_default()
        .to_owned();
    let root = meaning.tree.named(Some(at), "root").next();
    let alias = meaning.tree.named(Some(at), "alias").next();
    let (Some(line), true) = (
        root.or(alias),
        path.starts_with("/.well-known/acme-challenge"),
    ) else {
        return meaning.unsupported(
            at,
            "the path /.well-known/acme-challenge/ with a root alone is not redirected",
        );
    };
    let dir = meaning.arg(line, 0);
    let dir = match root {
        Some(_) => format!("{}{}", dir.trim_end_matches('/'), plain(&path)),
        None => plain(dir).to_owned(),
    };
    let mut table = Table {
        at,
        entries: Vec::new(),
    };
    table.set("prefix", plain(&path));
    table.set("static", dir.clone());
    meaning.honoured(at, table.shown());
    meaning.honoured(line, format!("static = {dir:?}"));
    meaning.tables.push(table);
}

/// The certificates and the versions of all servers.
pub fn certificates(meaning: &mut Meaning<'_>, sites: &[Site]) {
    let (mut certificates, mut keys, mut lines) = (Vec::new(), Vec::new(), Vec::new());
    for site in sites.iter().filter(|site| site.scheme == Scheme::Https) {
        let all = meaning.nearest(Some(site.at), "ssl_certificate");
        let all_keys = meaning.nearest(Some(site.at), "ssl_certificate_key");
        for (certificate, key) in all.iter().zip(&all_keys) {
            if meaning.arg(*certificate, 0).contains('$') || meaning.arg(*key, 0).contains('$') {
                let text = "a certificate of each request: name those of all hosts, of which the one for the client's is sent";
                meaning.unsupported(*certificate, text);
                meaning.unsupported(*key, text);
                continue;
            }
            let pair = [*certificate, *key].map(|at| beside_nginx_conf(meaning.arg(at, 0)));
            meaning.honoured(*certificate, format!("tls_cert = {:?}", pair[0]));
            meaning.honoured(*key, format!("tls_key = {:?}", pair[1]));
            if !certificates.contains(&pair[0]) {
                let [certificate, key] = pair;
                certificates.push(certificate);
                keys.push(key);
            }
        }
        // A server beside the default one may have none: the default's is sent for its hosts.
        let is_beside = all.is_empty() && all_keys.is_empty() && !certificates.is_empty();
        if (all.len() != all_keys.len() || all.is_empty()) && !is_beside {
            let at = all.first().or(all_keys.first()).copied().unwrap_or(site.at);
            let text = "ssl_certificate and ssl_certificate_key belong together";
            meaning.say(at, Verdict::Wrong(text.to_owned()));
        }
        lines.extend(all.into_iter().zip(all_keys));
        versions(meaning, site.at);
    }
    clients(meaning, sites);
    let first = lines.first().filter(|_| !certificates.is_empty());
    if let Some((certificate, key)) = first {
        for (at, name, values) in [
            (*certificate, "tls_cert", certificates),
            (*key, "tls_key", keys),
        ] {
            let verdict = meaning.verdicts[at].take();
            meaning.set(at, name, values);
            meaning.verdicts[at] = verdict;
        }
    }
}

/// Certificates of clients, which all addresses with TLS ask for or none: so all servers have to agree.
fn clients(meaning: &mut Meaning<'_>, sites: &[Site]) {
    const FILES: [(&str, &str); 2] = [
        ("ssl_client_certificate", "tls_client_ca"),
        ("ssl_crl", "tls_client_crl"),
    ];
    let servers = sites.iter().filter(|site| site.scheme == Scheme::Https);
    let servers: Vec<_> = servers.map(|site| Some(site.at)).collect();
    let mut value = |server: &Option<usize>, name: &str| {
        let text = meaning.scalar_value(*server, name);
        text.map(str::to_owned)
    };
    let names = ["ssl_verify_client", FILES[0].0, FILES[1].0];
    let mut wanted: Vec<_> = servers
        .iter()
        .map(|server| names.map(|name| value(server, name)))
        .collect();
    wanted.dedup();
    let [[Some(verify), Some(_), _]] = &wanted[..] else {
        return;
    };
    if !matches!(&**verify, "on" | "optional") {
        return;
    }
    for server in servers {
        for (name, setting) in FILES {
            if let Some(at) = meaning.scalar(server, name) {
                let file = beside_nginx_conf(meaning.arg(at, 0));
                meaning.set(at, setting, vec![file]);
            }
        }
        if let Some(at) = meaning.scalar(server, "ssl_verify_client") {
            match &**verify {
                "on" => meaning.honoured(at, "tls_client_auth = \"required\""),
                _ => meaning.set(at, "tls_client_auth", vec!["optional".to_owned()]),
            }
        }
    }
}

fn versions(meaning: &mut Meaning<'_>, server: usize) {
    let Some(at) = meaning.scalar(Some(server), "ssl_protocols") else {
        return;
    };
    let args = meaning.args(at);
    let others = args
        .iter()
        .any(|version| !["TLSv1.2", "TLSv1.3"].contains(version));
    match (args.contains(&"TLSv1.2"), args.contains(&"TLSv1.3")) {
        (false, true) => meaning.set(at, "tls_min", vec!["1.3".to_owned()]),
        (true, true) if !others => meaning.already(at, "TLS 1.2 and 1.3"),
        _ => meaning.say(
            at,
            Verdict::Differs("TLS 1.2 and 1.3, and no other".to_owned()),
        ),
    }
}
