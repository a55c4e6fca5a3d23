//! Names of hosts in `[[location]]`, and the conditions for its requests beside the prefix.

use std::fmt;
use std::net::Ipv6Addr;

use super::error::{Invalid, invalid};
use super::methods::Methods;
use super::segments::Segments;
use super::values;

/// One host of a location, in lower case, without port and without the dot at the end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// This name or address; IPv6 in brackets.
    Name(String),
    /// Every name below this one, at any depth: `*.example.org`.
    Below(String),
    /// Every host that no other pattern covers.
    Others,
}

/// The scheme of a request's URL.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// Plain text.
    #[default]
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// Reads `http` or `https`.
    ///
    /// # Errors
    /// [`Invalid`] for anything else.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        values::choice(text, &[("http", Self::Http), ("https", Self::Https)])
    }

    /// The scheme as a URL has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The default port (RFC 9110 §4.2).
    pub fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// The requests that a location is for, beside its path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Its scheme; `None` for both.
    pub scheme: Option<Scheme>,
    /// Its hosts; none for every host.
    pub hosts: Vec<HostPattern>,
    /// The paths that its path stands for.
    pub extent: Extent,
    /// True if its path is compared without regard to the case of ASCII letters.
    pub ignore_case: bool,
    /// Extensions of the path's last segment, in lower case and without the dot; none for every path.
    pub extensions: Vec<String>,
    /// Beginnings of segments in its paths.
    pub segments: Segments,
    /// The methods of its requests.
    pub methods: Methods,
}

/// The paths that the path of a location stands for, compared after decoding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// Every path that begins with these characters, within a segment too (nginx: `location /api`).
    Start,
    /// The path and what is below it, by whole segments.
    #[default]
    Below,
    /// The path alone.
    Exact,
}

impl Extent {
    /// The setting of a path with this extent.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Start => "starts_with",
            Self::Below => "prefix",
            Self::Exact => "path",
        }
    }

    /// True if the path of a location may end before a rest that is empty, or begins with a slash.
    pub fn ends_before(self, is_empty: bool, is_slash: bool) -> bool {
        match self {
            Self::Start => true,
            Self::Below => is_empty || is_slash,
            Self::Exact => is_empty,
        }
    }
}

/// The response to a request for a host that no location covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownHost {
    /// 404.
    NotFound,
    /// 421 (RFC 9110 §15.5.20).
    Misdirected,
    /// None: the connection is closed, the HTTP/2 stream reset (nginx: `return 444`).
    Close,
}

impl HostPattern {
    /// Reads `example.org`, `*.example.org`, `192.0.2.1`, `[::1]` or `*`.
    ///
    /// # Errors
    /// [`Invalid`] for anything else.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        match text {
            "*" => return Ok(Self::Others),
            // nginx's usual name for what no request has.
            "_" | "_." => {
                return Err(invalid(
                    "not the name of a host",
                    "give `*` for all other hosts",
                ));
            }
            _ => {}
        }
        if let Some(name) = text.strip_prefix('.') {
            let remedy = format!("give `{name}` and `*.{name}`");
            return Err(invalid("a name begins with a dot", remedy));
        }
        let (is_below, bare) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if let Some(literal) = bare.strip_prefix('[').filter(|_| !is_below) {
            let address = literal.strip_suffix(']').and_then(|text| text.parse().ok());
            let address: Ipv6Addr = address.ok_or_else(|| invalid("no IPv6 address", REMEDY))?;
            return Ok(Self::Name(format!("[{address}]")));
        }
        if bare.parse::<Ipv6Addr>().is_ok() {
            return Err(invalid(
                "an IPv6 address without brackets",
                format!("give [{bare}]"),
            ));
        }
        if bare.contains("://") || bare.contains(['/', ':']) {
            return Err(invalid("a host has no scheme, port or path", REMEDY));
        }
        if bare.contains('*') {
            return Err(invalid("`*` is not the first label alone", REMEDY));
        }
        if !bare.is_ascii() {
            return Err(invalid(
                "a letter beyond ASCII",
                "give the name in its `xn--` form",
            ));
        }
        let bare = bare.strip_suffix('.').unwrap_or(bare);
        let is_label = |label: &str| {
            let mut bytes = label.bytes();
            !label.is_empty()
                && label.len() <= 63
                && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        if bare.len() > LONGEST_NAME || !bare.split('.').all(is_label) {
            return Err(invalid("not the name of a host", REMEDY));
        }
        let name = bare.to_ascii_lowercase();
        Ok(match is_below {
            true => Self::Below(name),
            false => Self::Name(name),
        })
    }
}

/// RFC 1035 §2.3.4.
pub const LONGEST_NAME: usize = 253;

const REMEDY: &str = "give one as in `example.org`, `*.example.org`, `192.0.2.1`, `[::1]` or `*`";

impl Scope {
    /// The rest of a decoded path that `own`, the path of the location, stands for.
    pub fn behind<'p>(&self, own: &str, path: &'p str) -> Option<&'p str> {
        let own = match self.extent {
            Extent::Below => own.trim_end_matches('/'),
            Extent::Start | Extent::Exact => own,
        };
        let (begin, rest) = path.split_at_checked(own.len())?;
        let is_own = match self.ignore_case {
            true => begin.eq_ignore_ascii_case(own),
            false => begin == own,
        };
        let ends = || {
            self.extent
                .ends_before(rest.is_empty(), rest.starts_with('/'))
        };
        (is_own && ends()).then_some(rest)
    }

    /// True if a request may be for both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let is_shared = || self.hosts.iter().any(|host| other.hosts.contains(host));
        let are_all = self.hosts.is_empty() && other.hosts.is_empty();
        self.extent == other.extent
            && self.scheme == other.scheme
            && (are_all || is_shared())
            && self.shares_extension(other)
            && self.shares_segment(other)
            && self.shares_method(other)
    }

    fn shares_segment(&self, other: &Self) -> bool {
        self.segments.are_all() && other.segments.are_all() || self.segments.share(&other.segments)
    }

    fn shares_method(&self, other: &Self) -> bool {
        // A location with methods precedes one without.
        self.methods.are_all() == other.methods.are_all() && self.methods.overlap(&other.methods)
    }

    fn shares_extension(&self, other: &Self) -> bool {
        let is_shared = || {
            let mut own = self.extensions.iter();
            own.any(|extension| other.extensions.contains(extension))
        };
        self.extensions.is_empty() && other.extensions.is_empty() || is_shared()
    }

    /// True if it is for this decoded path, which its prefix covers.
    pub fn covers(&self, path: &str) -> bool {
        let has_extension = || {
            extension(path).is_some_and(|given| {
                let mut own = self.extensions.iter();
                own.any(|extension| given.eq_ignore_ascii_case(extension))
            })
        };
        (self.extensions.is_empty() || has_extension()) && self.segments.are_in(path)
    }

    /// True if it is for every request below its prefix.
    pub fn is_whole(&self) -> bool {
        self.extent == Extent::Below
            && self.scheme.is_none()
            && self.hosts.is_empty()
            && self.extensions.is_empty()
            && self.segments.are_all()
            && self.methods.are_all()
    }

    /// The location for people: `/api`, `= /robots.txt`, `example.org, *.example.org /api`,
    /// `/secret*`, `/ (.css, .js)`, `/ (/.git)`, `http: /`, `[OPTIONS] /`.
    pub fn place(&self, path: &str) -> String {
        let hosts: Vec<_> = self.hosts.iter().map(ToString::to_string).collect();
        let (hosts, equals, star) = match (hosts.join(", "), self.extent) {
            (hosts, Extent::Below) => (hosts, "", ""),
            (hosts, Extent::Exact) => (hosts, "= ", ""),
            (hosts, Extent::Start) => (hosts, "", "*"),
        };
        let blank = if hosts.is_empty() { "" } else { " " };
        let extensions = match &self.extensions[..] {
            [] => String::new(),
            all => format!(" (.{})", all.join(", .")),
        };
        let scheme = self
            .scheme
            .map_or(String::new(), |scheme| format!("{}: ", scheme.as_str()));
        let methods = match self.methods.are_all() {
            true => String::new(),
            false => format!("[{}] ", self.methods),
        };
        let segments = match self.segments.are_all() {
            true => String::new(),
            false => format!(" (/{})", self.segments.names().join(", /")),
        };
        format!("{methods}{scheme}{hosts}{blank}{equals}{path}{star}{segments}{extensions}")
    }

    /// Its rank among the locations that cover a request: the highest answers.
    pub fn rank(&self, path: &str) -> Rank {
        Rank {
            exact: self.extent == Extent::Exact,
            length: match self.extent {
                Extent::Start => path.len(),
                Extent::Below | Extent::Exact => path.trim_end_matches('/').len(),
            },
            is_segment: self.extent != Extent::Start,
            has_segment: !self.segments.are_all(),
            has_extension: !self.extensions.is_empty(),
            has_host: !self.hosts.is_empty(),
            has_scheme: self.scheme.is_some(),
            has_method: !self.methods.are_all(),
        }
    }
}

/// The extension of the last segment of a decoded path.
fn extension(path: &str) -> Option<&str> {
    let name = path.rsplit('/').next()?;
    name.rsplit_once('.').map(|(_, extension)| extension)
}

/// Precedence of locations: an exact path, then the longest prefix, then one of whole segments, then one with
/// segments, then extensions, then one with hosts, then one with a scheme, then one with methods.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// True for an exact path.
    pub exact: bool,
    /// Length of the prefix in bytes; 0 for the whole site.
    pub length: usize,
    /// False if it is for all paths that begin so.
    pub is_segment: bool,
    /// True if it names segments.
    pub has_segment: bool,
    /// True if it names extensions.
    pub has_extension: bool,
    /// True if it names hosts.
    pub has_host: bool,
    /// True if it names a scheme.
    pub has_scheme: bool,
    /// True if it names methods.
    pub has_method: bool,
}

/// Reads an extension, with or without its dot.
///
/// # Errors
/// [`Invalid`] for anything that no extension is.
pub fn extension_name(text: &str) -> Result<String, Invalid> {
    let bare = text.strip_prefix('.').unwrap_or(text);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_+~".contains(&byte);
    match !bare.is_empty() && bare.len() <= LONGEST_EXTENSION && bare.bytes().all(is_plain) {
        true => Ok(bare.to_ascii_lowercase()),
        false => Err(invalid(
            "not the extension of a file",
            "give what follows the last dot, as in `css`",
        )),
    }
}

/// Longest extension in bytes.
pub const LONGEST_EXTENSION: usize = 32;

impl UnknownHost {
    /// Reads `404`, `421` or `444`.
    ///
    /// # Errors
    /// [`Invalid`] for anything else.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let choices = [
            ("404", Self::NotFound),
            ("421", Self::Misdirected),
            ("444", Self::Close),
        ];
        values::choice(text, &choices)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*.{name}"),
            Self::Others => f.write_str("*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hosts_that_are_understood() {
        for (text, expected) in [
            ("example.org", "example.org"),
            ("Example.ORG.", "example.org"),
            ("*.Example.org", "*.example.org"),
            ("localhost", "localhost"),
            ("my_host-1", "my_host-1"),
            ("192.0.2.1", "192.0.2.1"),
            ("[::1]", "[::1]"),
            ("[0:0:0:0:0:0:0:1]", "[::1]"),
            ("*", "*"),
            ("xn--mnchen-3ya.de", "xn--mnchen-3ya.de"),
        ] {
            assert_eq!(
                HostPattern::parse(text).unwrap().to_string(),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn hosts_that_are_refused_with_a_remedy() {
        for (text, remedy) in [
            ("", "example.org"),
            ("_", "`*`"),
            (".example.org", "`*.example.org`"),
            ("example.org:80", "example.org"),
            ("http://example.org", "example.org"),
            ("example.org/a", "example.org"),
            ("www.*", "example.org"),
            ("a.*.b", "example.org"),
            ("*example.org", "example.org"),
            ("**.a", "example.org"),
            ("~^a$", "example.org"),
            ("a..b", "example.org"),
            ("::1", "[::1]"),
            ("[::1", "example.org"),
            ("*.[::1]", "example.org"),
            ("m\u{fc}nchen.de", "xn--"),
            ("a b", "example.org"),
        ] {
            let refused = HostPattern::parse(text).unwrap_err();
            assert!(refused.remedy.contains(remedy), "{text:?}: {refused:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic_and_a_host_reads_back(text in "\\PC{0,20}|[*a-zA-Z0-9.\\[\\]:_-]{0,12}") {
            if let Ok(host) = HostPattern::parse(&text) {
                prop_assert_eq!(HostPattern::parse(&host.to_string()), Ok(host));
            }
        }
    }
}
