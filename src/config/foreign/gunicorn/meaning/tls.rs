//! TLS: the settings that name a certificate and its key, and the scheme of the addresses, all of which
//! have TLS in gunicorn where there is a certificate.

use super::Meaning;
use crate::config::foreign::Verdict;

/// The addresses with their scheme. Unix sockets stay as they are: a proxy on this machine is behind them.
pub(super) fn with_scheme(meaning: &Meaning<'_>, addresses: Vec<String>) -> Vec<String> {
    let has_tls = meaning.given("certfile").is_some();
    let scheme = |address: String| match has_tls && !address.starts_with("unix:") {
        true => format!("https://{address}"),
        false => address,
    };
    addresses.into_iter().map(scheme).collect()
}

/// gunicorn's own address, if none is given and it has TLS.
pub(super) fn bind_of_default(meaning: &mut Meaning<'_>) {
    if meaning.given("certfile").is_none() || meaning.draft.layer.entry("bind").is_some() {
        return;
    }
    let port = meaning.around.environment.variable("PORT");
    let address = match port {
        Some(port) => format!("https://0.0.0.0:{}", port.to_string_lossy()),
        None => "https://127.0.0.1:8000".to_owned(),
    };
    let reason = "gunicorn listens there, with TLS because of `certfile`";
    meaning.imply("bind", &[&address], reason);
}

pub(super) fn decide(meaning: &mut Meaning<'_>) {
    clients(meaning);
    let certificate = meaning.given("certfile");
    if let Some((at, value)) = &certificate {
        meaning.set(*at, "tls_cert", value.texts());
    }
    match (meaning.given("keyfile"), certificate) {
        (Some((at, _)), None) => meaning.no_effect(at, "there is no `certfile`, so no TLS"),
        (Some((at, value)), Some(_)) => meaning.set(at, "tls_key", value.texts()),
        (None, Some((_, value))) => {
            let file = value.text().unwrap_or_default();
            let reason = "the key is in the file of the certificate";
            meaning.imply("tls_key", &[&file], reason);
        }
        (None, None) => {}
    }
}

/// Certificates of clients: `cert_reqs` is 0 for none, 1 for those that are sent, 2 for all (Python's
/// `ssl.VerifyMode`).
fn clients(meaning: &mut Meaning<'_>) {
    let has_tls = meaning.given("certfile").is_some();
    let authorities = meaning.given("ca_certs");
    let requests = meaning.given("cert_reqs");
    let required = requests.as_ref().map_or(0, |(_, value)| value.number());
    let missing = match (has_tls, &authorities) {
        (false, _) => Some("there is no `certfile`, so no TLS"),
        (true, None) => Some("there is no `ca_certs` that clients could be checked by"),
        (true, Some(_)) => None,
    };
    if let Some((at, _)) = requests {
        match (missing, required) {
            (_, 0) => meaning.already(at, "clients are asked for no certificate"),
            (Some(why), 1) => meaning.no_effect(at, why),
            // Every client is refused there: nobody may be let in here.
            (Some(why), _) => meaning.say(at, Verdict::Wrong(why.to_owned())),
            (None, mode) => {
                let mode = if mode == 1 { "optional" } else { "required" };
                meaning.set(at, "tls_client_auth", vec![mode.to_owned()]);
            }
        }
    }
    if let Some((at, value)) = authorities {
        match (missing, required) {
            (Some(why), _) => meaning.no_effect(at, why),
            (None, 0) => meaning.no_effect(at, "`cert_reqs` asks clients for no certificate"),
            (None, _) => meaning.set(at, "tls_client_ca", value.texts()),
        }
    }
}
