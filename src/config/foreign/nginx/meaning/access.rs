//! `allow`, `deny` and `auth_basic`.

use std::path::Path;

use super::{Meaning, Table};
use crate::config::foreign::Verdict;
use crate::config::locations as tables;

/// The clients that get a response of a location.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Those that its table admits.
    Open,
    /// No client.
    Closed,
    /// Clients that cannot be distinguished from others here.
    Unknown,
}

/// Restricts the table of a location as its block does.
pub fn enter(meaning: &mut Meaning<'_>, block: usize, table: &mut Table) -> Access {
    let mut all: Vec<usize> = meaning.nearest(Some(block), "allow");
    all.extend(meaning.nearest(Some(block), "deny"));
    // Both are one list, of the nearest block that has either.
    let depth = |at: &usize| {
        meaning.tree.items[*at]
            .parent
            .map_or(0, |parent| parent + 1)
    };
    let nearest = all.iter().map(depth).max();
    all.retain(|at| Some(depth(at)) == nearest);
    all.sort_unstable();
    let rules: Vec<String> = all
        .iter()
        .map(|at| format!("{} {}", meaning.name(*at), meaning.arg(*at, 0)))
        .collect();
    // With `satisfy any`, a password opens what no address does.
    let is_any = meaning.scalar_value(Some(block), "satisfy") == Some("any")
        && meaning
            .scalar_value(Some(block), "auth_basic")
            .is_some_and(|realm| realm != "off");
    if !is_any && rules.first().is_some_and(|rule| rule == "deny all") {
        meaning.honoured(all[0], "respond with the status 403");
        return Access::Closed;
    }
    let mut access = Access::Open;
    if !rules.is_empty() && (is_any || rules != ["allow all"]) {
        match tables::named("access") {
            Some(_) => {
                for (at, rule) in all.iter().zip(&rules) {
                    meaning.honoured(*at, format!("access = {rule:?}"));
                }
                table.entries.push(("access", rules));
            }
            None => {
                for at in &all {
                    meaning.unsupported(
                        *at,
                        "networks are not distinguished here, so the location is closed",
                    );
                }
                access = Access::Closed;
            }
        }
    } else if let Some(at) = all.first() {
        meaning.already(*at, "every client is allowed");
    }
    if password(meaning, block, table) == Access::Unknown {
        access = Access::Unknown;
    }
    if let (Some(at), Some(_)) = (
        meaning.scalar(Some(block), "satisfy"),
        tables::named("satisfy"),
    ) {
        table.set("satisfy", meaning.arg(at, 0));
        meaning.honoured(at, format!("satisfy = {:?}", meaning.arg(at, 0)));
    }
    access
}

/// Adds the restrictions of a location to those of the one that it passes its requests to; `Unknown`
/// if both have some, and not the same.
pub fn inherit(outer: &Table, inner: &mut Table) -> Access {
    let of = |table: &Table| -> Vec<_> {
        let all = table.entries.iter();
        all.filter(|(name, _)| RESTRICTIONS.contains(name))
            .cloned()
            .collect()
    };
    let (outer, own) = (of(outer), of(inner));
    match (outer.is_empty(), own.is_empty()) {
        (true, _) => Access::Open,
        (false, true) => {
            inner.entries.extend(outer);
            Access::Open
        }
        (false, false) if outer == own => Access::Open,
        _ => Access::Unknown,
    }
}

/// The settings of a restricted location.
pub const RESTRICTIONS: [&str; 4] = ["access", "basic_auth", "basic_auth_realm", "satisfy"];

/// The path of a file that nginx looks for beside its `nginx.conf`, which all packages have in
/// `/etc/nginx`.
pub fn beside_nginx_conf(path: &str) -> String {
    match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("/etc/nginx/{path}"),
    }
}

fn password(meaning: &mut Meaning<'_>, block: usize, table: &mut Table) -> Access {
    let Some(realm) = meaning.scalar(Some(block), "auth_basic") else {
        return Access::Open;
    };
    let file = meaning.scalar(Some(block), "auth_basic_user_file");
    if meaning.arg(realm, 0) == "off" {
        meaning.honoured(realm, "no password is asked for");
        return Access::Open;
    }
    let Some(file) = file else {
        meaning.say(
            realm,
            Verdict::Wrong("there is no auth_basic_user_file beside it".to_owned()),
        );
        return Access::Unknown;
    };
    if tables::named("basic_auth").is_none() {
        for at in [realm, file] {
            meaning.unsupported(at, "there are no passwords here, so the location is closed");
        }
        return Access::Unknown;
    }
    let (name, path) = (
        meaning.arg(realm, 0).to_owned(),
        beside_nginx_conf(meaning.arg(file, 0)),
    );
    meaning.honoured(realm, format!("basic_auth_realm = {name:?}"));
    let bad = (meaning.given.bad_passwords)(Path::new(&path)).unwrap_or_default();
    match bad.first() {
        None => meaning.honoured(file, format!("basic_auth = {path:?}")),
        // The start ends there.
        Some(problem) => meaning.unsupported(file, format!("{path}, {problem}")),
    }
    table.set("basic_auth_realm", name);
    table.set("basic_auth", path);
    Access::Open
}
