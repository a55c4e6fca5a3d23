//! The charset of text whose `Content-Type` names none. Pure: fields in, fields out.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};

/// nginx's default `charset_types`.
const TEXT: [&str; 6] = [
    "text/html",
    "text/xml",
    "text/plain",
    "text/vnd.wap.wml",
    "application/javascript",
    "application/rss+xml",
];

/// Names the charset of text, as nginx's `charset` does.
pub(super) fn of_text(status: StatusCode, headers: &mut HeaderMap, charset: &HeaderValue) {
    let is_text = headers.get(CONTENT_TYPE).is_some_and(|kind| {
        let essence = kind.as_bytes().split(|byte| *byte == b';').next();
        let essence = essence.unwrap_or_default().trim_ascii();
        TEXT.iter()
            .any(|text| essence.eq_ignore_ascii_case(text.as_bytes()))
    });
    if is_text {
        name(status, headers, charset);
    }
}

/// nginx, `ngx_http_charset_filter_module`: nothing is added to redirects or without a type. A type
/// that names a charset keeps it: nginx converts the text only if it has a `charset_map` for that.
pub fn name(status: StatusCode, headers: &mut HeaderMap, charset: &HeaderValue) {
    if matches!(status, StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND) {
        return;
    }
    if let Some(kind) = headers.get_mut(CONTENT_TYPE)
        && !kind.is_empty()
        && !is_named(kind.as_bytes())
    {
        let named = [kind.as_bytes(), b"; charset=", charset.as_bytes()].concat();
        if let Ok(named) = HeaderValue::from_bytes(&named) {
            *kind = named;
        }
    }
}

fn is_named(kind: &[u8]) -> bool {
    let parameters = kind.split(|byte| *byte == b';').skip(1);
    parameters.map(<[u8]>::trim_ascii).any(|parameter| {
        let name = parameter.get(..8);
        name.is_some_and(|name| name.eq_ignore_ascii_case(b"charset="))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_without_a_charset_gets_one() {
        let check = |status: u16, kind: &str, expected: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_str(kind).unwrap());
            let charset = HeaderValue::from_static("utf-8");
            of_text(
                StatusCode::from_u16(status).unwrap(),
                &mut headers,
                &charset,
            );
            assert_eq!(headers[CONTENT_TYPE], expected, "{status} {kind}");
        };
        check(200, "text/html", "text/html; charset=utf-8");
        check(404, "Text/Plain ;a=b", "Text/Plain ;a=b; charset=utf-8");
        check(302, "text/html", "text/html");
        check(200, "text/html;Charset=koi8-r", "text/html;Charset=koi8-r");
        check(200, "text/css", "text/css");
        check(200, "application/json", "application/json");
        let mut headers = HeaderMap::new();
        of_text(StatusCode::OK, &mut headers, &HeaderValue::from_static("x"));
        assert!(headers.is_empty());
    }
}
