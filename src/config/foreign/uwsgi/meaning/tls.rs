//! Addresses with TLS: `https`, `https2`, `https-socket`, and `http-to-https`, which redirects to them.

use super::Meaning;
use super::addresses::{address, bound};
use crate::config::foreign::Verdict;
use crate::config::foreign::uwsgi::reader::Item;

/// The parts of `https = ADDR,CERT,KEY[,CIPHERS[,CA]]`, or of `https2 = addr=…,cert=…,key=…`.
struct Given {
    address: String,
    certificate: String,
    key: String,
    /// True if clients have to show a certificate.
    checks_clients: bool,
}

pub(super) fn decide(meaning: &mut Meaning<'_>, shared: &[(usize, String)]) {
    for at in meaning.all(&["https", "https2", "https-socket"]) {
        match given(meaning.value(at), meaning.items[at].key == "https2") {
            Some(given) => listen(meaning, at, &given, shared),
            None => {
                let why = "it needs an address, a certificate and a key, as in `ADDR,CERT,KEY`";
                meaning.say(at, Verdict::Wrong(why.to_owned()));
            }
        }
    }
    for at in meaning.all(&["http-to-https"]) {
        redirect(meaning, at);
    }
}

/// True for `https-socket = :$(PORT)`: whatever the variable is, there is no certificate.
pub(super) fn can_never_listen(item: &Item) -> bool {
    let value = item.value.as_deref().unwrap_or_default();
    let is_tls = matches!(&*item.key, "https" | "https2" | "https-socket");
    is_tls && !value.contains(',') && !value.starts_with("$(")
}

fn given(value: &str, is_named: bool) -> Option<Given> {
    let parts: Vec<&str> = value.split(',').collect();
    let part = |name: &str, at: usize| match is_named {
        true => parts.iter().find_map(|part| {
            let (own, value) = part.split_once('=')?;
            (own == name).then_some(value)
        }),
        false => parts.get(at).copied(),
    };
    let text = |name: &str, at: usize| part(name, at).filter(|text| !text.is_empty());
    let authority = text("client_ca", 4).or(text("clientca", 4));
    Some(Given {
        address: text("addr", 0)?.to_owned(),
        certificate: text("cert", 1).or(text("crt", 1))?.to_owned(),
        key: text("key", 2)?.to_owned(),
        checks_clients: authority.is_some_and(|ca| is_named || ca.starts_with('!')),
    })
}

fn listen(meaning: &mut Meaning<'_>, at: usize, given: &Given, shared: &[(usize, String)]) {
    let address = match bound(meaning, at, &given.address, shared) {
        Ok(address) if address.starts_with("unix:") => {
            let why = "TLS is for ports: a Unix socket has none here";
            return meaning.say(at, Verdict::Unsupported(why.to_owned()));
        }
        Ok(address) => format!("https://{address}"),
        Err(problem) => return meaning.say(at, Verdict::Wrong(problem)),
    };
    if meaning.binds.contains(&address) {
        return meaning.no_effect(at, "another line listens there");
    }
    meaning.binds.push(address.clone());
    meaning.append(at, "tls_cert", given.certificate.clone());
    meaning.append(at, "tls_key", given.key.clone());
    meaning.append(at, "bind", address.clone());
    let text = format!("bind = {address:?}, with its tls_cert and tls_key");
    meaning.say(
        at,
        match given.checks_clients {
            true => Verdict::Unsupported(format!(
                "certificates of clients are not checked here, so every client gets in: {text}"
            )),
            false => Verdict::Honoured(text),
        },
    );
}

/// `http-to-https = ADDR`: here, every address without TLS redirects.
fn redirect(meaning: &mut Meaning<'_>, at: usize) {
    let is_tls = |address: &String| address.starts_with("https://");
    if !meaning.binds.iter().any(is_tls) {
        return meaning.no_effect(at, "no line listens with TLS");
    }
    if !meaning.binds.iter().all(is_tls) {
        let why = "`redirect_to_https` is for all addresses without TLS, and another line has one";
        return meaning.say(at, Verdict::Unsupported(why.to_owned()));
    }
    match address(meaning.value(at)) {
        Ok(address) => {
            meaning.append(at, "bind", address.clone());
            meaning.honour(at, "redirect_to_https", vec!["yes".to_owned()]);
            let text = format!("bind = {address:?}, redirect_to_https = true");
            meaning.say(at, Verdict::Honoured(text));
        }
        Err(problem) => meaning.say(at, Verdict::Wrong(problem)),
    }
}
