//! The handler of a location: a fixed response, an application or server, or files.

use super::files::Content;
use super::locations::Context;
use super::redirects::{self, Fixed};
use super::try_files;
use super::{Meaning, Table, access, files, method_conditions, methods, rules, types, upstreams};
use crate::config::foreign::Verdict;
use crate::config::foreign::nginx::templates;

/// Completes `table`, which has its place, for a location; several where files stand before a server,
/// or methods have a response of their own. `None` if no client reaches it.
pub fn answer(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    at: usize,
    path: &str,
    table: &mut Table,
) -> Option<Vec<Table>> {
    if let Some(line) = internal(meaning, at)
        && let Some(closed) = closed_to_clients(meaning, context, (at, line), path, table)
    {
        return Some(vec![closed]);
    }
    let mut made = for_all_methods(meaning, context, at, path, table)?;
    made.extend(methods::tables(meaning, context, (at, path), &made, behind));
    Some(made)
}

/// The `internal` of a location, or of one around it; none for a named location, which no client names.
fn internal(meaning: &Meaning<'_>, at: usize) -> Option<usize> {
    let is_named = meaning.arg(at, 0).starts_with('@');
    let line = meaning.nearest(Some(at), "internal").first().copied();
    line.filter(|_| !is_named)
}

/// The table of an `internal` location that has something else than files of a directory: nginx refuses
/// clients before it looks at `return`, `deny` or a server (`ngx_http_core_find_config_phase`).
fn closed_to_clients(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    (at, line): (usize, usize),
    path: &str,
    table: &mut Table,
) -> Option<Table> {
    if meaning.has(at, |name| name.ends_with("_pass")) {
        let why = "no client may reach it, and files alone can be sent by X-Accel-Redirect";
        meaning.unsupported(line, "files alone can be internal");
        refuse(meaning, context, (at, path), table, ("404", why));
        return Some(table.clone());
    }
    let is_other =
        |name: &str| matches!(name, "return" | "rewrite" | "stub_status" | "deny" | "if");
    let is_own = meaning.tree.items[line].parent == Some(at);
    let has_root = ["root", "alias"]
        .iter()
        .any(|name| !meaning.nearest(Some(at), name).is_empty());
    if is_own && has_root && !meaning.has(at, is_other) {
        return None;
    }
    Fixed::status("404").enter(table, path);
    rules::enter(meaning, context, at, table);
    meaning.honoured(line, "clients get 404");
    meaning.honoured(at, table.shown());
    meaning.say_inside(at, &Verdict::NoEffect("no client reaches it".to_owned()));
    Some(table.clone())
}

fn for_all_methods(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    at: usize,
    path: &str,
    table: &mut Table,
) -> Option<Vec<Table>> {
    if let Some((line, fixed)) = redirects::fixed(meaning, context.site, at) {
        if let Some(named) = try_files::passed_on(meaning, context, line) {
            let made = behind(meaning, context, named, path, table);
            ignore_rest(meaning, at, line);
            return Some(made);
        }
        match fixed {
            Some(fixed) => {
                fixed.enter(table, path);
                rules::enter(meaning, context, at, table);
                meaning.honoured(line, format!("{}{}", table.shown(), types::note(table)));
            }
            None => refuse(
                meaning,
                context,
                (at, path),
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
    if let Some(line) = meaning.tree.named(Some(at), "stub_status").next() {
        table.set("stub_status", "yes");
        rules::enter(meaning, context, at, table);
        meaning.honoured(line, "stub_status = true");
        return Some(vec![table.clone()]);
    }
    let children = meaning.tree.children(Some(at)).rev();
    let is_pass = |child: &usize| matches!(meaning.name(*child), "uwsgi_pass" | "proxy_pass");
    let Some(pass) = children.into_iter().find(is_pass) else {
        return with_files(meaning, context, at, path, table);
    };
    match upstreams::enter(meaning, context, pass, path, table) {
        Ok(()) => rules::enter(meaning, context, at, table),
        // The start ends there until the placeholder is filled.
        Err(_)
            if let Some(name) = templates::unfilled(meaning.tree, pass, meaning.given.variable) =>
        {
            table.clear();
            Fixed::status("502").enter(table, "");
            let text = format!("{name} is a placeholder, which has to be filled first");
            meaning.say(pass, Verdict::Unset(text));
            let why = "its server is not known before the placeholder is filled";
            meaning.say(at, Verdict::Unset(why.to_owned()));
        }
        Err(reason) => {
            let why = "its server cannot be used, so the location answers 502";
            meaning.say(pass, reason);
            refuse(meaning, context, (at, path), table, ("502", why));
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
        refuse(meaning, context, (at, path), table, ("403", &why));
        return true;
    }
    match access::enter(meaning, at, table) {
        access::Access::Open => {}
        access::Access::Unknown => {
            refuse(meaning, context, (at, path), table, ("403", cannot));
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
        "fastcgi_pass" => {
            "there is no FastCGI here: give the server an HTTP port, and use proxy_pass"
        }
        _ => "there is nothing like it here",
    };
    let why = format!("{name} is not supported, so the location answers 501");
    meaning.unsupported(other, advice);
    refuse(meaning, context, (at, path), table, ("501", &why));
    true
}

/// The tables of a location with files, and of what stands behind them.
pub fn with_files(
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
            let made = behind(meaning, context, named, path, table);
            let mut all = vec![table.clone()];
            all.extend(methods::behind_files(meaning, made));
            Some(all)
        }
        Content::Elsewhere { line, named } => {
            let made = behind(meaning, context, named, path, table);
            if let Some(first) = made.first() {
                meaning.honoured(line, first.shown());
            }
            Some(made)
        }
    }
}

/// The tables of the named location that gets what `outer` passes on.
pub fn behind(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    named: usize,
    path: &str,
    outer: &Table,
) -> Vec<Table> {
    let mut behind = Table {
        at: named,
        entries: outer.entries.clone(),
    };
    behind.clear();
    if meaning.passing.contains(&named) {
        // nginx: "rewrite or internal redirection cycle".
        let why = "it passes requests on to itself, which nginx answers with 500";
        refuse(meaning, context, (named, path), &mut behind, ("500", why));
        return vec![behind];
    }
    meaning.passing.push(named);
    let mut made = answer(meaning, context, named, path, &mut behind).unwrap_or_default();
    meaning.passing.pop();
    for table in &mut made {
        rules::passed_body(meaning, outer.at, named, table);
        // nginx checks the access to the location that passes requests on, then that to this one.
        if access::inherit(outer, table) == access::Access::Unknown {
            let why = "its restrictions differ from those of the location that passes requests to it, so it is closed";
            refuse(meaning, context, (named, path), table, ("403", why));
        }
    }
    if let Some(first) = made.first() {
        meaning.honoured(named, first.shown());
    }
    made
}

/// Closes a location that cannot be made, so that no other answers in its place.
fn refuse(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    (at, path): (usize, &str),
    table: &mut Table,
    (status, why): (&str, &str),
) {
    table.clear();
    Fixed::status(status).enter(table, path);
    rules::enter(meaning, context, at, table);
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
        let is_before = child < line && meaning.name(child) == "if";
        if is_before && method_conditions::condition(meaning, child).is_some() {
            continue;
        }
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

/// Directives that restrict who gets a response, in a way that is not supported.
const RESTRICTIONS: &[&str] = &[
    "auth_request",
    "secure_link",
    "secure_link_secret",
    "auth_jwt",
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
    "dav_methods",
    "empty_gif",
    "echo",
    "passenger_enabled",
    "rtmp_stat",
];
