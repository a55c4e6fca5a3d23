//! TLS: addresses with `ssl`, certificates, and servers that redirect to https.

use std::path::Path;

use super::access::beside_nginx_conf;
use super::locations::plain;
use super::served::{Site, redirects_to_https};
use super::{Meaning, Table};
use crate::config::foreign::Verdict;

/// True if the server around a directive has an address with TLS.
pub fn has_tls(meaning: &Meaning<'_>, at: usize) -> bool {
    let server = meaning.around(at, "server");
    let mut listens = meaning.tree.named(server, "listen");
    server.is_some() && listens.any(|listen| meaning.args(listen).contains(&"ssl"))
}

/// Gives addresses with TLS their scheme, and puts `redirect_to_https` in the place of servers that do
/// nothing else.
pub fn decide(meaning: &mut Meaning<'_>, sites: Vec<Site>) -> Vec<Site> {
    let is_tls = |site: &Site| site.listens.iter().any(|listen| listen.is_tls);
    if !sites.iter().any(is_tls) {
        return sites;
    }
    let mut redirects = Vec::new();
    let mut kept = Vec::new();
    for site in sites {
        match !is_tls(&site) && redirects_to_https(meaning, site.at) && keeps_host(meaning, &site) {
            true => redirects.push(site),
            false => kept.push(site),
        }
    }
    // `listen 80 default_server; return 444;` beside servers that redirect.
    let refusing: Vec<_> = match redirects.is_empty() {
        true => Vec::new(),
        false => kept
            .extract_if(.., |site| !is_tls(site) && refuses(meaning, site.at))
            .collect(),
    };
    for site in &refusing {
        let why =
            "every host without TLS is redirected to https, where the servers with TLS decide";
        meaning.say(site.at, Verdict::Noted(why.to_owned()));
        meaning.say_inside(
            site.at,
            &Verdict::NoEffect("its server is not asked".to_owned()),
        );
    }
    for site in &mut kept {
        for listen in site.listens.iter_mut().filter(|listen| listen.is_tls) {
            listen.bind = format!("https://{}", listen.bind);
        }
        if is_tls(site) {
            site.scheme = "https";
        }
    }
    for site in redirects {
        redirect(meaning, &site);
        let first = kept.iter_mut().find(|site| is_tls(site));
        if let Some(first) = first {
            let plain = site
                .listens
                .into_iter()
                .map(|listen| super::listen::Listen {
                    is_default: false,
                    ..listen
                });
            first.listens.extend(plain);
        }
    }
    kept
}

/// True for a server that answers all requests with the status of an error, and does nothing else.
fn refuses(meaning: &Meaning<'_>, server: usize) -> bool {
    let mut has_return = false;
    for at in meaning.tree.children(Some(server)) {
        match meaning.name(at) {
            "return" if meaning.arg(at, 0).starts_with('4') => has_return = true,
            "listen" | "server_name" | "access_log" | "error_log" | "log_not_found"
            | "server_tokens" | "root" | "index" => {}
            _ => return false,
        }
    }
    has_return
}

/// True unless a server with names redirects to a name that is none of them: that is a site of its own.
fn keeps_host(meaning: &Meaning<'_>, site: &Site) -> bool {
    let is_name = |name: &&String| name.contains('.') && !name.contains('*');
    let names: Vec<_> = site.names.iter().filter(is_name).collect();
    let is_own = |text: &str| {
        let target = text.split_once("://").map_or("", |(_, rest)| rest);
        let host = target.split(['/', '$']).next().unwrap_or_default();
        host.is_empty() || names.is_empty() || names.iter().any(|name| *name == host)
    };
    let mut open = vec![site.at];
    while let Some(block) = open.pop() {
        for at in meaning.tree.children(Some(block)) {
            let mut texts = meaning.tree.items[at].texts();
            if texts.any(|text| text.starts_with("https://") && !is_own(text)) {
                return false;
            }
            open.push(at);
        }
    }
    true
}

/// Honours `if ($scheme = http) { return 301 https://$host$request_uri; }`; false for others.
pub fn condition(meaning: &mut Meaning<'_>, at: usize) -> bool {
    let text = meaning.args(at).concat().replace(['"', '\''], "");
    let is_plain = matches!(&*text, "($scheme=http)" | "($scheme!=https)");
    let inside: Vec<_> = meaning.tree.children(Some(at)).collect();
    let is_same_host = |line: &usize| {
        let to = meaning.args(*line).last().copied().unwrap_or_default();
        let hosts = [
            "https://$host$request_uri",
            "https://$server_name$request_uri",
            "https://$http_host$request_uri",
        ];
        meaning.name(*line) == "return" && hosts.contains(&to)
    };
    if !is_plain || !has_tls(meaning, at) || inside.len() != 1 || !inside.iter().all(is_same_host) {
        return false;
    }
    meaning.set(at, "redirect_to_https", vec!["yes".to_owned()]);
    meaning.say_inside(at, &Verdict::Honoured(REDIRECTED.to_owned()));
    true
}

const REDIRECTED: &str = "redirect_to_https = true (the host stays that of the request)";

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
            "return" | "rewrite" | "if" | "location" => {
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
    if !(meaning.given.is_dir)(Path::new(&dir)) {
        let text = format!("there is no directory {dir}, so the location answers 404");
        meaning.say(line, Verdict::Noted(text));
        return;
    }
    table.set("static", dir.clone());
    meaning.honoured(at, table.shown());
    meaning.honoured(line, format!("static = {dir:?}"));
    meaning.tables.push(table);
}

/// The certificates and the versions of all servers.
pub fn certificates(meaning: &mut Meaning<'_>, sites: &[Site]) {
    let (mut certificates, mut keys, mut lines) = (Vec::new(), Vec::new(), Vec::new());
    for site in sites.iter().filter(|site| site.scheme == "https") {
        let all = meaning.nearest(Some(site.at), "ssl_certificate");
        let all_keys = meaning.nearest(Some(site.at), "ssl_certificate_key");
        for (certificate, key) in all.iter().zip(&all_keys) {
            let pair = [*certificate, *key].map(|at| beside_nginx_conf(meaning.arg(at, 0)));
            meaning.honoured(*certificate, format!("tls_cert = {:?}", pair[0]));
            meaning.honoured(*key, format!("tls_key = {:?}", pair[1]));
            if !certificates.contains(&pair[0]) {
                let [certificate, key] = pair;
                certificates.push(certificate);
                keys.push(key);
            }
        }
        if all.len() != all_keys.len() || all.is_empty() {
            let at = all.first().or(all_keys.first()).copied().unwrap_or(site.at);
            let text = "ssl_certificate and ssl_certificate_key belong together";
            meaning.say(at, Verdict::Wrong(text.to_owned()));
        }
        lines.extend(all.into_iter().zip(all_keys));
        versions(meaning, site.at);
    }
    clients(meaning, sites);
    if let Some((certificate, key)) = lines.first() {
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
    let servers = sites.iter().filter(|site| site.scheme == "https");
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
    match (args.contains(&"TLSv1.2"), args.contains(&"TLSv1.3")) {
        (false, true) => meaning.set(at, "tls_min", vec!["1.3".to_owned()]),
        _ => meaning.already(at, "TLS 1.2 and 1.3"),
    }
}
