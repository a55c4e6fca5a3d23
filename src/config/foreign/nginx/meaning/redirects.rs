//! `return`, `rewrite` of whole locations, and `if`.

use super::served::Site;
use super::try_files::without_file;
use super::{Meaning, Table, forwarding, method_conditions, types};
use crate::config::Scheme;
use crate::config::foreign::Verdict;
use crate::config::locations::HOST;

/// A response that is known now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fixed {
    /// A redirect.
    Redirect {
        /// The address.
        to: String,
        /// The status.
        status: String,
        /// The part of the request that is appended.
        keep: Keep,
    },
    /// A text, perhaps an empty one.
    Respond {
        /// The text.
        text: String,
        /// The status.
        status: String,
        /// Its type.
        content_type: Option<String>,
    },
}

/// The part of the request's target that a redirect appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Nothing.
    Nothing,
    /// The part behind the location's prefix.
    Rest,
    /// All of it.
    Target,
}

impl Fixed {
    /// A response with a status alone.
    pub fn status(status: &str) -> Self {
        Self::Respond {
            text: String::new(),
            status: status.to_owned(),
            content_type: None,
        }
    }

    /// Sets it in the table of a location with this path.
    pub fn enter(self, table: &mut Table, path: &str) {
        match self {
            Self::Redirect { to, status, keep } => {
                let behind = path.trim_end_matches('/');
                let to = match keep {
                    Keep::Target => format!("{}{behind}", to.trim_end_matches('/')),
                    Keep::Rest | Keep::Nothing => to,
                };
                let is_bare = to.is_empty();
                table.set(
                    "redirect",
                    if is_bare { "/".to_owned() } else { to.clone() },
                );
                table.set("status", status);
                if keep == Keep::Nothing && !to.contains(['?', '#']) {
                    table.set("keep_path", "no");
                }
            }
            Self::Respond {
                text,
                status,
                content_type,
            } => {
                table.set("respond", text);
                table.set("status", status);
                if let Some(content_type) = content_type {
                    table.set("content_type", content_type);
                }
            }
        }
    }
}

/// The fixed response of a block, with its directive; the response is `None` if there is one that
/// cannot be made.
pub fn fixed(
    meaning: &mut Meaning<'_>,
    site: &Site,
    block: usize,
) -> Option<(usize, Option<Fixed>)> {
    let children: Vec<_> = meaning.tree.children(Some(block)).collect();
    for at in children {
        let read = match meaning.name(at) {
            "return" => returned(meaning, site, block, at),
            // Another part of the reader has decided about it.
            "rewrite" if meaning.verdicts[at].is_some() => continue,
            "rewrite" => match rewritten(meaning, site, at) {
                Some(read) => read,
                None => continue,
            },
            "if" => match always(meaning, site, at) {
                Some(line) => {
                    meaning.honoured(line, "for all requests: the server has no TLS");
                    returned(meaning, site, at, line)
                }
                None => {
                    condition(meaning, at);
                    continue;
                }
            },
            _ => continue,
        };
        return match read {
            Ok(fixed) => Some((at, Some(fixed))),
            Err(verdict) => {
                meaning.say(at, verdict);
                Some((at, None))
            }
        };
    }
    None
}

/// The `return` in an `if` for requests without TLS, of a server that has none.
fn always(meaning: &Meaning<'_>, site: &Site, at: usize) -> Option<usize> {
    let is_open = meaning.verdicts[at].is_none() && !site.has_tls();
    let line = method_conditions::of_plain(meaning, at).filter(|_| is_open)?;
    (meaning.name(line) == "return").then_some(line)
}

fn returned(
    meaning: &mut Meaning<'_>,
    site: &Site,
    block: usize,
    at: usize,
) -> Result<Fixed, Verdict> {
    let args = meaning.args(at);
    let wrong = |text: &str| Err(Verdict::Wrong(text.to_owned()));
    let (code, text) = match args[..] {
        [one]
            if one.starts_with("http://")
                || one.starts_with("https://")
                || one.starts_with("$scheme") =>
        {
            ("302", Some(one))
        }
        [code] => (code, None),
        [code, text] => (code, Some(text)),
        _ => return wrong("return has a code and a text"),
    };
    let number = match code.parse::<u16>() {
        Ok(number) if number <= 999 => number,
        _ => return wrong("no status"),
    };
    let status = number.to_string();
    match (number, text) {
        (301 | 302 | 303 | 307 | 308, Some(to)) => redirect(meaning, site, at, to, &status),
        (200..=599, None) if !(300..400).contains(&number) => Ok(Fixed::status(&status)),
        (444, Some(_)) => Ok(Fixed::status(&status)),
        (200..=599, Some(text)) if !(300..400).contains(&number) => {
            let text = constant(meaning, site, block, text).ok_or_else(variables)?;
            let content_type = types::of_text(meaning, block);
            let has_text = !text.is_empty() && !matches!(number, 204 | 205 | 304);
            Ok(Fixed::Respond {
                text: if has_text { text } else { String::new() },
                status,
                content_type: content_type.filter(|_| has_text),
            })
        }
        _ => Err(Verdict::Unsupported(
            "a status from 200 to 599, and for a redirect 301, 302, 303, 307 or 308".to_owned(),
        )),
    }
}

fn variables() -> Verdict {
    Verdict::Unsupported("a text with variables: have the application answer".to_owned())
}

/// A redirect to an address with variables of known places.
fn redirect(
    meaning: &mut Meaning<'_>,
    site: &Site,
    at: usize,
    to: &str,
    status: &str,
) -> Result<Fixed, Verdict> {
    let block = meaning.tree.items[at].parent.unwrap_or(at);
    let (base, keep, is_unsafe) = if let Some(base) = strip_any(
        to,
        &[
            "$request_uri",
            "$uri$is_args$args",
            "${request_uri}",
            "$uri$is_args$query_string",
        ],
    ) {
        (base, Keep::Target, false)
    } else if let Some(base) = strip_any(to, &["$uri", "$document_uri"]) {
        (base, Keep::Target, true)
    } else if let Some(base) =
        strip_any(to, &["/$1", "/$1$is_args$args"]).filter(|_| captures_rest(meaning, block))
    {
        (base, Keep::Rest, false)
    } else {
        (to, Keep::Nothing, false)
    };
    let base = address(meaning, site, block, base)?;
    let base = match keep == Keep::Rest && base.is_empty() {
        true => "/".to_owned(),
        false => base,
    };
    if keep != Keep::Nothing && base.contains(['?', '#']) {
        return Err(Verdict::Unsupported(
            "the path of the request in a query: have the application answer".to_owned(),
        ));
    }
    if base.is_empty() || (keep == Keep::Target && base.starts_with('/')) {
        return Err(Verdict::Unsupported(
            "a redirect to a path below its own: have the application answer".to_owned(),
        ));
    }
    if is_unsafe {
        meaning.say(at, Verdict::Dangerous("$uri is decoded, so a client can add header fields: the path is kept encoded here, with the query".to_owned()));
    }
    Ok(Fixed::Redirect {
        to: base,
        status: status.to_owned(),
        keep,
    })
}

/// True for a location `~ ^/prefix/(.*)$`, whose capture is what follows the prefix.
pub fn captures_rest(meaning: &Meaning<'_>, block: usize) -> bool {
    let args = meaning.args(block);
    let pattern = args.last().copied().unwrap_or_default();
    meaning.name(block) == "location"
        && args.first().is_some_and(|sign| sign.starts_with('~'))
        && pattern.matches('(').count() == 1
        && ["/(.*)$", "/(.*)", "/(.+)$"]
            .iter()
            .any(|end| pattern.ends_with(end))
}

/// The path or URL of a redirect; empty for none.
pub fn address(
    meaning: &Meaning<'_>,
    site: &Site,
    block: usize,
    base: &str,
) -> Result<String, Verdict> {
    let constant = |text: &str| constant(meaning, site, block, text);
    let known = match base.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
            let authority = expanded(authority, |name| match name {
                // Its port is that of the scheme.
                "host" | "http_host" => Some(HOST.to_owned()),
                _ => variable(meaning, site, block, name),
            });
            let authority = authority.filter(|text| text.matches(HOST).count() < 2);
            let authority = authority.filter(|text| is_host(text));
            authority.and_then(|authority| {
                let (scheme, path) = (constant(scheme)?, constant(path)?);
                Some(format!("{scheme}://{authority}{path}"))
            })
        }
        None => constant(base),
    };
    let Some(known) = known else {
        let text = match base.contains("$server_name") {
            true => "$server_name is the first name of the server, which is no host: name one",
            false => "a redirect with variables: have the application answer",
        };
        return Err(Verdict::Unsupported(text.to_owned()));
    };
    let base = known;
    let is_target = base.is_empty()
        || base.starts_with("http://")
        || base.starts_with("https://")
        || base.starts_with('/');
    if !is_target
        || base.contains(|c: char| !c.is_ascii_graphic() || c == '\\')
        || base.starts_with("//")
    {
        return Err(Verdict::Unsupported(
            "a redirect is to a path or a URL".to_owned(),
        ));
    }
    Ok(base)
}

/// True unless an authority is what `server_name` has beside hosts: nothing, `_`, a wildcard.
fn is_host(authority: &str) -> bool {
    authority.contains(char::is_alphanumeric) && !authority.contains(['*', '~'])
}

fn strip_any<'t>(text: &'t str, ends: &[&str]) -> Option<&'t str> {
    ends.iter().find_map(|end| text.strip_suffix(end))
}

/// `rewrite` to another host, or of a whole prefix; `None` for one that is reported and passed over.
fn rewritten(meaning: &mut Meaning<'_>, site: &Site, at: usize) -> Option<Result<Fixed, Verdict>> {
    let args = meaning.args(at);
    let [pattern, to, flags @ ..] = &args[..] else {
        return Some(Err(Verdict::Wrong(
            "rewrite has an expression and a replacement".to_owned(),
        )));
    };
    if super::regex::ends_before_its_end(pattern) {
        meaning.no_effect(
            at,
            "no path matches: in an expression, `$` is the end of the path and no variable",
        );
        return None;
    }
    let is_url =
        to.starts_with("http://") || to.starts_with("https://") || to.starts_with("$scheme");
    let status = match flags.first() {
        Some(&"permanent") => "301",
        Some(&"redirect") => "302",
        _ if is_url => "302",
        // A prefix that a server does not see: `upstreams` decides.
        Some(&"break") if super::regex::stripped(pattern).is_some() => return None,
        _ => {
            meaning.unsupported(at, REWRITTEN);
            return None;
        }
    };
    let matches_all = matches!(
        *pattern,
        "^" | "^(.*)$"
            | "^(.*)"
            | "^/(.*)$"
            | "^/(.*)"
            | "(.*)"
            | ".*"
            | "^.*$"
            | "^.*"
            | "^(/.*)$"
    );
    let block = meaning.tree.items[at].parent.unwrap_or(at);
    let is_exact = meaning.arg(block, 0) == "=" && meaning.name(block) == "location";
    if !matches_all && !is_exact {
        meaning.unsupported(
            at,
            "a redirect by a regular expression: name the prefix in a location with return",
        );
        return None;
    }
    // A replacement that ends in `?` drops the query.
    let to = to.strip_suffix('?').unwrap_or(to);
    if extends_host(pattern, to) {
        meaning.say(at, Verdict::Dangerous(format!("nginx puts the path straight behind the host ({}), so a link to this site can lead to any other: a slash is between them here", to.replace("$1", "path"))));
    }
    let to = match (
        strip_any(to, &["/$1", "$1"]),
        strip_any(to, &["$request_uri"]),
    ) {
        (Some(base), _) => format!("{base}$request_uri"),
        (None, Some(_)) => to.to_owned(),
        // The query is appended by nginx.
        (None, None) => to.to_owned(),
    };
    Some(redirect(meaning, site, at, &to, status))
}

/// True for `^/(.*)$ https://host$1`, whose capture has no slash at its beginning.
fn extends_host(pattern: &str, to: &str) -> bool {
    let is_bare = |base: &str| {
        let authority = base.split_once("://").map(|(_, authority)| authority);
        authority.is_some_and(|authority| !authority.contains('/'))
    };
    pattern.starts_with("^/(") && to.strip_suffix("$1").is_some_and(is_bare)
}

/// The verdict of a `rewrite` of no known shape.
pub const REWRITTEN: &str =
    "paths are not rewritten here: name the location, or give proxy_pass a path";

/// Reports an `if`.
fn condition(meaning: &mut Meaning<'_>, at: usize) {
    if meaning.verdicts[at].is_some() {
        // It is a site of its own.
        return;
    }
    let block = meaning.tree.items[at].parent;
    if block.is_some_and(|block| without_file(meaning, block) == Some(at)) {
        // The files of its location decide.
        return;
    }
    if method_conditions::condition(meaning, at).is_some() {
        // The tables of its location or server decide.
        return;
    }
    if sets_alone(meaning, at) {
        // The variables decide about it, once all lines that use them have a verdict.
        return;
    }
    let text = meaning.tree.items[at].text.clone();
    let advice = if text.contains("$host")
        || text.contains("$http_host")
        || text.contains("$server_name")
    {
        "a condition on the host: give the host a server block of its own"
    } else if text.contains("$scheme")
        || text.contains("$http_x_forwarded_proto")
        || text.contains("$https")
    {
        "a redirect to https by what any client can say: name the balancer with --trust, then a [[location]] with scheme = \"http\" and redirect = \"https://{host}\" does it (for requests without X-Forwarded-Proto, such as health checks, as well)"
    } else if text.contains("$request_method") {
        "a condition on the method: the application decides (files answer GET and HEAD alone)"
    } else if text.contains("$http_user_agent") || text.contains("$http_referer") {
        "a condition on a header field, which every client can choose: leave it out, or have the application decide"
    } else if refuses_steps_up(meaning, at) {
        meaning.already(at, "a path with more .. than segments is refused, and files are looked for in their directory alone");
        meaning.say_inside(at, &Verdict::AlreadySo("refused anyway".to_owned()));
        return;
    } else if ["-f ", "-d ", "-e "].iter().any(|test| text.contains(test))
        && text.contains("$request_filename")
    {
        "a condition on the requested file: use try_files"
    } else if ["-f ", "-e "].iter().any(|test| text.contains(test)) {
        "a file that turns maintenance on: `pyserve maintenance on --page FILE` does it"
    } else {
        "a condition: have the application decide"
    };
    meaning.unsupported(at, advice);
    meaning.say_inside(
        at,
        &Verdict::Unsupported("its condition is not supported".to_owned()),
    );
}

/// True for `if ($uri ~ "\.\./") { return 403; }`: of paths with `..` and of nothing else.
fn refuses_steps_up(meaning: &Meaning<'_>, at: usize) -> bool {
    let text = meaning.tree.items[at].text.trim();
    let inside = text.strip_prefix("if").map(str::trim);
    let inside = inside.and_then(|text| text.strip_prefix('(')?.strip_suffix(')'));
    let parts: Vec<_> = inside.unwrap_or_default().split_whitespace().collect();
    let [variable, operator, pattern] = parts[..] else {
        return false;
    };
    let is_of_dots =
        pattern.contains(r"\.\.") && pattern.chars().all(|c| r#"\./()|^$*+?""#.contains(c));
    let mut inside = meaning.tree.children(Some(at));
    ["$uri", "$request_uri", "$document_uri"].contains(&variable)
        && ["~", "~*"].contains(&operator)
        && is_of_dots
        && inside
            .all(|child| meaning.name(child) == "return" && meaning.arg(child, 0).starts_with('4'))
}

/// True for a condition that sets variables and does nothing else.
pub fn sets_alone(meaning: &Meaning<'_>, at: usize) -> bool {
    let mut inside = meaning.tree.children(Some(at)).peekable();
    inside.peek().is_some() && inside.all(|child| meaning.name(child) == "set")
}

/// A text without variables that the file itself decides; `None` if there are others.
pub fn constant(meaning: &Meaning<'_>, site: &Site, block: usize, text: &str) -> Option<String> {
    expanded(text, |name| variable(meaning, site, block, name))
}

/// A text with the values of its variables; `None` if one has none.
pub fn expanded(text: &str, value: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut result = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        let (name, next) = match behind.strip_prefix('{') {
            Some(inner) => inner.split_once('}')?,
            None => {
                let end = behind
                    .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .unwrap_or(behind.len());
                behind.split_at(end)
            }
        };
        result.push_str(&value(name)?);
        rest = next;
    }
    result.push_str(rest);
    Some(result)
}

/// The value of a variable that the file itself decides.
pub fn variable(meaning: &Meaning<'_>, site: &Site, block: usize, name: &str) -> Option<String> {
    match name {
        "scheme" => Some(site.scheme.as_str().to_owned()),
        "server_name" => server_name(meaning, site),
        _ if is_empty(meaning, site, name) => Some(String::new()),
        _ => {
            // `set` counts where it has one value for all requests.
            let name = format!("${name}");
            let mut block = Some(block);
            while let Some(at) = block {
                let sets: Vec<_> = meaning
                    .tree
                    .named(Some(at), "set")
                    .filter(|set| meaning.arg(*set, 0) == name)
                    .collect();
                if let [set] = sets[..] {
                    let value = meaning.arg(set, 1);
                    return (!value.contains('$')).then(|| value.to_owned());
                }
                block = meaning.tree.items[at].parent;
            }
            None
        }
    }
}

/// The value of `$server_name`: the first name of the server, whatever host a request has
/// (`ngx_http_core_merge_srv_conf`); `None` for the name of the machine.
fn server_name(meaning: &Meaning<'_>, site: &Site) -> Option<String> {
    let first = meaning.tree.named(Some(site.server), "server_name").next();
    let name = first.map_or("", |line| meaning.arg(line, 0));
    let name = name.strip_prefix('.').unwrap_or(name);
    match name {
        "$hostname" => None,
        _ if name.starts_with('~') => Some(name.to_owned()),
        _ => Some(name.to_ascii_lowercase()),
    }
}

/// True for variables that are empty for every request of the server.
fn is_empty(meaning: &Meaning<'_>, site: &Site, name: &str) -> bool {
    if name.starts_with("proxy_protocol_") {
        return !forwarding::has_proxy_protocol(meaning);
    }
    let is_of_client = name.starts_with("ssl_client_") && name != "ssl_client_verify";
    let is_tls = name.starts_with("ssl_") && name != "ssl_preread_server_name";
    is_of_client && !forwarding::has_client_certificates(meaning)
        || is_tls && !site.has_tls() && site.scheme == Scheme::Http
}
