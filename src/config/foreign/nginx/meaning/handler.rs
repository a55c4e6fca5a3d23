//! The handler of each location.

use super::files::Content;
use super::locations::{self, Context, Location, Paths, plain, push};
use super::redirects::{self, Fixed};
use super::servers::Site;
use super::{Meaning, Table, access, by_name, files, rules, upstreams};
use crate::config::foreign::Verdict;

/// Directives that restrict who gets a response, in a way that is not supported.
const RESTRICTIONS: &[&str] = &[
    "auth_request",
    "secure_link",
    "secure_link_secret",
    "auth_jwt",
    "limit_except",
    "auth_ldap",
    "auth_pam",
    "auth_digest",
    "access_by_lua",
    "access_by_lua_block",
    "access_by_lua_file",
];
/// Handlers of other protocols and modules.
const OTHER_HANDLERS: &[&str] = &[
    "fastcgi_pass",
    "scgi_pass",
    "grpc_pass",
    "memcached_pass",
    "perl",
    "content_by_lua",
    "content_by_lua_block",
    "content_by_lua_file",
    "js_content",
    "mp4",
    "flv",
    "dav_methods",
    "empty_gif",
    "stub_status",
    "echo",
    "ssi",
    "random_index",
    "image_filter",
    "passenger_enabled",
    "f4f",
    "hls",
    "rtmp_stat",
];

/// Makes the tables of a server.
pub fn server(meaning: &mut Meaning<'_>, site: &Site) {
    let context = Context {
        site,
        locations: locations::of(meaning, site.at),
    };
    if let Some((at, fixed)) = redirects::fixed(meaning, site, site.at) {
        // nginx decides by it before it looks for a location.
        if let Some(fixed) = fixed {
            let mut table = Table {
                at: site.at,
                entries: Vec::new(),
            };
            table.set("prefix", "/");
            fixed.enter(&mut table, "/");
            rules::enter(meaning, &context, site.at, &mut table);
            meaning.honoured(at, table.shown());
            push(meaning, site, table);
        }
        let line = meaning.tree.items[at].line;
        let inside = Verdict::NoEffect(format!("line {line} answers all requests"));
        let all: Vec<_> = meaning.tree.named(Some(site.at), "location").collect();
        for block in all {
            meaning.verdicts[block] = Some(inside.clone());
            meaning.say_inside(block, &inside);
        }
        return;
    }
    // `^~` comes before a regular expression with the same prefix.
    let mut order: Vec<_> = context.locations.iter().collect();
    order.sort_by_key(|location| !matches!(location.paths, Paths::Prefix(_, true)));
    for location in order {
        self::location(meaning, &context, location);
    }
    let has_all = context
        .locations
        .iter()
        .any(|location| matches!(&location.paths, Paths::Prefix(path, _) if path == "/"));
    if !has_all
        && !files_of_server(meaning, &context)
        && (meaning.has_app() || !site.hosts.is_empty())
    {
        // Beside other sites, and beside the application, which answers where nothing else does.
        let mut table = Table {
            at: site.at,
            entries: Vec::new(),
        };
        table.set("prefix", "/");
        Fixed::status("404").enter(&mut table, "/");
        push(meaning, site, table);
    }
    for location in &context.locations {
        if matches!(location.paths, Paths::Named(_)) && meaning.verdicts[location.at].is_none() {
            let unused = Verdict::NoEffect("no line refers to it".to_owned());
            meaning.say(location.at, unused.clone());
            meaning.say_inside(location.at, &unused);
        }
    }
}

fn location(meaning: &mut Meaning<'_>, context: &Context<'_>, location: &Location) {
    match &location.paths {
        Paths::Named(_) => {}
        Paths::Dotfiles => by_name::dotfiles(meaning, location.at),
        Paths::Extensions(extensions) => {
            by_name::extensions(meaning, context, location.at, extensions)
        }
        Paths::Exact(path) => path_or_prefix(meaning, context, location, ("path", path)),
        Paths::Prefix(prefix, _) => path_or_prefix(meaning, context, location, ("prefix", prefix)),
    }
}

fn path_or_prefix(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    location: &Location,
    place: (&'static str, &str),
) {
    let at = location.at;
    let (name, path) = place;
    let shown = match name {
        "prefix" => plain(path),
        _ => path,
    };
    let is_plain = !path.contains(['?', '#', '%', '\\', '$', '*'])
        && !path.contains("//")
        && !path.contains("/./")
        && !path.contains("/../");
    if !is_plain {
        meaning.unsupported(at, "a path with characters that no location has here");
        meaning.say_inside(
            at,
            &Verdict::Unsupported("its location is not served".to_owned()),
        );
        return;
    }
    let mut table = Table {
        at,
        entries: Vec::new(),
    };
    table.set(name, shown);
    let made = answer(meaning, context, at, path, &mut table);
    let Some(made) = made else { return };
    let is_whole_segment = name == "path" || path.ends_with('/');
    let note = match is_whole_segment || shown == "/" {
        true => "",
        false => " (whole segments: not what only begins so)",
    };
    let text = made.first().map(|table| format!("{}{note}", table.shown()));
    for table in made {
        let has_handler = table.value("pass").or(table.value("upstream")).is_some();
        // nginx redirects from `/api` to `/api/` where a server answers below it.
        let is_directory = name == "prefix"
            && path.ends_with('/')
            && shown != "/"
            && has_handler
            && !location.is_regex;
        let headers = table
            .entries
            .iter()
            .find(|(name, _)| *name == "header")
            .cloned();
        if !push(meaning, context.site, table) {
            meaning.say(
                at,
                Verdict::Unsupported("another location has the same path here".to_owned()),
            );
            return;
        }
        let has_exact = context
            .locations
            .iter()
            .any(|other| matches!(&other.paths, Paths::Exact(exact) if exact == shown));
        if is_directory && !has_exact {
            let mut redirect = Table {
                at,
                entries: Vec::new(),
            };
            redirect.set("path", shown);
            redirect.set("redirect", format!("{shown}/"));
            redirect.set("status", "301");
            redirect.entries.extend(headers);
            push(meaning, context.site, redirect);
        }
    }
    if let Some(text) = text {
        meaning.honoured(at, text);
    }
}

/// Completes `table`, which has its path, for a location; several where files stand before a server.
/// `None` if no client reaches it.
fn answer(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    at: usize,
    path: &str,
    table: &mut Table,
) -> Option<Vec<Table>> {
    if let Some((line, fixed)) = redirects::fixed(meaning, context.site, at) {
        match fixed {
            Some(fixed) => {
                fixed.enter(table, path);
                rules::enter(meaning, context, at, table);
                meaning.honoured(line, table.shown());
            }
            None => refuse(
                meaning,
                at,
                table,
                ("404", "its response cannot be made here"),
            ),
        }
        ignore_rest(meaning, at, line);
        return Some(vec![table.clone()]);
    }
    if is_closed(meaning, context, at, path, table) {
        return Some(vec![table.clone()]);
    }
    let children = meaning.tree.children(Some(at)).rev();
    let is_pass = |child: &usize| matches!(meaning.name(*child), "uwsgi_pass" | "proxy_pass");
    let Some(pass) = children.into_iter().find(is_pass) else {
        return with_files(meaning, context, at, path, table);
    };
    if let Some(internal) = meaning.tree.named(Some(at), "internal").next() {
        let why = "no client may reach it, and files alone can be sent by X-Accel-Redirect";
        meaning.unsupported(internal, "files alone can be internal");
        refuse(meaning, at, table, ("404", why));
        return Some(vec![table.clone()]);
    }
    match upstreams::enter(meaning, context, pass, path, table) {
        Ok(()) => rules::enter(meaning, context, at, table),
        Err(reason) => {
            let why = "its server cannot be used, so the location answers 502";
            meaning.say(pass, reason);
            refuse(meaning, at, table, ("502", why));
        }
    }
    Some(vec![table.clone()])
}

/// Closes a location whose restriction or handler is not supported, or that admits no client.
fn is_closed(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    at: usize,
    path: &str,
    table: &mut Table,
) -> bool {
    let find = |meaning: &Meaning<'_>, names: &[&str]| {
        let mut children = meaning.tree.children(Some(at));
        children.find(|child| names.contains(&meaning.name(*child)))
    };
    let cannot = "the location is closed, because it cannot be restricted in this way here";
    if let Some(restriction) = find(meaning, RESTRICTIONS) {
        let name = meaning.name(restriction);
        let why = format!("{name} is not supported, so the location is closed");
        meaning.unsupported(restriction, cannot);
        refuse(meaning, at, table, ("403", &why));
        return true;
    }
    match access::enter(meaning, at, table) {
        access::Access::Open => {}
        access::Access::Unknown => {
            refuse(meaning, at, table, ("403", cannot));
            return true;
        }
        access::Access::Closed => {
            Fixed::status("403").enter(table, path);
            rules::enter(meaning, context, at, table);
            let inside = Verdict::NoEffect("no request gets so far".to_owned());
            meaning.say_inside(at, &inside);
            return true;
        }
    }
    let Some(other) = find(meaning, OTHER_HANDLERS) else {
        return false;
    };
    let name = meaning.name(other);
    let advice = match name {
        "stub_status" => "metrics and status are at --admin",
        "fastcgi_pass" => {
            "there is no FastCGI here: give the server an HTTP port, and use proxy_pass"
        }
        _ => "there is nothing like it here",
    };
    let why = format!("{name} is not supported, so the location answers 501");
    meaning.unsupported(other, advice);
    refuse(meaning, at, table, ("501", &why));
    true
}

/// The tables of a location with files, and of what stands behind them.
fn with_files(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    at: usize,
    path: &str,
    table: &mut Table,
) -> Option<Vec<Table>> {
    match files::enter(meaning, context, at, path, table) {
        Content::Nothing => None,
        Content::Made => Some(vec![table.clone()]),
        Content::Before(named) => {
            let mut behind = Table {
                at: named,
                entries: Vec::new(),
            };
            behind.set("prefix", plain(path));
            let made = answer(meaning, context, named, path, &mut behind);
            let made = made.unwrap_or_default();
            if let Some(first) = made.first() {
                meaning.honoured(named, first.shown());
            }
            let mut all = vec![table.clone()];
            all.extend(made);
            Some(all)
        }
        Content::Elsewhere { line, named } => {
            let made = answer(meaning, context, named, path, table);
            let shown = table.shown();
            meaning.honoured(line, shown.clone());
            meaning.honoured(named, shown);
            made
        }
    }
}

/// The files of a server that has no location for everything; false if it has no root.
fn files_of_server(meaning: &mut Meaning<'_>, context: &Context<'_>) -> bool {
    let at = context.site.at;
    if meaning.nearest(Some(at), "root").is_empty() {
        return false;
    }
    let mut table = Table {
        at,
        entries: Vec::new(),
    };
    table.set("prefix", "/");
    let made = with_files(meaning, context, at, "/", &mut table);
    for made in made.into_iter().flatten() {
        push(meaning, context.site, made);
    }
    true
}

/// Closes a location that cannot be made, so that no other answers in its place.
fn refuse(meaning: &mut Meaning<'_>, at: usize, table: &mut Table, (status, why): (&str, &str)) {
    table
        .entries
        .retain(|(name, _)| matches!(*name, "path" | "prefix" | "host"));
    Fixed::status(status).enter(table, "");
    meaning.unsupported(at, why.to_owned());
    meaning.say_inside(at, &Verdict::NoEffect("its location is closed".to_owned()));
}

/// Directives beside a `return` are not reached.
fn ignore_rest(meaning: &mut Meaning<'_>, at: usize, line: usize) {
    let children: Vec<_> = meaning
        .tree
        .children(Some(at))
        .filter(|child| *child != line)
        .collect();
    for child in children {
        let is_reached = matches!(
            meaning.name(child),
            "add_header"
                | "default_type"
                | "access_log"
                | "error_page"
                | "expires"
                | "types"
                | "include"
                | "location"
        );
        if !is_reached && meaning.verdicts[child].is_none() {
            meaning.no_effect(child, "the location answers before it");
            meaning.say_inside(
                child,
                &Verdict::NoEffect("the location answers before it".to_owned()),
            );
        }
    }
}
