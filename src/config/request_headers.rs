//! Changes of header fields of requests before an application or server gets them: `request_header`
//! in `[[location]]` (nginx: `proxy_set_header`).

use http::header::{self, HeaderName};

use super::error::{Invalid, invalid};
use super::response_rules::{HeaderChange, HeaderRule, header_name, header_value};

/// Fields that frame a message, belong to one connection, or say who the client is.
const REFUSED: [HeaderName; 16] = [
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
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-request-id"),
];

const REMEDY: &str = "give `NAME: VALUE`, `add NAME: VALUE` or `remove NAME`";

/// Reads `[set|add|remove] NAME: VALUE`.
///
/// # Errors
/// [`Invalid`] for anything else, and for fields that only the server may set.
pub fn parse(text: &str) -> Result<HeaderRule, Invalid> {
    let (action, field) = match text.trim().split_once([' ', '\t']) {
        Some((action @ ("set" | "add" | "remove"), field)) => (action, field.trim()),
        _ => ("set", text.trim()),
    };
    if action == "remove" {
        return Ok(HeaderRule {
            name: name(field)?,
            change: HeaderChange::Remove,
            always: true,
        });
    }
    let (field, value) = field
        .split_once(':')
        .ok_or_else(|| invalid("no `:` between name and value", REMEDY))?;
    let (name, value) = (name(field.trim())?, header_value(value.trim(), REMEDY)?);
    Ok(HeaderRule {
        name,
        change: match action {
            "add" => HeaderChange::Add(value),
            _ => HeaderChange::Set(value),
        },
        always: true,
    })
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
            "X-Forwarded-For: 1.2.3.4",
            "a b: c",
            "X_Y: z",
            "X: a\nb",
            "Content-Length: 3",
            "always set X: y",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "(set |add |remove )?\\PC{0,12}(: ?)?\\PC{0,12}") {
            let _read = parse(&text);
        }
    }
}
