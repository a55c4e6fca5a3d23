//! Changes of header fields of requests before an application or server gets them: `request_header`
//! in `[[location]]` (nginx: `proxy_set_header`).

use http::HeaderValue;
use http::header::{self, HeaderName};

use super::error::{Invalid, invalid};
use super::response_rules::{header_name, header_value};

/// A change of one header field of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeaderRule {
    /// The field.
    pub name: HeaderName,
    /// The change.
    pub change: RequestHeaderChange,
}

/// The change of a header field of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestHeaderChange {
    /// Replaces all fields of the name; an empty value removes them.
    Set(RequestValue),
    /// Appends a field, beside others of the name.
    Add(RequestValue),
    /// Removes all fields of the name.
    Remove,
}

/// The value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestValue {
    /// The same for every request.
    Text(HeaderValue),
    /// Made for each request of these parts.
    Made(Vec<ValuePart>),
}

/// A part of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValuePart {
    /// This text.
    Text(String),
    /// A fact about the request.
    Fact(RequestFact),
}

/// A fact about a request, which its name in braces stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestFact {
    /// `{client}`: the client's address; nothing over a Unix socket.
    Client,
    /// `{scheme}`: `http` or `https`.
    Scheme,
    /// `{host}`: the requested host in lower case, without its port.
    Host,
    /// `{authority}`: the requested host as the client wrote it, with its port if it gave one.
    Authority,
    /// `{port}`: the port that the client connected to.
    Port,
    /// `{target}`: path and query as the client sent them.
    Target,
    /// `{request_id}`: the request's id.
    RequestId,
    /// `{forwarded_for}`: the `X-Forwarded-For` of trusted proxies, and behind it the client's address.
    ForwardedFor,
}

/// The names of the facts in a value.
const FACTS: [(&str, RequestFact); 8] = [
    ("{client}", RequestFact::Client),
    ("{scheme}", RequestFact::Scheme),
    ("{host}", RequestFact::Host),
    ("{authority}", RequestFact::Authority),
    ("{port}", RequestFact::Port),
    ("{target}", RequestFact::Target),
    ("{request_id}", RequestFact::RequestId),
    ("{forwarded_for}", RequestFact::ForwardedFor),
];

/// Fields that frame a message, belong to one connection, or say who the client is.
const REFUSED: [HeaderName; 12] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::FORWARDED,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("x-request-id"),
];

/// The host that the client asked for, which servers get beside `Host`.
pub const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The addresses that servers get.
pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The scheme that servers get.
pub const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The port that servers get.
pub const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");

/// The fields that every server gets in any case, so that they have one value.
const STATED: [HeaderName; 4] = [
    FORWARDED_HOST,
    FORWARDED_FOR,
    FORWARDED_PROTO,
    FORWARDED_PORT,
];

const REMEDY: &str = "give `NAME: VALUE`, `add NAME: VALUE` or `remove NAME`";

/// Reads `[set|add|remove] NAME: VALUE`, where the value may have names of [`RequestFact`]. Other
/// braces are text.
///
/// # Errors
/// [`Invalid`] for anything else, and for fields that only the server may set.
pub fn parse(text: &str) -> Result<RequestHeaderRule, Invalid> {
    let (action, field) = match text.trim().split_once([' ', '\t']) {
        Some((action @ ("set" | "add" | "remove"), field)) => (action, field.trim()),
        _ => ("set", text.trim()),
    };
    if action == "remove" {
        // Without it, a server is not asked to switch protocols, such as to WebSocket.
        let is_upgrade = field.eq_ignore_ascii_case(header::UPGRADE.as_str());
        return Ok(RequestHeaderRule {
            name: match is_upgrade {
                true => header::UPGRADE,
                false => name(field)?,
            },
            change: RequestHeaderChange::Remove,
        });
    }
    let (field, given) = field
        .split_once(':')
        .ok_or_else(|| invalid("no `:` between name and value", REMEDY))?;
    let (name, value) = (name(field.trim())?, value(given.trim())?);
    if action == "add" && STATED.contains(&name) {
        return Err(invalid(format!("{name} has one value"), "remove `add`"));
    }
    Ok(RequestHeaderRule {
        name,
        change: match action {
            "add" => RequestHeaderChange::Add(value),
            _ => RequestHeaderChange::Set(value),
        },
    })
}

/// True if a text has the name of a fact in braces.
pub fn has_fact(text: &str) -> bool {
    FACTS.iter().any(|(name, _)| text.contains(name))
}

fn value(text: &str) -> Result<RequestValue, Invalid> {
    let whole = header_value(text, REMEDY)?;
    let mut parts = Vec::new();
    let mut rest = text;
    let first = |rest: &str| {
        let all = FACTS.iter();
        all.filter_map(|(name, fact)| Some((rest.find(name)?, *name, *fact)))
            .min_by_key(|(at, _, _)| *at)
    };
    while let Some((at, name, fact)) = first(rest) {
        if at > 0 {
            parts.push(ValuePart::Text(rest[..at].to_owned()));
        }
        parts.push(ValuePart::Fact(fact));
        rest = &rest[at + name.len()..];
    }
    if parts.is_empty() {
        return Ok(RequestValue::Text(whole));
    }
    if !rest.is_empty() {
        parts.push(ValuePart::Text(rest.to_owned()));
    }
    Ok(RequestValue::Made(parts))
}

fn name(text: &str) -> Result<HeaderName, Invalid> {
    let name = header_name(text, REMEDY)?;
    if REFUSED.contains(&name) {
        let problem = format!("{text} is set by the server for each request");
        return Err(invalid(problem, "remove it"));
    }
    // CGI has one name for both, so such fields are never passed on.
    match name.as_str().contains('_') {
        true => Err(invalid(
            "names with an underscore are not passed on",
            "give it a dash",
        )),
        false => Ok(name),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_of_requests_are_read_or_refused_with_a_remedy() {
        for text in [
            "X-Script-Name: /shop",
            "set X-Script-Name: /shop",
            "add X-Tag: a: b",
            "remove Cookie",
            "Authorization: Basic eA==",
            "X-Real-IP: {client}",
            "X-Json: {\"a\": 1}",
            "X-Forwarded-Host: a.example",
            "X-Forwarded-For: {forwarded_for}",
            "remove X-Forwarded-For",
            "X-Forwarded-Proto: {scheme}",
            "X-Forwarded-Port: 443",
            "remove Upgrade",
        ] {
            assert!(parse(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "X",
            "X:",
            "remove",
            "remove Host",
            "Host: x",
            "add X-Forwarded-For: 1.2.3.4",
            "add X-Forwarded-Proto: https",
            "add X-Forwarded-Host: a",
            "Upgrade: websocket",
            "a b: c",
            "X_Y: z",
            "X: a\nb",
            "Content-Length: 3",
            "always set X: y",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn facts_stand_between_texts_and_other_braces_are_text() {
        let check = |text: &str, expected: &[ValuePart]| match parse(text).unwrap().change {
            RequestHeaderChange::Set(RequestValue::Made(parts)) => assert_eq!(parts, expected),
            other => assert!(expected.is_empty(), "{text}: {other:?}"),
        };
        let text = |text: &str| ValuePart::Text(text.to_owned());
        let fact = ValuePart::Fact;
        check("X-Real-IP: {client}", &[fact(RequestFact::Client)]);
        check(
            "X-Url: {scheme}://{host}:{port}{target}!",
            &[
                fact(RequestFact::Scheme),
                text("://"),
                fact(RequestFact::Host),
                text(":"),
                fact(RequestFact::Port),
                fact(RequestFact::Target),
                text("!"),
            ],
        );
        check(
            "X-A: {a}{{client}",
            &[text("{a}{"), fact(RequestFact::Client)],
        );
        check("X-Json: {\"client\": 1}", &[]);
        assert!(has_fact("{host}") && !has_fact("{hosts} host"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "(set |add |remove )?\\PC{0,12}(: ?)?(\\PC|[{]client[}]){0,12}") {
            let _read = parse(&text);
        }
    }
}
