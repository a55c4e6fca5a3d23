//! Locations with files: `root`, `alias`, `try_files`, `index`, `expires` on them.

use std::path::Path;

use super::locations::{Context, Paths, plain};
use super::redirects::{Fixed, expanded, variable};
use super::try_files::{Missing, handler, missing, tries_directories, tries_html, without_file};
use super::{Meaning, Table, rewrites, rules, try_files, types};
use crate::config::MAX_RANGES;
use crate::config::foreign::Verdict;

/// The result for a location without a server.
pub enum Content {
    /// No client reaches it.
    Nothing,
    /// Its table is complete.
    Made,
    /// As [`Self::Made`], and paths without a file go to this named location.
    Before(usize),
    /// All of its paths go to the named location, by this line.
    Elsewhere {
        /// The `try_files`, or what stands for it.
        line: usize,
        /// The named location.
        named: usize,
    },
}

/// Completes the table of a location that has no other handler.
pub fn enter(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    at: usize,
    path: &str,
    table: &mut Table,
) -> Content {
    let Some((line, is_alias)) = root(meaning, at) else {
        return without_root(meaning, context, at, path, table);
    };
    let dir = known_part(meaning, context, at, meaning.arg(line, 0));
    let captured = captured(meaning, at, &dir);
    if dir.contains('$') && captured.is_none() {
        meaning.unsupported(line, "a directory with variables: name it");
        Fixed::status("404").enter(table, "");
        rules::enter(meaning, context, at, table);
        meaning.unsupported(
            at,
            "its directory is not known, so the location answers 404",
        );
        return Content::Made;
    }
    let is_path = table.value("path").is_some();
    if let Some(why) = unknown_directory(meaning, at, (line, is_alias && !is_path), &dir) {
        return without_known_directory(meaning, context, (at, line), why, table);
    }
    let mut dir = dir.split('$').next().unwrap_or_default().to_owned();
    if let Some(prefix) = captured {
        // A longer prefix, at which the expression takes requests as well.
        dir.push_str(path.strip_prefix(&*prefix).unwrap_or_default());
    }
    if is_alias && is_file_name(path) && is_file_name(&dir) && table.value("prefix").is_some() {
        // A prefix that is a file.
        table.entries.clear();
        table.set("path", path);
    }
    if table.value("path").is_some() {
        return single(meaning, context, at, (line, path, &dir, is_alias), table);
    }
    let target = directory(meaning, at, path, (&dir, is_alias));
    if meaning.tree.named(Some(at), "internal").next().is_some() {
        internal(meaning, at, plain(path), &target);
        meaning.honoured(line, format!("files of {target} for X-Accel-Redirect"));
        // The response to clients.
        Fixed::status("404").enter(table, path);
        rules::enter(meaning, context, at, table);
        fields_of_internal(meaning, at);
        return Content::Made;
    }
    // Below the prefix of a server, an expression mostly finds no directory.
    let is_below = !table.values("extension").is_empty() && plain(path) != "/";
    let is_of_server = is_below && has_server(meaning, context, path);
    let is_dir = match is_of_server {
        true => meaning.given.is_dir_here,
        false => meaning.given.is_dir,
    };
    if !is_dir(Path::new(&target)) {
        if let Some(handed_on) = handed_on(meaning, context, at) {
            let text = format!("there is no directory {target}, so no path has a file");
            meaning.say(line, Verdict::Noted(text));
            return handed_on;
        }
        // A regular expression takes requests below prefixes that its directory need not have.
        if !table.values("extension").is_empty() && plain(path) != "/" {
            Fixed::status("404").enter(table, path);
            rules::enter(meaning, context, at, table);
            return Content::Made;
        }
    }
    table.set("static", target.clone());
    note_alias(meaning, at, line, path, (&dir, is_alias), &target);
    with_directory(meaning, context, at, path, table)
}

/// Completes the table of a location whose directory cannot be named here.
fn without_known_directory(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    (at, line): (usize, usize),
    why: &str,
    table: &mut Table,
) -> Content {
    if let Some(handed_on) = handed_on(meaning, context, at).filter(|_| why == OF_NGINX) {
        let text = "a directory of nginx's installation, which is not here: no path has a file";
        meaning.say(line, Verdict::Noted(text.to_owned()));
        return handed_on;
    }
    match why == OF_NGINX {
        true => meaning.say(line, Verdict::Noted(why.to_owned())),
        false => meaning.unsupported(line, why),
    }
    Fixed::status("404").enter(table, "");
    rules::enter(meaning, context, at, table);
    Content::Made
}

/// Completes the table of a location whose directory is there.
fn with_directory(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    at: usize,
    path: &str,
    table: &mut Table,
) -> Content {
    index(meaning, at);
    precompressed(meaning, at, table);
    listing(meaning, at, table);
    let missing = missing(meaning, context, at, path);
    if table.value("listing").is_none() {
        try_files::note_directories(meaning, at, &missing);
    }
    if let Some(line) = tries_html(meaning, at) {
        table.set("html", "yes");
        meaning.honoured(line, "html = true");
    }
    if !tries_directories(meaning, at) {
        table.set("index", "no");
    }
    types::of_files(meaning, at, table);
    ranges(meaning, at, table);
    rules::enter(meaning, context, at, table);
    complete(table, missing)
}

/// The directory with the values of variables that the file decides; captures stay.
fn known_part(meaning: &Meaning<'_>, context: &Context<'_>, at: usize, dir: &str) -> String {
    let known = expanded(dir, |name| match name.parse::<u8>() {
        Ok(number) => Some(format!("${number}")),
        Err(_) => variable(meaning, context.site, at, name),
    });
    known.unwrap_or_else(|| dir.to_owned())
}

/// The directory of the files of a prefix.
fn directory(
    meaning: &mut Meaning<'_>,
    at: usize,
    path: &str,
    (dir, is_alias): (&str, bool),
) -> String {
    // `rewrite ^/prefix(/.*)$ $1 break`, by which a root is what an alias is.
    let moved = rewrites::directory(meaning, at, path).filter(|_| !is_alias);
    if let Some((line, to)) = moved {
        let target = format!("{}{to}", dir.trim_end_matches('/'));
        let target = plain(&target).to_owned();
        meaning.honoured(line, format!("static = {target:?}"));
        return target;
    }
    match (is_alias, plain(path)) {
        (true, _) | (false, "/") => plain(dir).to_owned(),
        (false, path) => format!("{}{path}", dir.trim_end_matches('/')),
    }
}

/// Sets the answer to paths without a file.
fn complete(table: &mut Table, missing: Missing) -> Content {
    match missing {
        Missing::Refuse => Content::Made,
        Missing::Page(page) => {
            table.set("missing", page);
            Content::Made
        }
        Missing::Location(named) => {
            table.set("missing", "app");
            Content::Before(named)
        }
    }
}

/// The verdict of a relative directory.
const OF_NGINX: &str = "a directory of nginx's installation, which is not here, so the location answers 404: name another one in full";

/// The reason for which a directory is not known; `line` is the `root` or `alias`.
fn unknown_directory(
    meaning: &Meaning<'_>,
    at: usize,
    (line, is_alias): (usize, bool),
    dir: &str,
) -> Option<&'static str> {
    if !dir.starts_with('/') {
        return Some(OF_NGINX);
    }
    let is_own = meaning.tree.items[line].parent == Some(at);
    let is_regex = meaning.arg(at, 0).starts_with('~');
    (is_alias && is_own && is_regex && !dir.contains('$'))
        .then_some("an alias without a capture is one file for all paths: use root")
}

/// The `root` or `alias` that holds in a block; true for `alias`. The nearer one holds.
fn root(meaning: &Meaning<'_>, at: usize) -> Option<(usize, bool)> {
    let first = |name: &str| meaning.nearest(Some(at), name).first().copied();
    let depth = |of: usize| meaning.tree.items[of].parent.map_or(0, |parent| parent + 1);
    match (first("alias"), first("root")) {
        (Some(alias), Some(root)) if depth(root) > depth(alias) => Some((root, false)),
        (Some(alias), _) => Some((alias, true)),
        (None, root) => root.map(|root| (root, false)),
    }
}

/// True if an application or a server answers below this prefix.
fn has_server(meaning: &Meaning<'_>, context: &Context<'_>, prefix: &str) -> bool {
    let is_it = |paths: &Paths| matches!(paths, Paths::Prefix(path, _) if path == prefix);
    let mut locations = context.locations.iter();
    let found = locations.find(|location| is_it(&location.paths));
    found.is_some_and(|found| {
        let mut children = meaning.tree.children(Some(found.at));
        children.any(|child| meaning.name(child).ends_with("_pass"))
    })
}

/// True for a path whose last segment has an extension.
fn is_file_name(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.rsplit_once('.')
        .is_some_and(|(stem, ending)| !stem.is_empty() && !ending.is_empty())
}

/// The prefix of `alias /dir/$1` behind `^/prefix/(.*)$`.
fn captured(meaning: &Meaning<'_>, at: usize, dir: &str) -> Option<String> {
    let is_regex = meaning.arg(at, 0).starts_with('~');
    let pattern = meaning.args(at).last().copied().unwrap_or_default();
    let is_rest = dir.ends_with("/$1") && dir.matches('$').count() == 1;
    let is_alone = pattern.matches('(').count() - pattern.matches("(?:").count() == 1;
    (is_regex && is_rest && is_alone)
        .then(|| super::regex::captured_behind(pattern))
        .flatten()
}

fn note_alias(
    meaning: &mut Meaning<'_>,
    at: usize,
    line: usize,
    path: &str,
    (dir, is_alias): (&str, bool),
    target: &str,
) {
    if meaning.tree.items[line].parent != Some(at) {
        meaning.honoured(
            line,
            "the directory of the locations without one of their own",
        );
        return;
    }
    if let Some(rewrite) = rewrites::unknown(meaning, at) {
        let rewrite = meaning.tree.items[rewrite].line;
        let text = format!(
            "files are looked for by the paths that clients ask for, below {target}, as the rewrite of line {rewrite} is not supported"
        );
        return meaning.unsupported(line, text);
    }
    let has_slash = path.ends_with('/') || !is_alias;
    let verdict = match (has_slash, dir.ends_with('/')) {
        (true, false) if is_alias && path.ends_with('/') && path != "/" => {
            Verdict::Dangerous(format!(
                "without a slash at its end, nginx opens {dir}x for {path}x: files are looked for below {target}/"
            ))
        }
        (false, true) => Verdict::Dangerous(format!(
            "the location has no slash at its end, so nginx serves {path}../ from above {dir}: whole segments are compared here"
        )),
        (false, false) => Verdict::Dangerous(format!(
            "the location has no slash at its end, so nginx also serves {path}_other: whole segments are compared here"
        )),
        _ => Verdict::Honoured(format!("static = {target:?}")),
    };

    meaning.say(line, verdict);
}

/// One file at one path.
fn single(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    at: usize,
    (line, path, dir, is_alias): (usize, &str, &str, bool),
    table: &mut Table,
) -> Content {
    let file = match is_alias {
        true => dir.to_owned(),
        false => format!("{}{path}", dir.trim_end_matches('/')),
    };
    let given = meaning.tree.named(Some(at), "try_files").next();
    let file = match given.map(|at| meaning.arg(at, 0)) {
        // `try_files /index.html =404` names another file of the root.
        Some(first) if first.starts_with('/') && !is_alias && !first.contains('$') => {
            format!("{}{first}", dir.trim_end_matches('/'))
        }
        _ => file,
    };
    let file = match file.strip_suffix('/') {
        Some(dir) => format!("{dir}/index.html"),
        None => file,
    };
    if (meaning.given.is_dir_here)(Path::new(&file)) {
        let text = format!(
            "{file} is a directory, not the file of one path: name a prefix with a slash at its end"
        );
        meaning.unsupported(line, text);
        Fixed::status("404").enter(table, path);
        rules::enter(meaning, context, at, table);
        return Content::Made;
    }
    let is_internal = meaning.tree.named(Some(at), "internal").next();
    if let Some(internal) = is_internal {
        // A page for errors, which those read themselves.
        meaning.honoured(internal, "no client reaches it");
        meaning.honoured(line, format!("the page {file}"));
        meaning.honoured(at, "404, and for pages of errors");
        Fixed::status("404").enter(table, path);
        rules::enter(meaning, context, at, table);
        return Content::Made;
    }
    table.set("file", file.clone());
    // A file that `try_files` names has the type of its own extension.
    if given.is_none() {
        types::of_one_file(meaning, at, (path, &file), table);
    }
    types::of_files(meaning, at, table);
    ranges(meaning, at, table);
    if let Some(given) = given {
        let last = meaning.args(given).last().copied().unwrap_or_default();
        match last.starts_with('=') || meaning.args(given).len() < 2 {
            true => meaning.honoured(given, format!("file = {file:?}")),
            false => {
                let text = format!(
                    "without {file} the path answers 404, and not as {last}: have that file there"
                );
                meaning.unsupported(given, text);
            }
        }
    }
    meaning.honoured(line, format!("file = {file:?}"));
    rules::enter(meaning, context, at, table);
    Content::Made
}

fn internal(meaning: &mut Meaning<'_>, at: usize, prefix: &str, dir: &str) {
    let line = meaning.tree.named(Some(at), "internal").next();
    let line = line.unwrap_or(at);
    let value = format!("{prefix}={dir}");
    meaning.append(line, "internal", value.clone());
    meaning.honoured(at, format!("internal = {value:?}"));
}

/// A location with neither a handler nor a directory.
fn without_root(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    at: usize,
    path: &str,
    table: &mut Table,
) -> Content {
    if let Some(handed_on) = handed_on(meaning, context, at) {
        return handed_on;
    }
    let has_nested = meaning.tree.named(Some(at), "location").next().is_some();
    if has_nested {
        meaning.honoured(at, "the locations in it");
        return Content::Nothing;
    }
    meaning.say(
        at,
        Verdict::Differs(
            "no directory and no server: nginx looks in a directory of its own, here it is 404"
                .to_owned(),
        ),
    );
    Fixed::status("404").enter(table, path);
    rules::enter(meaning, context, at, table);
    Content::Made
}

/// The handler that gets every request of a location without files, as `try_files /nothing @app` names
/// it.
fn handed_on(meaning: &Meaning<'_>, context: &Context<'_>, at: usize) -> Option<Content> {
    if let Some(block) = without_file(meaning, at) {
        return Some(Content::Elsewhere {
            line: block,
            named: block,
        });
    }
    if let Some(line) = meaning.tree.named(Some(at), "try_files").next() {
        let named = context.named(meaning.args(line).last()?)?;
        return Some(Content::Elsewhere { line, named });
    }
    let pages = meaning.nearest(Some(at), "error_page");
    pages.into_iter().find_map(|line| {
        let ["404", "=", name] = meaning.args(line)[..] else {
            return None;
        };
        let named = handler(meaning, context, name)?;
        Some(Content::Elsewhere { line, named })
    })
}

fn index(meaning: &mut Meaning<'_>, at: usize) {
    let Some(line) = meaning.scalar(Some(at), "index") else {
        return;
    };
    match &meaning.args(line)[..] {
        ["index.html"] => meaning.already(line, "index.html of a directory"),
        names if names.contains(&"index.html") => {
            let others = names.iter().filter(|name| **name != "index.html");
            let others: Vec<_> = others.copied().collect();
            let text = format!(
                "index.html of a directory, and no other file: {} is not looked for",
                others.join(", ")
            );
            meaning.say(line, Verdict::Differs(text));
        }
        _ => meaning.unsupported(line, "the index of a directory is index.html"),
    }
}

fn listing(meaning: &mut Meaning<'_>, at: usize, table: &mut Table) {
    let Some(line) = meaning.scalar(Some(at), "autoindex") else {
        return;
    };
    if meaning.arg(line, 0) != "on" {
        return meaning.already(line, "directories are not listed");
    }
    let format = meaning.scalar(Some(at), "autoindex_format");
    let value = match format.map(|format| (format, meaning.arg(format, 0))) {
        Some((format, "json")) => {
            meaning.honoured(format, "listing = \"json\"");
            "json"
        }
        Some((format, "html")) => {
            meaning.already(format, "HTML, unless a client asks for JSON");
            "yes"
        }
        Some((format, _)) => {
            let text = "directories are listed as HTML or JSON alone: autoindex_format json";
            meaning.unsupported(format, text);
            "yes"
        }
        None => "yes",
    };
    table.set("listing", value);
    match value {
        "json" => meaning.honoured(line, "listing = \"json\""),
        _ => meaning.honoured(
            line,
            "listing = true (with a page of its own that is not kept, or JSON for clients that ask for it)",
        ),
    }
}

/// `max_ranges`.
fn ranges(meaning: &mut Meaning<'_>, at: usize, table: &mut Table) {
    let Some(line) = meaning.scalar(Some(at), "max_ranges") else {
        return;
    };
    match meaning.arg(line, 0).parse::<usize>() {
        Ok(most) if most < MAX_RANGES => {
            table.set("max_ranges", most.to_string());
            meaning.honoured(line, format!("max_ranges = {most}"));
        }
        Ok(_) => {
            let text = format!(
                "a request for up to {MAX_RANGES} ranges gets them, another one the whole file"
            );
            meaning.already(line, text);
        }
        Err(_) => meaning.say(line, Verdict::Wrong("no number".to_owned())),
    }
}

fn precompressed(meaning: &mut Meaning<'_>, at: usize, table: &mut Table) {
    if let Some(line) = meaning.scalar(Some(at), "gzip_static") {
        match meaning.arg(line, 0) {
            "off" => meaning.already(line, "files beside a file are not sent"),
            "always" => {
                table.set("precompressed", "yes");
                let text = "precompressed = true: a client that takes no gzip gets the file itself";
                meaning.say(line, Verdict::Differs(text.to_owned()));
            }
            _ => {
                table.set("precompressed", "yes");
                meaning.honoured(line, "precompressed = true");
            }
        }
    }
}

/// Header fields of the location of files for X-Accel-Redirect, which here have those of the response that
/// names them.
fn fields_of_internal(meaning: &mut Meaning<'_>, at: usize) {
    for name in ["add_header", "expires"] {
        let own: Vec<_> = meaning.tree.named(Some(at), name).collect();
        for line in own {
            let text = "files for X-Accel-Redirect have the fields of the response that names them: set this one there";
            meaning.unsupported(line, text);
        }
    }
}
