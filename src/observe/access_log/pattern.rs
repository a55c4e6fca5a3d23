//! Lines of the access log after a pattern of the operator, with the variables of nginx's `log_format`.
//!
//! A pattern that begins with `{` is taken for JSON: values are escaped as nginx's `escape=json` does, and
//! what is not known is empty. In all others values are escaped as `escape=default` does, with a hyphen for
//! what is not known. `${name:-text}` has another text for that. The text around is copied.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Serializer};

use super::{
    AccessLogEntry, LONGEST_AGENT, LONGEST_NAME, LONGEST_REFERER, LONGEST_TARGET, Printable,
    push_escaped, shown,
};
use crate::observe::timestamp::Timestamp;

/// The pattern of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<Part>,
    is_json: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable {
        name: Name,
        /// The text for a value that is not known, in place of the usual one.
        missing: Option<String>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    Known(&'static str),
    /// A variable of the application, without [`OF_APPLICATION`].
    OfApplication(String),
}

/// Begins the names of variables that the application sets (`uwsgi.set_logvar`).
pub const OF_APPLICATION: &str = "logvar_";

/// The names behind `$`.
pub const VARIABLES: &[&str] = &[
    "args",
    "body_bytes_sent",
    "handled_by",
    "host",
    "http_host",
    "http_referer",
    "http_user_agent",
    "msec",
    "remote_addr",
    "remote_user",
    "request",
    "request_id",
    "request_method",
    "request_time",
    "request_time_6",
    "request_time_ms",
    "request_time_s",
    "request_time_us",
    "request_uri",
    "scheme",
    "server_protocol",
    "ssl_cipher",
    "ssl_protocol",
    "status",
    "time_epoch",
    "time_iso8601",
    "time_local",
    "upstream_response_time",
    "uri",
    "worker",
];

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// The name of a variable that does not exist.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            parts.push(Part::Text(rest[..at].to_owned()));
            let behind = &rest[at + 1..];
            let inside = behind.strip_prefix('{');
            let from = inside.unwrap_or(behind);
            let is_end = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
            let name = &from[..from.find(is_end).unwrap_or(from.len())];
            let known = VARIABLES.iter().find(|known| **known == name);
            let own = name.strip_prefix(OF_APPLICATION);
            let found = match (known, own) {
                (Some(known), _) => Name::Known(known),
                (None, Some(own)) if !own.is_empty() => Name::OfApplication(own.to_owned()),
                _ => return Err(name.to_owned()),
            };
            rest = &from[name.len()..];
            let mut missing = None;
            if inside.is_some() {
                let (text, behind) = rest.split_once('}').ok_or_else(|| format!("{{{name}"))?;
                missing = text.strip_prefix(":-").map(str::to_owned);
                if missing.is_none() && !text.is_empty() {
                    return Err(format!("{{{name}"));
                }
                rest = behind;
            }
            parts.push(Part::Variable {
                name: found,
                missing,
            });
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self {
            parts,
            is_json: text.trim_start().starts_with('{'),
        })
    }

    /// The line of a request, with its line feed.
    pub fn line(&self, entry: &AccessLogEntry<'_>) -> Vec<u8> {
        let mut line = Vec::with_capacity(super::LINE);
        for part in &self.parts {
            match part {
                Part::Text(text) => line.extend_from_slice(text.as_bytes()),
                Part::Variable { name, missing } => {
                    let (value, longest) = match name {
                        Name::Known(name) => value(name, entry),
                        Name::OfApplication(name) => {
                            let mut vars = entry.log_vars.iter();
                            let found = vars.find(|(known, _)| **known == *name.as_bytes());
                            let value = found.map(|(_, value)| value.to_vec());
                            (value.unwrap_or_default(), LONGEST_TARGET)
                        }
                    };
                    match missing.as_ref().filter(|_| value.is_empty()) {
                        Some(text) => line.extend_from_slice(text.as_bytes()),
                        None => self.push(&mut line, &value, longest),
                    }
                }
            }
        }
        line.push(b'\n');
        line
    }

    fn push(&self, line: &mut Vec<u8>, value: &[u8], longest: usize) {
        match self.is_json {
            true => push_json(line, value, longest),
            false => push_escaped(line, value, longest),
        }
    }
}

/// The value of a variable, empty if it is not known, and the longest that is logged.
fn value(name: &str, entry: &AccessLogEntry<'_>) -> (Vec<u8>, usize) {
    let path_end = entry.target.iter().position(|byte| *byte == b'?');
    let (path, query) = match path_end {
        Some(at) => (&entry.target[..at], &entry.target[at + 1..]),
        None => (entry.target, &b""[..]),
    };
    let text = |text: String| (text.into_bytes(), LONGEST_NAME);
    let named = |text: Option<&[u8]>| (text.unwrap_or_default().to_vec(), LONGEST_NAME);
    let time = || Timestamp::from(entry.time);
    match name {
        "args" => (query.to_vec(), LONGEST_TARGET),
        "body_bytes_sent" => text(entry.bytes.to_string()),
        "handled_by" => {
            let word = serde_json::to_string(&entry.handled_by).unwrap_or_default();
            text(word.trim_matches('"').to_owned())
        }
        "host" | "http_host" => named(entry.host),
        "http_referer" => (entry.referer.unwrap_or_default().to_vec(), LONGEST_REFERER),
        "http_user_agent" => (entry.user_agent.unwrap_or_default().to_vec(), LONGEST_AGENT),
        "msec" => {
            let since = entry.time.duration_since(std::time::UNIX_EPOCH);
            text(in_seconds(since.unwrap_or_default()))
        }
        "remote_addr" => text(match entry.remote {
            Some(address) => address.to_string(),
            None => "unix:".to_owned(),
        }),
        "remote_user" => named(entry.user),
        "request" if entry.protocol.is_empty() => (Vec::new(), LONGEST_TARGET),
        "request" => {
            let words = [entry.method, entry.target, entry.protocol.as_bytes()];
            (words.join(&b' '), LONGEST_TARGET + LONGEST_NAME)
        }
        "request_id" => text(entry.request_id.to_owned()),
        "request_method" => named(Some(entry.method)),
        "request_time" => text(in_seconds(entry.duration)),
        "request_time_6" => text(format!(
            "{}.{:06}",
            entry.duration.as_secs(),
            entry.duration.subsec_micros()
        )),
        "request_time_s" => text(entry.duration.as_secs().to_string()),
        "request_time_ms" => text(entry.duration.as_millis().to_string()),
        "request_time_us" => text(entry.duration.as_micros().to_string()),
        "request_uri" => (entry.target.to_vec(), LONGEST_TARGET),
        "scheme" => text(match entry.tls {
            Some(_) => "https".to_owned(),
            None => "http".to_owned(),
        }),
        "ssl_cipher" => named(entry.tls.as_ref().map(|tls| tls.cipher.as_bytes())),
        "ssl_protocol" => named(entry.tls.as_ref().map(|tls| tls.protocol.as_bytes())),
        "server_protocol" => text(entry.protocol.to_owned()),
        "status" => text(entry.status.to_string()),
        "time_epoch" => {
            let since = entry.time.duration_since(std::time::UNIX_EPOCH);
            text(since.unwrap_or_default().as_secs().to_string())
        }
        "time_iso8601" => text(time().rfc_3339()),
        "time_local" => text(time().common_log()),
        "upstream_response_time" => text(entry.app.map(in_seconds).unwrap_or_default()),
        "uri" => (path.to_vec(), LONGEST_TARGET),
        _ => text(
            entry
                .worker
                .map(|worker| worker.to_string())
                .unwrap_or_default(),
        ),
    }
}

/// `1.234`.
fn in_seconds(duration: Duration) -> String {
    let mut text = String::new();
    let _infallible = write!(
        text,
        "{}.{:03}",
        duration.as_secs(),
        duration.subsec_millis()
    );
    text
}

/// The text of a JSON string, without its quotes.
fn push_json(line: &mut Vec<u8>, value: &[u8], longest: usize) {
    let mut quoted = Vec::with_capacity(value.len() + 2);
    let mut serializer = Serializer::with_formatter(&mut quoted, Printable(CompactFormatter));
    shown(value, longest)
        .serialize(&mut serializer)
        .expect("a text, written to memory");
    line.extend_from_slice(&quoted[1..quoted.len() - 1]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::access_log::LogVars;
    use crate::observe::access_log::TlsSession;
    use crate::observe::handled_by::HandledBy;
    use proptest::prelude::*;

    fn entry<'a>(target: &'a [u8], agent: &'a [u8]) -> AccessLogEntry<'a> {
        AccessLogEntry {
            remote: Some("192.0.2.1".parse().unwrap()),
            time: std::time::UNIX_EPOCH + Duration::from_millis(1_500_000_000_250),
            method: b"GET",
            target,
            protocol: "HTTP/1.1",
            tls: Some(TlsSession {
                protocol: "TLSv1.3",
                cipher: "TLS_AES_128_GCM_SHA256",
            }),
            status: 404,
            bytes: 12,
            referer: None,
            user_agent: Some(agent),
            user: None,
            host: Some(b"example.com"),
            request_id: "abc",
            duration: Duration::from_micros(1_234_567),
            queue: None,
            app: Some(Duration::from_millis(20)),
            worker: Some(3),
            handled_by: HandledBy::default(),
            log_vars: &[],
        }
    }

    fn line(pattern: &str, entry: &AccessLogEntry<'_>) -> String {
        String::from_utf8(Pattern::parse(pattern).unwrap().line(entry)).unwrap()
    }

    #[test]
    fn variables_have_the_values_that_nginx_gives_them() {
        let entry = entry(b"/a?b=1", b"x\"y");
        let check = |pattern: &str, expected: &str| {
            assert_eq!(line(pattern, &entry), format!("{expected}\n"), "{pattern}");
        };
        check(
            "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \"$http_referer\" \"$http_user_agent\"",
            "192.0.2.1 - - [14/Jul/2017:02:40:00 +0000] \"GET /a?b=1 HTTP/1.1\" 404 12 \"-\" \"x\\x22y\"",
        );
        check("$time_epoch", "1500000000");
        check("$logvar_plan", "-");
        let vars: LogVars = vec![(b"plan"[..].into(), b"gold \"x\""[..].into())];
        let entry = AccessLogEntry {
            log_vars: &vars,
            ..entry.clone()
        };
        for (pattern, expected) in [
            ("$logvar_plan/${logvar_other}", "gold \\x22x\\x22/-\n"),
            (
                "{\"plan\": \"$logvar_plan\"}",
                "{\"plan\": \"gold \\\"x\\\"\"}\n",
            ),
        ] {
            assert_eq!(line(pattern, &entry), expected);
        }
        check(
            "$scheme $ssl_protocol $ssl_cipher",
            "https TLSv1.3 TLS_AES_128_GCM_SHA256",
        );
        check("$uri $args $request_uri ${status}x", "/a b=1 /a?b=1 404x");
        check(
            "$request_time $request_time_ms $request_time_us $request_time_s $request_time_6",
            "1.234 1234 1234567 1 1.234567",
        );
        check(
            "${http_referer} ${http_referer:-} ${http_referer:-none} ${status:-none}",
            "-  none 404",
        );
        check("{\"a\": \"${remote_user:--}\"}", "{\"a\": \"-\"}");
        check(
            "$msec $upstream_response_time $worker",
            "1500000000.250 0.020 3",
        );
        check(
            "{\"agent\": \"$http_user_agent\", \"referer\": \"$http_referer\", \"status\": $status}",
            "{\"agent\": \"x\\\"y\", \"referer\": \"\", \"status\": 404}",
        );
    }

    #[test]
    fn a_variable_that_does_not_exist_is_named() {
        for (pattern, expected) in [
            ("$a", "a"),
            ("$", ""),
            ("${status", "{status"),
            ("${status:}", "{status"),
            ("${status:-", "{status"),
            ("$statusx", "statusx"),
            ("$logvar_", "logvar_"),
        ] {
            assert_eq!(
                Pattern::parse(pattern),
                Err(expected.to_owned()),
                "{pattern}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_line_of_json_is_json_for_any_bytes(target in prop::collection::vec(any::<u8>(), 0..60), agent in prop::collection::vec(any::<u8>(), 0..60)) {
            let entry = entry(&target, &agent);
            let text = line("{\"a\": \"$request_uri\", \"b\": \"$http_user_agent\"}", &entry);
            prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
            prop_assert_eq!(text.matches('\n').count(), 1);
        }
    }
}
