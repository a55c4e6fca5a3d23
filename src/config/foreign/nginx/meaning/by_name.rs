//! Locations by regular expression for names of files: dotfiles, and extensions.

use super::Meaning;
use super::locations::{Context, Location, Paths};
use crate::config::foreign::Verdict;

/// `location ~ /\. { deny all; }`
pub fn dotfiles(meaning: &mut Meaning<'_>, at: usize) {
    if denies(meaning, at) {
        let text = "hidden files are never served (404); with other handlers, their paths are the application's";
        meaning.already(at, text);
        let inside = Verdict::AlreadySo("hidden files are never served".to_owned());
        meaning.say_inside(at, &inside);
    } else {
        meaning.unsupported(at, "hidden files are never served (--static-hidden)");
        not_served(meaning, at);
    }
}

/// Extensions that are never served.
const HIDDEN: &[&str] = &[
    "py", "pyc", "pyo", "sqlite", "sqlite3", "db", "bak", "old", "orig", "save", "tmp", "swp",
];

/// `location ~* \.(css|js)$ { expires 30d; }`
pub fn extensions(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    at: usize,
    extensions: &[String],
) {
    if denies(meaning, at) {
        return denied(meaning, at, extensions);
    }
    let children: Vec<_> = meaning.tree.children(Some(at)).collect();
    let is_about_files = |child: &usize| FILE_DIRECTIVES.contains(&meaning.name(*child));
    if !is_alike(meaning, context, at) || !children.iter().all(is_about_files) {
        let text = "locations by extension: files belong to the location of their prefix";
        meaning.unsupported(at, text);
        return not_served(meaning, at);
    }
    meaning.honoured(at, "files of the location of their prefix");
    for child in children {
        match (meaning.name(child), meaning.arg(child, 0)) {
            ("expires", "off") => meaning.already(child, "no maximum age of its own"),
            ("expires", _) => {
                let text = "a maximum age by extension: set max_age of the location";
                meaning.unsupported(child, text);
            }
            ("add_header", _) => {
                let text = "header fields by extension: set header of the location";
                meaning.unsupported(child, text);
            }
            ("access_log", _) => {
                let text = "the access log has a line for every request".to_owned();
                meaning.say(child, Verdict::Noted(text));
            }
            ("root", _) => meaning.already(child, "the root of the other locations"),
            _ => {}
        }
    }
}

/// True if a location refuses all of its requests.
fn denies(meaning: &Meaning<'_>, at: usize) -> bool {
    meaning.tree.children(Some(at)).any(|child| {
        let line = (meaning.name(child), meaning.arg(child, 0));
        matches!(line, ("deny", "all") | ("return", "403" | "404" | "444"))
    })
}

fn not_served(meaning: &mut Meaning<'_>, at: usize) {
    let inside = Verdict::Unsupported("its location is not served".to_owned());
    meaning.say_inside(at, &inside);
}

/// Files that a server refuses.
fn denied(meaning: &mut Meaning<'_>, at: usize, extensions: &[String]) {
    if extensions
        .iter()
        .all(|extension| HIDDEN.contains(&&**extension))
    {
        meaning.already(at, "such files are never served (404)");
        meaning.say_inside(
            at,
            &Verdict::AlreadySo("such files are never served".to_owned()),
        );
        return;
    }
    let text = "files are not refused by their extension: keep them out of the directory";
    meaning.unsupported(at, text);
    meaning.say_inside(
        at,
        &Verdict::Unsupported("its location is not served".to_owned()),
    );
}

/// Directives that leave files where they are.
const FILE_DIRECTIVES: &[&str] = &[
    "expires",
    "access_log",
    "log_not_found",
    "add_header",
    "root",
    "etag",
    "try_files",
    "gzip_static",
    "gzip",
    "open_file_cache",
    "tcp_nodelay",
    "charset",
    "if_modified_since",
    "error_log",
];

/// True if the files of a location by extension are those that the locations by prefix have.
fn is_alike(meaning: &Meaning<'_>, context: &Context<'_>, at: usize) -> bool {
    let root_of = |at: usize| {
        meaning
            .nearest(Some(at), "root")
            .first()
            .map(|root| meaning.arg(*root, 0))
    };
    let root = root_of(at);
    let has_same_root = |location: &Location| {
        let mut children = meaning.tree.children(Some(location.at));
        let has_server = children.any(|child| meaning.name(child).ends_with("_pass"));
        !has_server
            && meaning.nearest(Some(location.at), "alias").is_empty()
            && root_of(location.at) == root
    };
    // A prefix with `^~` keeps its requests.
    let is_concerned = |location: &&Location| matches!(&location.paths, Paths::Prefix(path, is_final) if path == "/" || (!is_final && !location.is_regex));
    root.is_some()
        && context
            .locations
            .iter()
            .filter(is_concerned)
            .all(has_same_root)
}
