//! The names and paths by which an HTTP upstream server knows what clients ask for: `Host` and the
//! request target on the way there, `Location`, `Refresh` and cookie paths on the way back.
//!
//! Pure: settings and texts in, texts out. As nginx's `proxy_pass` with a path and `proxy_redirect
//! default`: only a URL that names the server is mapped back, because a path alone may already be
//! the client's.

use std::borrow::Cow;

use http::header::{HeaderMap, HeaderName, HeaderValue, LOCATION, REFRESH, SET_COOKIE};
use http::request;

use crate::config::upstream::{HostPort, HttpSettings, ServerAddress, UpstreamHost};
use crate::front::context::Client;

/// The mapping of one location.
#[derive(Debug)]
pub struct Mapping {
    /// The value of `Host`; the address of a server is a name here.
    host: UpstreamHost,
    /// The path that replaces the location's prefix, without a slash at its end; `None` to pass
    /// targets as they are.
    by: Option<String>,
    /// The location's prefix in a URL; empty for the whole site.
    prefix: String,
    /// Scheme of the server's URLs, with the slashes.
    scheme: &'static str,
    /// Names of the server in URLs, in lower case: `127.0.0.1:9000`.
    names: Vec<String>,
    redirects: bool,
    cookie_paths: bool,
}

impl Mapping {
    /// The mapping of these settings, for servers with or without TLS.
    pub fn new(settings: &HttpSettings, servers: &[ServerAddress], is_tls: bool) -> Self {
        let names_of = |server| names_of(server, is_tls);
        let mut names: Vec<String> = servers.iter().flat_map(names_of).collect();
        let host = match &settings.host {
            // nginx's `$proxy_host` names the first server where there is one alone.
            UpstreamHost::Server => {
                let name = servers.first().and_then(|server| names_of(server).pop());
                name.map_or(UpstreamHost::Client, UpstreamHost::Name)
            }
            host => host.clone(),
        };
        if let UpstreamHost::Name(name) = &host {
            names.push(name.to_ascii_lowercase());
        }
        let replacement = settings.replacement.as_ref();
        Self {
            host,
            by: replacement.map(|replacement| replacement.by.clone()),
            prefix: replacement.map_or_else(String::new, |replacement| replacement.prefix.clone()),
            scheme: if is_tls { "https://" } else { "http://" },
            names,
            redirects: settings.redirects,
            cookie_paths: settings.cookie_paths,
        }
    }

    /// The value of `Host` for a request of a client.
    pub fn host<'a>(&'a self, client: &'a Client) -> Cow<'a, str> {
        let port = match &self.host {
            UpstreamHost::Client | UpstreamHost::Server => return Cow::Borrowed(&client.host),
            UpstreamHost::Name(host) => return Cow::Borrowed(host),
            UpstreamHost::ClientName(HostPort::Absent) => None,
            UpstreamHost::ClientName(HostPort::Connected) => Some(client.server_port),
            UpstreamHost::ClientName(HostPort::Number(port)) => Some(*port),
        };
        let name = client.host_name();
        Cow::Owned(match port {
            Some(port) => format!("{name}:{port}"),
            None => name,
        })
    }

    /// The request target; `path` is the path behind the location's prefix, and takes the place of the
    /// client's path in any case if it is a normal one.
    pub fn target<'a>(
        &self,
        asked: &'a request::Parts,
        path: &str,
        is_normal: bool,
    ) -> Cow<'a, str> {
        let whole = asked.uri.path_and_query();
        let whole = whole.map_or("/", |target| target.as_str());
        let Some(by) = self.by.as_deref().or(is_normal.then_some("")) else {
            return match whole.starts_with('?') {
                // A target in absolute form may have a query and no path.
                true => Cow::Owned(format!("/{whole}")),
                false => Cow::Borrowed(whole),
            };
        };
        let mut target = String::with_capacity(by.len() + whole.len() + 1);
        target.push_str(by);
        // The slash behind the prefix may be encoded.
        let slash = path
            .get(..3)
            .filter(|slash| slash.eq_ignore_ascii_case("%2f"));
        match slash {
            Some(slash) => {
                target.push('/');
                target.push_str(&path[slash.len()..]);
            }
            None => target.push_str(path),
        }
        if target.is_empty() {
            target.push('/');
        }
        if let Some(query) = asked.uri.query() {
            target.push('?');
            target.push_str(query);
        }
        Cow::Owned(target)
    }

    /// Maps the fields of a response. `outer` is a path that a proxy has removed from the front of
    /// the client's target, usually empty.
    pub fn map_back(&self, headers: &mut HeaderMap, outer: &str) {
        if self.redirects {
            self.map_field(headers, &LOCATION, |value| self.location(value, outer));
            self.map_field(headers, &REFRESH, |value| self.refresh(value, outer));
        }
        if self.cookie_paths && self.by.is_some() {
            self.map_field(headers, &SET_COOKIE, |value| self.cookie(value, outer));
        }
    }

    fn map_field(
        &self,
        headers: &mut HeaderMap,
        name: &HeaderName,
        map: impl Fn(&str) -> Option<String>,
    ) {
        if !headers.contains_key(name) {
            return;
        }
        for (_, value) in headers.iter_mut().filter(|(field, _)| *field == name) {
            let mapped = value.to_str().ok().and_then(&map);
            if let Some(mapped) = mapped.and_then(|mapped| HeaderValue::try_from(mapped).ok()) {
                *value = mapped;
            }
        }
    }

    /// The client's form of a URL that names the server and a path below the replaced one.
    fn location(&self, url: &str, outer: &str) -> Option<String> {
        let scheme = url.get(..self.scheme.len())?;
        if !scheme.eq_ignore_ascii_case(self.scheme) {
            return None;
        }
        let rest = &url[self.scheme.len()..];
        let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let authority = authority.to_ascii_lowercase();
        if !self.names.contains(&authority) {
            return None;
        }
        self.path(path, outer)
    }

    /// The client's form of a path of the server with what follows it.
    fn path(&self, path: &str, outer: &str) -> Option<String> {
        let rest = path.strip_prefix(self.by.as_deref().unwrap_or_default())?;
        let is_boundary = rest.is_empty() || rest.starts_with(['/', '?', '#']);
        if !is_boundary {
            return None;
        }
        let base = format!("{outer}{}", self.prefix);
        if !base.is_empty() {
            return Some(base + rest);
        }
        // `//host` and `/\host` would name another host.
        Some(format!("/{}", rest.trim_start_matches(['/', '\\'])))
    }

    /// `5; url=http://…`, as browsers understand it.
    fn refresh(&self, value: &str, outer: &str) -> Option<String> {
        let at = value.to_ascii_lowercase().find("url=")? + 4;
        let (before, url) = value.split_at(at);
        let bare = url.trim_matches(['"', '\'']);
        let mapped = self.location(bare, outer)?;
        Some(format!("{before}{mapped}"))
    }

    /// `name=value; Path=/…; …` (RFC 6265 §5.2).
    fn cookie(&self, value: &str, outer: &str) -> Option<String> {
        let base = format!("{outer}{}", self.prefix);
        let mut is_mapped = false;
        let mut parts = value.split(';');
        let mut mapped = parts.next()?.to_owned();
        for part in parts {
            mapped.push(';');
            let path = part
                .split_once('=')
                .filter(|(name, _)| name.trim().eq_ignore_ascii_case("path"))
                .and_then(|(name, path)| Some((name, self.path(path.trim(), outer)?)));
            match path {
                Some((name, path)) => {
                    is_mapped = true;
                    mapped.push_str(name);
                    mapped.push('=');
                    // `/api/` would not cover `/api`.
                    let is_base = path.strip_suffix('/') == Some(&*base) && !base.is_empty();
                    mapped.push_str(if is_base { &base } else { &path });
                }
                None => mapped.push_str(part),
            }
        }
        is_mapped.then_some(mapped)
    }
}

/// Names of a server in the URLs that it makes.
fn names_of(server: &ServerAddress, is_tls: bool) -> Vec<String> {
    match server {
        // nginx's `$proxy_host` of a Unix socket.
        ServerAddress::Unix(_) => vec!["localhost".to_owned()],
        ServerAddress::Tcp { .. } => {
            let name = server.to_string();
            let usual_port = if is_tls { ":443" } else { ":80" };
            match name.strip_suffix(usual_port) {
                Some(bare) => vec![name.clone(), bare.to_owned()],
                None => vec![name],
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::upstream::Replacement;
    use proptest::prelude::*;
    use std::path::Path;

    fn mapping(replacement: Option<(&str, &str)>, server: &str) -> Mapping {
        let settings = HttpSettings {
            host: UpstreamHost::Client,
            replacement: replacement.map(|(prefix, by)| Replacement {
                prefix: prefix.to_owned(),
                by: by.to_owned(),
            }),
            redirects: true,
            cookie_paths: true,
        };
        let is_tls = server.starts_with("https:");
        let server = ServerAddress::http(server, Path::new("/")).unwrap();
        Mapping::new(&settings, &[server], is_tls)
    }

    fn target(by: Option<&str>, asked: &str, path: &str) -> String {
        let mapping = mapping(by.map(|by| ("/api", by)), "http://b:9000");
        let (asked, ()) = http::Request::get(asked).body(()).unwrap().into_parts();
        mapping.target(&asked, path, false).into_owned()
    }

    #[test]
    fn the_prefix_is_replaced_in_the_raw_target() {
        for (by, asked, path, expected) in [
            (None, "/api/x?y", "/x", "/api/x?y"),
            (None, "http://h?y", "/", "/?y"),
            (Some("/other"), "/api/x?y", "/x", "/other/x?y"),
            (Some("/other"), "/api", "", "/other"),
            (Some("/other"), "/api/", "/", "/other/"),
            (Some("/other"), "/api?y=/api", "", "/other?y=/api"),
            (Some(""), "/api/x", "/x", "/x"),
            (Some(""), "/api", "", "/"),
            (Some(""), "/api?y", "", "/?y"),
            (Some(""), "/api%2Fx", "%2Fx", "/x"),
            (Some("/other"), "/api%2fx", "%2fx", "/other/x"),
            (
                Some("/other"),
                "/api/a%20b%2F?c",
                "/a%20b%2F",
                "/other/a%20b%2F?c",
            ),
        ] {
            assert_eq!(target(by, asked, path), expected, "{by:?} {asked}");
        }
    }

    #[test]
    fn a_url_that_names_the_server_is_mapped_back() {
        let replaced = Some(("/api", "/other"));
        for (replacement, server, url, expected) in [
            (
                replaced,
                "http://b:9000",
                "http://b:9000/other/x?y#z",
                "/api/x?y#z",
            ),
            (replaced, "http://b:9000", "HTTP://B:9000/other", "/api"),
            (replaced, "http://b:9000", "http://b:9000/other?x", "/api?x"),
            (replaced, "http://b:9000", "http://b:9000/others", ""),
            (replaced, "http://b:9000", "http://b:9000/", ""),
            (replaced, "http://b:9000", "http://b/other/x", ""),
            (replaced, "http://b:9000", "http://evil/other/x", ""),
            (replaced, "http://b:9000", "http://b:9000@evil/other/x", ""),
            (replaced, "http://b:9000", "/other/x", ""),
            (replaced, "http://b", "http://b/other/x", "/api/x"),
            (replaced, "http://b", "http://b:80/other/x", "/api/x"),
            (
                Some(("/api", "")),
                "http://b:9000",
                "http://b:9000/x",
                "/api/x",
            ),
            (Some(("/api", "")), "http://b:9000", "http://b:9000", "/api"),
            (
                Some(("/api", "")),
                "http://b:9000",
                "http://b:9000//evil/",
                "/api//evil/",
            ),
            (None, "http://b:9000", "http://b:9000/x", "/x"),
            (None, "http://b:9000", "http://b:9000", "/"),
            (None, "http://b:9000", "http://b:9000?x", "/?x"),
            (None, "http://b:9000", "http://b:9000//evil/x", "/evil/x"),
            (None, "http://b:9000", "http://b:9000/\\evil/x", "/evil/x"),
            (None, "http://b:9000", "https://b:9000/x", ""),
            (None, "https://b:9000", "https://b:9000/x", "/x"),
            (None, "https://b", "HTTPS://b/x", "/x"),
            (None, "https://b", "https://b:443/x", "/x"),
            // nginx's `proxy_redirect default` has the scheme of `proxy_pass`.
            (None, "https://b", "http://b/x", ""),
            (None, "https://b", "https://b:80/x", ""),
            (None, "http://[::1]:9000", "http://[::1]:9000/x", "/x"),
        ] {
            let mapped = mapping(replacement, server).location(url, "");
            assert_eq!(
                mapped.unwrap_or_default(),
                expected,
                "{replacement:?} {url}"
            );
        }
        let mapped = mapping(replaced, "http://b").location("http://b/other/x", "/outer");
        assert_eq!(mapped.as_deref(), Some("/outer/api/x"));
    }

    #[test]
    fn cookies_and_refreshes_are_mapped_back() {
        let both = mapping(Some(("/api", "/other")), "http://b");
        for (value, expected) in [
            ("a=b; Path=/other; HttpOnly", "a=b; Path=/api; HttpOnly"),
            ("a=b;path=/other/", "a=b;path=/api"),
            ("a=b; Path = /other/x", "a=b; Path =/api/x"),
            ("a=Path=/other; Path=/", ""),
            ("a=b; Path=/others", ""),
            ("a=b", ""),
        ] {
            assert_eq!(
                both.cookie(value, "").unwrap_or_default(),
                expected,
                "{value}"
            );
        }
        let stripped = mapping(Some(("/api", "")), "http://b");
        assert_eq!(
            stripped.cookie("a=b; Path=/", "").as_deref(),
            Some("a=b; Path=/api")
        );
        assert_eq!(
            both.refresh("5; url=http://b/other/x", "").as_deref(),
            Some("5; url=/api/x")
        );
        assert_eq!(
            both.refresh("5;URL='http://b/other'", "").as_deref(),
            Some("5;URL=/api")
        );
        assert_eq!(both.refresh("5", ""), None);
    }

    proptest! {
        #[test]
        fn any_field_is_read_without_a_panic_and_names_no_other_host(
            value in "\\PC{0,30}|(http://b)?[/\\\\?#a-z:@.;= ]{0,12}(url=|Path=)?[/\\\\a-z]{0,9}"
        ) {
            let mapping = mapping(None, "http://b");
            let _ = mapping.refresh(&value, "");
            let _ = mapping.cookie(&value, "");
            if let Some(mapped) = mapping.location(&value, "") {
                let second = mapped.chars().nth(1);
                prop_assert!(mapped.starts_with('/') && !matches!(second, Some('/' | '\\')), "{}", mapped);
            }
        }
    }
}
