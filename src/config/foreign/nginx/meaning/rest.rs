//! The directives that no other file decides about: by the table, and placeholders of templates.

use super::redirects::{self, REWRITTEN};
use super::{Meaning, size, types, uwsgi_params};
use crate::config::foreign::Verdict;
use crate::config::foreign::class::Class;
use crate::config::foreign::nginx::directives;
use crate::config::foreign::nginx::templates;
use crate::config::foreign::nginx::tree::Include;
use crate::config::suggest;

/// Gives every directive without a verdict one.
pub fn decide(meaning: &mut Meaning<'_>) {
    for at in 0..meaning.tree.items.len() {
        if meaning.tree.fault.is_some() {
            meaning.no_effect(at, "the file cannot be read to its end");
            continue;
        }
        if meaning.verdicts[at].is_none() {
            let verdict = verdict(meaning, at);
            if meaning.tree.items[at].is_block && entries_of(meaning.name(at)) {
                meaning.say_inside(at, &inside(&verdict));
            } else if meaning.tree.items[at].is_block
                && matches!(verdict, Verdict::Unsupported(_) | Verdict::Unknown(_))
            {
                meaning.say_inside(at, &Verdict::NoEffect("its block has no effect".to_owned()));
            }
            meaning.verdicts[at] = Some(verdict);
        }
        let names = templates::unfilled(meaning.tree, at, meaning.given.variable);
        let is_used = matches!(
            meaning.verdicts[at],
            Some(
                Verdict::Honoured(_)
                    | Verdict::Noted(_)
                    | Verdict::Differs(_)
                    | Verdict::Wrong(_)
                    | Verdict::Unset(_)
                    | Verdict::Unsupported(_)
            )
        );
        if let Some(name) = names.filter(|_| is_used && !meaning.tree.items[at].is_block) {
            meaning.verdicts[at] = Some(Verdict::Unset(format!(
                "{name} is a placeholder, which has to be filled first"
            )));
        }
    }
}

/// True for blocks whose content is no directives.
pub fn entries_of(name: &str) -> bool {
    matches!(
        name,
        "map" | "geo" | "types" | "split_clients" | "match" | "charset_map"
    )
}

fn inside(verdict: &Verdict) -> Verdict {
    match verdict {
        Verdict::Unsupported(_) => Verdict::NoEffect("its block is not used".to_owned()),
        other => other.clone(),
    }
}

fn verdict(meaning: &Meaning<'_>, at: usize) -> Verdict {
    let item = &meaning.tree.items[at];
    if let Some(include) = &item.include {
        return included(include, item.arg(0));
    }
    if let Some(verdict) = of_a_part(meaning, at) {
        return verdict;
    }
    if item.name == "map" {
        return map(meaning, at);
    }
    if item.name == "ssl_verify_client" && item.arg(0) == "on" {
        return Verdict::Unsupported(
            "certificates of clients are asked for on all addresses with TLS or on none: as the servers do not agree, every client gets in (tls_client_ca)".to_owned(),
        );
    }
    if item.name == "rewrite" {
        return Verdict::Unsupported(REWRITTEN.to_owned());
    }
    if item.name == "default_type" {
        return types::unused(meaning, at);
    }
    if item.name == "if" && redirects::sets_alone(meaning, at) {
        return condition(meaning, at);
    }
    if item.name == "client_max_body_size" && is_limit_of_all(meaning, at) {
        return Verdict::AlreadySo("the limit of the whole site".to_owned());
    }
    if item.name == "set" {
        let is_used =
            is_variable_used(meaning, at, item.arg(0)) || is_of_directory(meaning, item.arg(0));
        return match is_used {
            true => Verdict::Read("the value of the variable".to_owned()),
            false => Verdict::NoEffect("no line that is honoured uses the variable".to_owned()),
        };
    }
    if item.name == "types" {
        return Verdict::Unsupported(
            "media types are those for all: --types EXT=TYPE, or types of a [[location]]"
                .to_owned(),
        );
    }
    if let Some(verdict) = for_all(meaning, at) {
        return verdict;
    }
    match directives::class(&item.name, item.arg(0)) {
        Some((Class::Honoured, text)) => Verdict::NoEffect(match text {
            "" => "no location that is served uses it".to_owned(),
            text => text.to_owned(),
        }),
        Some((_, "TLS")) => match &*item.name {
            "ssl_certificate" | "ssl_certificate_key" | "ssl" | "ssl_trusted_certificate" => {
                Verdict::NoEffect("no server that is served uses it".to_owned())
            }
            _ if item.arg(0) == "off" => {
                Verdict::AlreadySo("certificates of clients are not asked for".to_owned())
            }
            _ => Verdict::Unsupported("certificates of clients are not asked for".to_owned()),
        },
        Some((class, text)) => class.verdict(text.to_owned()),
        None => Verdict::Unknown(match suggest::closest(&item.name, directives::names()) {
            Some(meant) => format!("no directive of nginx, did you mean {meant}?"),
            None => "no directive of nginx".to_owned(),
        }),
    }
}

/// The verdict of an `include` of this file.
fn included(include: &Include, file: &str) -> Verdict {
    match include {
        Include::Read(0) => Verdict::NoEffect("no file has such a name".to_owned()),
        Include::Read(1) => Verdict::Read("the file".to_owned()),
        Include::Read(number) => Verdict::Read(format!("{number} files")),
        Include::Standard if file.ends_with("mime.types") => Verdict::AlreadySo(
            "media types are built in (.js is text/javascript, with nginx application/javascript)"
                .to_owned(),
        ),
        Include::Standard if file.ends_with("uwsgi_params") => {
            Verdict::AlreadySo(uwsgi_params::BUILT_IN.to_owned())
        }
        Include::Standard => {
            Verdict::AlreadySo("what nginx's own file says is built in".to_owned())
        }
        Include::Missing if is_about_tls(file) => Verdict::Noted(
            "the file is missing; TLS 1.2 and 1.3 have their own cipher suites".to_owned(),
        ),
        Include::Missing => Verdict::Wrong("there is no such file".to_owned()),
        Include::Failed(problem) => Verdict::Wrong(format!("it cannot be read: {problem}")),
    }
}

/// The verdict of a line that stands outside of a server.
fn of_a_part(meaning: &Meaning<'_>, at: usize) -> Option<Verdict> {
    let item = &meaning.tree.items[at];
    if item.name == "location" && item.parent.is_none() {
        let text = "a location stands in a server: explain the file that includes this one";
        return Some(Verdict::Wrong(text.to_owned()));
    }
    is_part(meaning).then(|| match at {
        0 => Verdict::Wrong(PART.to_owned()),
        _ => Verdict::NoEffect("it is for the site that includes this file".to_owned()),
    })
}

/// The verdict of a setting that has one value here, where another server or a location has its own.
fn for_all(meaning: &Meaning<'_>, at: usize) -> Option<Verdict> {
    let item = &meaning.tree.items[at];
    if !FOR_ALL.contains(&&*item.name) || meaning.around(at, "server").is_none() {
        return None;
    }
    let is_same = |other: &usize| {
        let twin = &meaning.tree.items[*other];
        twin.name == item.name && twin.args == item.args
    };
    let mut twins = (0..meaning.tree.items.len()).filter(is_same);
    let found = twins.find_map(|twin| match &meaning.verdicts[twin] {
        Some(verdict @ (Verdict::Honoured(_) | Verdict::AlreadySo(_))) => Some(verdict.clone()),
        _ => None,
    });
    let text = "it has one value for all servers and locations here, that of the first server";
    Some(
        found.unwrap_or_else(|| match item.name.contains("real_ip") {
            // Whose word counts about the address of a client.
            true => Verdict::Unsupported(text.to_owned()),
            false => Verdict::Differs(text.to_owned()),
        }),
    )
}

/// True for lines of a server or a location without the blocks around them.
fn is_part(meaning: &Meaning<'_>) -> bool {
    let mut blocks = meaning.tree.children(None);
    !blocks.any(|at| meaning.tree.items[at].is_block && meaning.name(at) != "location")
}

const PART: &str =
    "a part of a site, with no server around it: explain the file that includes this one";

/// Directives that `site` reads for the first server alone.
const FOR_ALL: &[&str] = &[
    "keepalive_timeout",
    "client_header_timeout",
    "send_timeout",
    "gzip_types",
    "gzip_min_length",
    "set_real_ip_from",
    "real_ip_header",
    "real_ip_recursive",
];

fn is_about_tls(file: &str) -> bool {
    ["ssl", "letsencrypt", "snakeoil", "tls"]
        .iter()
        .any(|word| file.contains(word))
}

/// A condition that does nothing but set variables.
fn condition(meaning: &Meaning<'_>, at: usize) -> Verdict {
    let mut sets = meaning.tree.children(Some(at));
    match sets.any(|set| is_variable_used(meaning, set, meaning.arg(set, 0))) {
        true => Verdict::Unsupported(
            "a variable with a value of each request: have the application decide".to_owned(),
        ),
        false => Verdict::NoEffect("no line that is honoured uses its variables".to_owned()),
    }
}

fn map(meaning: &Meaning<'_>, at: usize) -> Verdict {
    match meaning.arg(at, 0) {
        "$http_upgrade" => Verdict::AlreadySo("upgrades such as WebSocket pass through".to_owned()),
        _ => match is_variable_used(meaning, at, meaning.arg(at, 1)) {
            true => Verdict::Unsupported(
                "a value of each request: have the application decide".to_owned(),
            ),
            false => Verdict::NoEffect("no line that is honoured uses the variable".to_owned()),
        },
    }
}

/// True for the longest body of a server, or of what is around it, that is the one for all.
fn is_limit_of_all(meaning: &Meaning<'_>, at: usize) -> bool {
    let is_in_location = meaning.around(at, "location").is_some();
    !is_in_location && size(meaning.arg(at, 0)).is_some_and(|bytes| bytes == meaning.max_body)
}

/// True if a directory that is served has the variable, perhaps in a safer meaning.
fn is_of_directory(meaning: &Meaning<'_>, name: &str) -> bool {
    let items = meaning.tree.items.iter().zip(&meaning.verdicts);
    let mut directories = items.filter(|(item, _)| matches!(&*item.name, "root" | "alias"));
    directories.any(|(item, verdict)| {
        let is_served = matches!(verdict, Some(Verdict::Dangerous(_) | Verdict::Noted(_)));
        is_served && item.arg(0).contains(name)
    })
}

/// True if another directive that is not without effect has the variable.
fn is_variable_used(meaning: &Meaning<'_>, at: usize, name: &str) -> bool {
    let items = meaning.tree.items.iter().zip(&meaning.verdicts).enumerate();
    let name = name.trim_start_matches('$');
    let (plain, braced) = (format!("${name}"), format!("${{{name}}}"));
    items
        .filter(|(other, _)| *other != at)
        .any(|(_, (item, verdict))| {
            let has = item
                .texts()
                .any(|text| text.contains(&plain) || text.contains(&braced));
            has && !matches!(
                verdict,
                Some(
                    Verdict::NoEffect(_)
                        | Verdict::Noted(_)
                        | Verdict::Differs(_)
                        | Verdict::Unsupported(_)
                        | Verdict::Dangerous(_)
                        | Verdict::AlreadySo(_)
                )
            )
        })
}
