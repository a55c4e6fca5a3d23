//! `proxy_pass https://` and `proxy_ssl_*`: TLS towards servers.
//!
//! nginx verifies no certificate of a server unless `proxy_ssl_verify` is on; here all are verified.

use super::access::beside_nginx_conf;
use super::locations::Context;
use super::redirects::constant;
use super::{Meaning, Table};
use crate::config::foreign::Verdict;

/// Completes the table of a location whose `proxy_pass` has this host, that of an `upstream` if
/// `is_group`, and is honoured by `shown`.
pub fn options(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    pass: usize,
    (host, is_group): (&str, bool),
    shown: &str,
    table: &mut Table,
) {
    let block = meaning.tree.items[pass].parent.unwrap_or(pass);
    let is_verified = verified(meaning, block, (pass, shown));
    authorities(meaning, block, table);
    name(
        meaning,
        context,
        block,
        (host, is_group && is_verified),
        table,
    );
    own_certificate(meaning, block, table);
    for (directive, text) in [
        ("proxy_ssl_server_name", "the name is always sent (SNI)"),
        ("proxy_ssl_session_reuse", "sessions are resumed"),
        ("proxy_ssl_protocols", "TLS 1.2 and 1.3"),
    ] {
        if let Some(at) = meaning.scalar(Some(block), directive) {
            match meaning.arg(at, 0) {
                "off" => meaning.no_effect(at, text),
                _ => meaning.already(at, text),
            }
        }
    }
}

/// True if nginx verifies the certificates as well.
fn verified(meaning: &mut Meaning<'_>, block: usize, (pass, shown): (usize, &str)) -> bool {
    const ALWAYS: &str = "nginx does not verify the certificate of the server, and here it always is: \
                          if its authority is not one of the system, name it as upstream_ca";
    match meaning.scalar(Some(block), "proxy_ssl_verify") {
        Some(at) if meaning.arg(at, 0) == "on" => {
            meaning.already(at, "certificates of servers are always verified");
            true
        }
        Some(at) => {
            meaning.say(at, Verdict::Unsupported(ALWAYS.to_owned()));
            false
        }
        None => {
            meaning.verdicts[pass] = None;
            meaning.honoured(pass, format!("{shown}; {ALWAYS}"));
            false
        }
    }
}

fn authorities(meaning: &mut Meaning<'_>, block: usize, table: &mut Table) {
    let Some(at) = meaning.scalar(Some(block), "proxy_ssl_trusted_certificate") else {
        return;
    };
    let file = beside_nginx_conf(meaning.arg(at, 0));
    meaning.honoured(at, format!("upstream_ca = {file:?}"));
    table.set("upstream_ca", file);
}

/// The name in the certificate: `$proxy_host` unless there is another.
fn name(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    block: usize,
    (host, is_group): (&str, bool),
    table: &mut Table,
) {
    let Some(at) = meaning.scalar(Some(block), "proxy_ssl_name") else {
        if is_group {
            table.set("upstream_tls_name", host);
        }
        return;
    };
    let name = match meaning.arg(at, 0) {
        "$proxy_host" if is_group => Some(host.to_owned()),
        "$proxy_host" => {
            return meaning.already(at, "the host of the address");
        }
        text => constant(meaning, context.site, block, text).filter(|text| !text.is_empty()),
    };
    match name {
        Some(name) => {
            meaning.honoured(at, format!("upstream_tls_name = {name:?}"));
            table.set("upstream_tls_name", name);
        }
        None => meaning.unsupported(
            at,
            "a name with variables: connections are shared by requests for all hosts, so give one name",
        ),
    }
}

fn own_certificate(meaning: &mut Meaning<'_>, block: usize, table: &mut Table) {
    let cert = meaning.scalar(Some(block), "proxy_ssl_certificate");
    let key = meaning.scalar(Some(block), "proxy_ssl_certificate_key");
    match (cert, key) {
        (Some(cert), Some(key)) => {
            for (at, setting) in [(cert, "upstream_cert"), (key, "upstream_key")] {
                let file = beside_nginx_conf(meaning.arg(at, 0));
                meaning.honoured(at, format!("{setting} = {file:?}"));
                table.set(setting, file);
            }
        }
        (Some(at), None) | (None, Some(at)) => {
            let text = "proxy_ssl_certificate and proxy_ssl_certificate_key belong together";
            meaning.say(at, Verdict::Wrong(text.to_owned()));
        }
        (None, None) => {}
    }
}
