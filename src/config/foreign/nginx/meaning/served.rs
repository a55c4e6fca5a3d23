//! A `server` block that is served.

use super::Meaning;
use super::listen::Listen;

/// One `server` block that is served.
pub struct Site {
    /// Its block.
    pub at: usize,
    /// Its hosts as `[[location]] host` takes them; none for every host.
    pub hosts: Vec<String>,
    /// Its exact and wildcard names, the first first.
    pub names: Vec<String>,
    /// Its addresses.
    pub listens: Vec<Listen>,
    /// The scheme by which clients ask for it.
    pub scheme: &'static str,
}

/// True if a server does nothing but redirect to https, apart from certificates.
pub fn redirects_to_https(meaning: &Meaning<'_>, server: usize) -> bool {
    let tree = meaning.tree;
    let mut found = false;
    let mut open = vec![server];
    while let Some(block) = open.pop() {
        for at in tree.children(Some(block)) {
            let args = meaning.args(at);
            let is_https = args.iter().any(|arg| arg.starts_with("https://"));
            match meaning.name(at) {
                "return" | "rewrite" if is_https => found = true,
                "return" if args.first() == Some(&"404") => {}
                "if" => open.push(at),
                "location" if args.iter().any(|arg| arg.contains("well-known")) => {}
                "location" => open.push(at),
                "return" | "rewrite" | "proxy_pass" | "uwsgi_pass" | "alias" | "fastcgi_pass"
                | "try_files" => return false,
                _ => {}
            }
        }
    }
    found
}
