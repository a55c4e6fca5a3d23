//! The CGI variables of a request (RFC 3875 §4.1, PEP 3333 "environ Variables"), encoded as every
//! upstream takes them.
//!
//! Only this file maps header names to variable names: a field becomes `HTTP_…` and nothing else,
//! whatever its name is.

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::ffi::OsStrExt;
use std::time::SystemTime;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, HeaderName, TRANSFER_ENCODING};
use http::{HeaderValue, Version, request};
use percent_encoding::percent_decode_str;
use pyserve_wire::frames::REQUEST_HEADER;
use pyserve_wire::vars;

use crate::config::Scheme;
use crate::config::request_headers::FORWARDED_PROTO;
use crate::front::context::{Client, RequestFacts, Stated, host_without_port, is_plain};
use crate::front::error::Rejection;
use crate::front::tls::facts::{ClientFacts, TlsFacts, VerifiedClient};

/// The scheme for the application: one that the settings state in `X-Forwarded-Proto`, which servers behind a
/// proxy believe it, comes before that of the client.
fn scheme(head: &request::Parts, client: &Client) -> Scheme {
    let is_stated = head
        .extensions
        .get::<Stated>()
        .is_some_and(|stated| stated.scheme);
    let value = head.headers.get(FORWARDED_PROTO).filter(|_| is_stated);
    match value.map(HeaderValue::as_bytes) {
        Some(b"https") => Scheme::Https,
        Some(b"http") => Scheme::Http,
        _ => client.scheme,
    }
}

/// Builds a message: room for the upstream's header, then the variables.
///
/// # Errors
/// [`Rejection`] if a value does not fit the encoding, which the limit on heads prevents.
pub fn build(head: &request::Parts, facts: &RequestFacts<'_>) -> Result<Vec<u8>, Rejection> {
    let mut block = Block(Vec::with_capacity(1024));
    block.0.resize(REQUEST_HEADER, 0);
    let target = head
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    block.push(b"REQUEST_METHOD", head.method.as_str().as_bytes())?;
    block.script_name(&facts.client.prefix, facts.mount)?;
    block.path(facts)?;
    block.push(
        b"QUERY_STRING",
        head.uri.query().unwrap_or_default().as_bytes(),
    )?;
    block.push(b"REQUEST_URI", target.as_bytes())?;
    block.push(b"RAW_URI", target.as_bytes())?;
    block.push(b"SERVER_PROTOCOL", protocol(head.version).as_bytes())?;
    let scheme = scheme(head, facts.client);
    block.push(b"REQUEST_SCHEME", scheme.as_str().as_bytes())?;
    if scheme == Scheme::Https {
        block.push(b"HTTPS", b"on")?;
    }
    if let Some(tls) = facts.tls {
        block.session(tls)?;
    }
    block.server(facts)?;
    block.remote(facts.client)?;
    if let Some(user) = &facts.client.user {
        // RFC 3875 §4.1.1, §4.1.11.
        block.push(b"AUTH_TYPE", b"Basic")?;
        block.push(b"REMOTE_USER", user)?;
    }
    if let Some(value) = head.headers.get(CONTENT_TYPE) {
        block.push(b"CONTENT_TYPE", value.as_bytes())?;
    }
    if let Some(length) = facts.body_length {
        block.push(
            b"CONTENT_LENGTH",
            itoa::Buffer::new().format(length).as_bytes(),
        )?;
    }
    if !facts.client.host.is_empty() {
        block.push(b"HTTP_HOST", facts.client.host.as_bytes())?;
    }
    block.push(b"HTTP_X_REQUEST_ID", facts.request_id.as_bytes())?;
    block.fields(head)?;
    for (name, value) in facts.variables {
        block.push(name.as_bytes(), value.as_bytes())?;
    }
    Ok(block.0)
}

/// The protocol as CGI writes it.
pub fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

/// Room for the text of an IPv4 address. The standard library's formatter takes 0.1 µs for it.
#[derive(Default)]
struct DottedAddress([u8; 15]);

impl DottedAddress {
    fn of(&mut self, address: Ipv4Addr) -> &[u8] {
        let mut length = 0;
        for (at, octet) in address.octets().into_iter().enumerate() {
            if at > 0 {
                self.0[length] = b'.';
                length += 1;
            }
            let mut digits = itoa::Buffer::new();
            let digits = digits.format(octet).as_bytes();
            self.0[length..length + digits.len()].copy_from_slice(digits);
            length += digits.len();
        }
        &self.0[..length]
    }
}

struct Block(Vec<u8>);

impl Block {
    fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), Rejection> {
        vars::push(&mut self.0, key, value)
            .map_err(|_too_long| Rejection::BadRequest("a header field is too long"))
    }

    /// RFC 3875 §4.1.13: the prefix that a proxy has removed, then the location's prefix.
    fn script_name(&mut self, removed: &str, mount: &str) -> Result<(), Rejection> {
        match (removed, mount) {
            (removed, "") => self.push(b"SCRIPT_NAME", removed.as_bytes()),
            ("", mount) => self.push(b"SCRIPT_NAME", mount.as_bytes()),
            both => self.push(b"SCRIPT_NAME", [both.0, both.1].concat().as_bytes()),
        }
    }

    /// PEP 3333 and RFC 3875 §4.1.5: decoded once; `%2F` becomes `/`, other bytes stay as they are.
    /// `REQUEST_URI` keeps the raw form. Empty only for the mount itself.
    fn path(&mut self, facts: &RequestFacts<'_>) -> Result<(), Rejection> {
        let raw = match facts.path {
            "" if facts.mount.is_empty() => "/",
            path => path,
        };
        let decoded: std::borrow::Cow<'_, [u8]> = percent_decode_str(raw).into();
        if decoded.contains(&0) {
            return Err(Rejection::BadRequest("the path contains a NUL"));
        }
        self.push(b"PATH_INFO", &decoded)
    }

    /// The variables of mod_ssl, which nginx has under the same names in small letters. Those of the
    /// client's own connection: a proxy that forwards `https` has no session with us.
    fn session(&mut self, tls: &TlsFacts) -> Result<(), Rejection> {
        self.push(b"SSL_PROTOCOL", tls.protocol.as_bytes())?;
        self.push(b"SSL_CIPHER", tls.cipher.as_bytes())?;
        if let Some(name) = &tls.server_name {
            self.push(b"SSL_SERVER_NAME", name.as_bytes())?;
        }
        match &tls.client {
            None => Ok(()),
            Some(ClientFacts::Without) => self.push(b"SSL_CLIENT_VERIFY", b"NONE"),
            Some(ClientFacts::Verified(client)) => self.verified_client(client),
        }
    }

    fn verified_client(&mut self, client: &VerifiedClient) -> Result<(), Rejection> {
        let certificate = &client.certificate;
        let left = certificate.days_left(SystemTime::now()).to_string();
        let pem = client.pem.iter();
        let pem = pem.map(|pem| (&b"SSL_CLIENT_CERT"[..], pem));
        let facts = [
            (&b"SSL_CLIENT_S_DN"[..], &certificate.subject),
            (b"SSL_CLIENT_I_DN", &certificate.issuer),
            // nginx and mod_ssl have different names for it.
            (b"SSL_CLIENT_SERIAL", &certificate.serial),
            (b"SSL_CLIENT_M_SERIAL", &certificate.serial),
            (b"SSL_CLIENT_V_START", &client.begin),
            (b"SSL_CLIENT_V_END", &client.end),
            (b"SSL_CLIENT_V_REMAIN", &left),
            (b"SSL_CLIENT_FINGERPRINT", &client.fingerprint),
        ];
        self.push(b"SSL_CLIENT_VERIFY", b"SUCCESS")?;
        for (name, value) in facts.into_iter().chain(pem) {
            self.push(name, value.as_bytes())?;
        }
        Ok(())
    }

    /// RFC 3875 §4.1.14, §4.1.15. Neither is ever empty, not even on a Unix socket.
    fn server(&mut self, facts: &RequestFacts<'_>) -> Result<(), Rejection> {
        let name = host_without_port(&facts.client.host);
        if name.is_empty() {
            let name = facts.ends.local.map_or_else(
                || "localhost".to_owned(),
                |local| local.ip().to_canonical().to_string(),
            );
            self.push(b"SERVER_NAME", name.as_bytes())?;
        } else {
            self.push(b"SERVER_NAME", name.as_bytes())?;
        }
        let port = facts.client.server_port;
        self.push(b"SERVER_PORT", itoa::Buffer::new().format(port).as_bytes())
    }

    /// RFC 3875 §4.1.8 requires the address even where the peer on a Unix socket has none. A port
    /// that no proxy has forwarded is left out.
    fn remote(&mut self, client: &Client) -> Result<(), Rejection> {
        let Some(address) = client.address else {
            return self.push(b"REMOTE_ADDR", b"");
        };
        match address {
            IpAddr::V4(address) => {
                let mut text = DottedAddress::default();
                self.push(b"REMOTE_ADDR", text.of(address))?;
            }
            IpAddr::V6(address) => self.push(b"REMOTE_ADDR", address.to_string().as_bytes())?,
        }
        match client.port {
            Some(port) => self.push(b"REMOTE_PORT", itoa::Buffer::new().format(port).as_bytes()),
            None => Ok(()),
        }
    }

    fn fields(&mut self, head: &request::Parts) -> Result<(), Rejection> {
        let mut key = Vec::with_capacity(64);
        for name in head.headers.keys() {
            if !becomes_variable(name) {
                continue;
            }
            key.clear();
            key.extend_from_slice(b"HTTP_");
            key.extend(name.as_str().bytes().map(|byte| match byte {
                b'-' => b'_',
                byte => byte.to_ascii_uppercase(),
            }));
            let mut values = head.headers.get_all(name).iter();
            let first = values.next().map_or(&b""[..], |value| value.as_bytes());
            let mut rest = values.peekable();
            if rest.peek().is_none() {
                self.push(&key, first)?;
                continue;
            }
            // RFC 9110 §5.3, and RFC 6265 §5.4 for cookies.
            let separator: &[u8] = if name == COOKIE { b"; " } else { b"," };
            let mut joined = first.to_vec();
            for value in rest {
                joined.extend_from_slice(separator);
                joined.extend_from_slice(value.as_bytes());
            }
            self.push(&key, &joined)?;
        }
        Ok(())
    }
}

/// Fields that have a variable of their own, or that are no longer true once the body has been
/// read, do not become `HTTP_…`. Nor do names with anything but letters, digits and hyphens:
/// `X_Forwarded_For` and `X-Forwarded-For` would become the same variable (nginx:
/// `underscores_in_headers off`, `ignore_invalid_headers on`).
fn becomes_variable(name: &HeaderName) -> bool {
    const OWN: [HeaderName; 4] = [CONTENT_TYPE, CONTENT_LENGTH, HOST, TRANSFER_ENCODING];
    !OWN.contains(name) && name != "x-request-id" && is_plain(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::context::Endpoints;
    use http::Request;
    use std::collections::HashMap;

    fn built(request: request::Builder, ends: Endpoints, host: &str) -> HashMap<String, String> {
        let (head, ()) = request.body(()).unwrap().into_parts();
        let mut client = Client::direct(&ends);
        host.clone_into(&mut client.host);
        let facts = RequestFacts {
            ends: &ends,
            tls: None,
            client: &client,
            mount: "",
            path: head.uri.path(),
            normal_path: false,
            request_id: "id",
            body_length: None,
            variables: &[],
        };
        let message = build(&head, &facts).unwrap();
        vars::pairs(&message[REQUEST_HEADER..])
            .map(|pair| {
                let (key, value) = pair.unwrap();
                let text = |bytes: &[u8]| bytes.iter().map(|byte| char::from(*byte)).collect();
                (text(key), text(value))
            })
            .collect()
    }

    #[test]
    fn the_path_is_decoded_once_and_the_raw_form_kept() {
        let environ = built(
            Request::get("/caf%C3%A9%2Fa;b+c//d%252e?q=%20"),
            Endpoints::default(),
            "",
        );
        assert_eq!(environ["PATH_INFO"], "/caf\u{c3}\u{a9}/a;b+c//d%2e");
        assert_eq!(environ["REQUEST_URI"], "/caf%C3%A9%2Fa;b+c//d%252e?q=%20");
        assert_eq!(environ["QUERY_STRING"], "q=%20");
        assert_eq!(environ["SCRIPT_NAME"], "");
    }

    #[test]
    fn an_application_below_a_prefix_sees_it_apart_from_its_path() {
        let (head, ()) = Request::get("/sh%6Fp/caf%C3%A9?q")
            .body(())
            .unwrap()
            .into_parts();
        let mut client = Client::direct(&Endpoints::default());
        let check = |client: &Client, mount: &str, path: &str, expected: [&str; 2]| {
            let facts = RequestFacts {
                ends: &Endpoints::default(),
                tls: None,
                client,
                mount,
                path,
                normal_path: false,
                request_id: "",
                body_length: None,
                variables: &[],
            };
            let message = build(&head, &facts).unwrap();
            let value = |name: &str| {
                let mut pairs = vars::pairs(&message[REQUEST_HEADER..]).map(Result::unwrap);
                let pair = pairs.find(|(key, _)| *key == name.as_bytes());
                String::from_utf8(pair.unwrap().1.to_vec()).unwrap()
            };
            assert_eq!([value("SCRIPT_NAME"), value("PATH_INFO")], expected);
            assert_eq!(value("REQUEST_URI"), "/sh%6Fp/caf%C3%A9?q");
        };
        check(&client, "/shop", "/caf%C3%A9", ["/shop", "/café"]);
        check(&client, "/shop", "", ["/shop", ""]);
        check(&client, "/shop", "%2Fa", ["/shop", "/a"]);
        check(&client, "", "", ["", "/"]);
        client.prefix = "/outer".to_owned();
        check(&client, "/café", "/a", ["/outer/café", "/a"]);
        check(&client, "", "/a", ["/outer", "/a"]);
    }

    #[test]
    fn only_plain_names_become_variables_and_duplicates_are_joined() {
        let request = Request::get("/")
            .header("x_forwarded_for", "1.2.3.4")
            .header("x.y", "dot")
            .header("content-type", "a/b")
            .header("content-length", "7")
            .header("x-a", "1")
            .header("x-a", "2")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("transfer-encoding", "chunked");
        let environ = built(request, Endpoints::default(), "h:1");
        assert_eq!(environ["HTTP_X_A"], "1,2");
        assert_eq!(environ["HTTP_COOKIE"], "a=1; b=2");
        assert_eq!(environ["CONTENT_TYPE"], "a/b");
        assert_eq!(environ["HTTP_HOST"], "h:1");
        for absent in [
            "HTTP_X_FORWARDED_FOR",
            "HTTP_X.Y",
            "HTTP_CONTENT_TYPE",
            "HTTP_CONTENT_LENGTH",
            "HTTP_TRANSFER_ENCODING",
            "CONTENT_LENGTH",
        ] {
            assert!(!environ.contains_key(absent), "{absent}");
        }
    }

    #[test]
    fn addresses_come_apart_and_are_never_empty_where_they_must_not_be() {
        let ends = Endpoints {
            peer: Some("[::ffff:10.1.2.3]:4444".parse().unwrap()),
            local: Some("[::1]:8000".parse().unwrap()),
            ..Endpoints::default()
        };
        let environ = built(Request::get("/"), ends, "");
        assert_eq!(environ["REMOTE_ADDR"], "10.1.2.3");
        assert_eq!(environ["REMOTE_PORT"], "4444");
        assert_eq!(
            (&*environ["SERVER_NAME"], &*environ["SERVER_PORT"]),
            ("::1", "8000")
        );
        let environ = built(Request::get("/"), Endpoints::default(), "");
        assert_eq!(environ["REMOTE_ADDR"], "");
        assert_eq!(
            (&*environ["SERVER_NAME"], &*environ["SERVER_PORT"]),
            ("localhost", "80")
        );
        let environ = built(Request::get("/"), ends, "[fe80::1]:99");
        assert_eq!(environ["SERVER_NAME"], "[fe80::1]");
    }

    #[test]
    fn ipv4_addresses_have_up_to_three_digits_for_each_octet() {
        for text in ["0.0.0.0", "9.10.99.100", "127.0.0.1", "255.255.255.255"] {
            let ends = Endpoints {
                peer: Some(format!("{text}:1").parse().unwrap()),
                ..Endpoints::default()
            };
            assert_eq!(built(Request::get("/"), ends, "")["REMOTE_ADDR"], text);
        }
    }

    #[test]
    fn a_nul_in_the_path_is_refused() {
        let (head, ()) = Request::get("/a%00b").body(()).unwrap().into_parts();
        let facts = RequestFacts {
            ends: &Endpoints::default(),
            tls: None,
            client: &Client::direct(&Endpoints::default()),
            mount: "",
            path: head.uri.path(),
            normal_path: false,
            request_id: "",
            body_length: None,
            variables: &[],
        };
        assert!(build(&head, &facts).is_err());
    }
}
