//! Addresses as uWSGI writes them, and as `bind` takes them.

use std::path::Path;

use super::{Meaning, atoi, has_number};
use crate::config::address::ListenAddress;
use crate::config::foreign::Verdict;

/// Options that listen for HTTP.
pub(super) const HTTP: [&str; 4] = ["http", "httprouter", "http-socket", "http11-socket"];

/// Options that listen for HTTP over TLS.
pub(super) const HTTPS: [&str; 3] = ["https", "https2", "https-socket"];

/// The address that a line names, perhaps by the number of a shared socket.
pub(super) fn bound(
    meaning: &mut Meaning<'_>,
    at: usize,
    given: &str,
    shared: &[(usize, String)],
) -> Result<String, String> {
    let Some(number) = given.strip_prefix('=') else {
        return address(given);
    };
    let number = usize::try_from(atoi(number)).unwrap_or_default();
    let (line, given) = shared
        .get(number)
        .ok_or_else(|| format!("there is no shared socket {number}"))?;
    let text = format!("the address of {}", meaning.items[at].key);
    meaning.say(*line, Verdict::Honoured(text));
    address(given)
}

/// The address as `bind` takes it.
pub(super) fn address(given: &str) -> Result<String, String> {
    let text = written(given)?;
    match ListenAddress::parse(&text, Path::new("/")) {
        Ok(_) => Ok(text),
        Err(invalid) => Err(format!("{} ({})", invalid.problem, invalid.remedy)),
    }
}

/// The address in the form of `bind`.
fn written(given: &str) -> Result<String, String> {
    if given.starts_with('@') || given.starts_with("\\0") {
        return Err("abstract sockets are not supported: name a path or a port".to_owned());
    }
    let Some((host, port)) = given.rsplit_once(':') else {
        // What has no colon is a path.
        return match given {
            "" => Err("no address".to_owned()),
            port if port.bytes().all(|byte| byte.is_ascii_digit()) => Err(format!(
                "without a colon uWSGI takes it for the path of a Unix socket: write :{port}"
            )),
            path => Ok(format!("unix:{path}")),
        };
    };
    // Digits count, what stands behind them does not.
    match atoi(port) {
        number @ 0..=65535 if has_number(port) => Ok(format!("{host}:{number}")),
        _ => Err(format!("no port in {given:?}")),
    }
}
