//! The routes of uWSGI whose shape has a counterpart: an action for a path, for all below a path, for
//! a host, or for every request.
//!
//! A route matches a regular expression against the path; a location has a path, a prefix or a start.
//! If a pattern also matches `/adminX` for `/admin`, the location covers less: that is noted,
//! and is dangerous where the route keeps clients out.

mod file_places;

use file_places::FilePlace;

use super::Meaning;
use super::responses::header_rule;
use crate::config::foreign::{Verdict, equivalent, origin};
use crate::config::hosts::HostPattern;
use crate::config::layers::SettingsTable;
use crate::config::{htpasswd, locations, native};

pub(super) fn decide(meaning: &mut Meaning<'_>) {
    // The areas of `continue` and `last`, behind which no route is looked at.
    let mut ended: Vec<(Area, usize)> = Vec::new();
    for at in meaning.all(&["route", "route-uri", "route-host", "route-run"]) {
        let value = meaning.value(at).to_owned();
        let key = meaning.items[at].key.clone();
        let (pattern, action) = match &*key {
            "route-run" => ("", &*value),
            _ => value.split_once(' ').unwrap_or((&value, "")),
        };
        let areas = match &*key {
            "route-run" => Some(vec![Area::All]),
            "route-host" => host(pattern).map(|host| vec![Area::Host(host)]),
            _ => areas(pattern),
        };
        let (name, argument) = action.trim().split_once(':').unwrap_or((action.trim(), ""));
        // What a group has matched is not known for each of its alternatives.
        let areas = areas.filter(|areas| areas.len() == 1 || !argument.contains('$'));
        let is_restriction = name.starts_with("basicauth");
        let result = match areas {
            Some(areas) if key != "route" || !is_stripped(meaning, &areas) => {
                all_of(meaning, at, &areas, (name, argument.trim()), &mut ended)
            }
            _ if is_restriction => Err(open_without_password()),
            Some(_) => Err(Verdict::Unsupported(STRIPPED.to_owned())),
            None => Err(no_counterpart()),
        };
        match result {
            Ok(()) => differences(meaning, at, pattern, (name, argument)),
            Err(verdict) => meaning.say(at, verdict),
        }
    }
}

/// Says how the requests and the responses of a route that is honoured differ.
fn differences(
    meaning: &mut Meaning<'_>,
    at: usize,
    pattern: &str,
    (name, argument): (&str, &str),
) {
    let areas = areas(pattern).unwrap_or_default();
    let below = areas.iter().find_map(|area| match area {
        Area::Below(path) => Some(path),
        _ => None,
    });
    let has_own = ["(/", "(?:/"].iter().any(|group| pattern.contains(group));
    if let Some(path) = below.filter(|_| !has_own && name != "donotlog") {
        meaning.note(at, &format!("also for {path} itself"));
    }
    // uWSGI compares the whole target, REQUEST_URI.
    let is_exact = areas.iter().any(|area| matches!(area, Area::Exact(_)));
    if is_exact && meaning.items[at].key == "route-uri" {
        meaning.note(at, "also with a query");
    }
    let is_of_path = argument.contains("${PATH_INFO}")
        || argument.contains("$1") && meaning.items[at].key == "route";
    if name.starts_with("redirect") && is_of_path {
        meaning.note(at, "with the query, which uWSGI leaves out");
    }
    if meaning.items[at].key == "route-host" {
        meaning.note(at, "also with a port, and in letters of any case");
    }
    let is_for_all = areas == [Area::All] && name.ends_with("header");
    if is_for_all {
        meaning.note(at, "also for files and redirects");
    }
}

/// The advice for a route that uWSGI compares with a path that has lost its mount point.
const STRIPPED: &str = "with `manage-script-name` uWSGI compares the path behind the mount point, for every application: use a [[location]] below each prefix";

/// True if uWSGI takes the mount point off the path before it compares some of these (core/uwsgi.c,
/// `uwsgi_parse_vars`).
fn is_stripped(meaning: &Meaning<'_>, areas: &[Area]) -> bool {
    let by_path = |area: &Area| !matches!(area, Area::All | Area::Host(_));
    areas.iter().any(by_path) && !meaning.stripped_mounts().is_empty()
}

/// Obeys an action for each of the areas of a line.
fn all_of(
    meaning: &mut Meaning<'_>,
    at: usize,
    areas: &[Area],
    (name, argument): (&str, &str),
    ended: &mut Vec<(Area, usize)>,
) -> Result<(), Verdict> {
    let mut texts = Vec::new();
    for area in areas {
        if matches!(name, "continue" | "last") {
            let text = "the end of the routes for these requests";
            meaning.say(at, Verdict::Read(text.to_owned()));
            ended.push((area.clone(), meaning.items[at].place.line));
            continue;
        }
        if let Some((by, line)) = ended.iter().find(|(by, _)| by.overlaps(area)) {
            return Err(behind_the_end(by.covers(area), *line, name));
        }
        act(meaning, at, area, name, argument)?;
        if let Some(Verdict::Honoured(text)) = &meaning.verdicts[at] {
            texts.push(text.clone());
        }
    }
    if texts.len() > 1 {
        meaning.say(at, Verdict::Honoured(texts.join(", ")));
    }
    Ok(())
}

fn no_counterpart() -> Verdict {
    let advice =
        "this routing rule of uWSGI has no counterpart: use a [[location]], or the application";
    Verdict::Unsupported(advice.to_owned())
}

/// The verdict of a route for requests of which `continue` in an earlier `line` has ended all, or a part.
fn behind_the_end(is_covered: bool, line: usize, action: &str) -> Verdict {
    match is_covered {
        true => Verdict::NoEffect(format!("line {line} ends the routes for these requests")),
        false if action.starts_with("basicauth") => open_without_password(),
        false => Verdict::Unsupported(format!(
            "line {line} ends the routes for a part of these requests: use a [[location]] for the others"
        )),
    }
}

fn open_without_password() -> Verdict {
    Verdict::Wrong(
        "these paths would be open: protect a [[location]] with `basic_auth`, and remove the line"
            .to_owned(),
    )
}

/// The requests of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Area {
    /// Every request.
    All,
    /// These paths alone.
    Exact(Vec<String>),
    /// All below this path, which has no slash at its end.
    Below(String),
    /// All that begins so, also in the middle of a segment.
    Start(String),
    /// All of this host.
    Host(String),
}

impl Area {
    /// True if every request of the other is one of this.
    fn covers(&self, other: &Self) -> bool {
        let has = |path: &str, is_whole: bool| match self {
            Self::All => true,
            Self::Exact(paths) => is_whole && paths.iter().any(|own| own == path),
            Self::Below(own) => {
                let rest = path.strip_prefix(own.as_str());
                rest.is_some_and(|rest| rest.starts_with('/') || rest.is_empty() && !is_whole)
            }
            Self::Start(own) => path.starts_with(own.as_str()),
            Self::Host(_) => false,
        };
        match other {
            _ if self == other => true,
            Self::All | Self::Host(_) => matches!(self, Self::All),
            Self::Exact(paths) => paths.iter().all(|path| has(path, true)),
            Self::Below(path) => has(path, false),
            Self::Start(path) => match self {
                Self::Below(own) => path.starts_with(&format!("{own}/")),
                _ => has(path, false),
            },
        }
    }

    /// True if a request of the other may be one of this.
    fn overlaps(&self, other: &Self) -> bool {
        let is_host = |area: &Self| matches!(area, Self::Host(_));
        let is_in = |one: &Self, other: &Self| match other {
            Self::Exact(paths) => {
                let mut paths = paths.iter();
                paths.any(|path| {
                    // The pattern may be that of the directory itself as well.
                    matches!(one, Self::Below(own) if own == path)
                        || one.covers(&Self::Exact(vec![path.clone()]))
                })
            }
            _ => one.covers(other),
        };
        is_host(self) != is_host(other) || is_in(self, other) || is_in(other, self)
    }
}

/// The areas of a pattern for paths: one, or one for each alternative of its one group.
fn areas(pattern: &str) -> Option<Vec<Area>> {
    if let Some(area) = path(pattern) {
        return Some(vec![area]);
    }
    let (start, rest) = pattern.split_once('(')?;
    let (inside, end) = rest.split_once(')')?;
    let inside = inside.strip_prefix("?:").unwrap_or(inside);
    let is_group = inside.contains('|') && !end.starts_with(['*', '+', '?', '{']);
    if !is_group || start.ends_with('\\') || inside.contains(['(', '\\', '[', '?', '*', '+']) {
        return None;
    }
    let alternatives = inside.split('|');
    let areas: Option<Vec<_>> = alternatives
        .map(|one| path(&format!("{start}{one}{end}")))
        .collect();
    let exact = |area: &Area| match area {
        Area::Exact(paths) => Some(paths.clone()),
        _ => None,
    };
    let areas = areas?;
    // Plain paths are one area, as for a slash that may be missing.
    Some(match areas.iter().map(exact).collect::<Option<Vec<_>>>() {
        Some(paths) => vec![Area::Exact(paths.concat())],
        None => areas,
    })
}

/// The area of a pattern for paths.
fn path(pattern: &str) -> Option<Area> {
    let all = [
        "", "/", "^", ".*", "^.*", "^.*$", "^/", "^/.*", "^/.*$", "^/(.*)", "^/(.*)$", "^(.*)$",
        "(.*)",
    ];
    if all.contains(&pattern) {
        return Some(Area::All);
    }
    let (literal, rest) = literal(pattern.strip_prefix('^')?)?;
    let area = match rest {
        "$" => Area::Exact(vec![literal]),
        "/?$" => Area::Exact(vec![format!("{literal}/"), literal]),
        "" | ".*" | ".*$" | "(.*)" | "(.*)$" | ".+" | "(.+)" | "(.+)$" => {
            match literal.strip_suffix('/') {
                Some(path) => Area::Below(path.to_owned()),
                None => Area::Start(literal),
            }
        }
        "(/.*)?$" | "(/|$)" | "(?:/|$)" | "(/(.*))?$" => Area::Below(literal),
        _ => return None,
    };
    Some(area)
}

/// The plain path at the start of a regular expression, and the rest of it.
fn literal(pattern: &str) -> Option<(String, &str)> {
    let special = ['*', '+', '?', '(', ')', '[', ']', '{', '}', '|', '^', '$'];
    let mut literal = String::new();
    let mut rest = pattern;
    while let Some(char) = rest.chars().next() {
        let behind = &rest[char.len_utf8()..];
        // `.*`, and a slash that may be missing, begin the rest.
        let is_repeated = behind.starts_with(['*', '+', '?', '{']);
        if is_repeated || special.contains(&char) {
            break;
        }
        match char {
            '\\' => {
                let escaped = behind
                    .chars()
                    .next()
                    .filter(|c| !c.is_ascii_alphanumeric())?;
                if behind[escaped.len_utf8()..].starts_with(['*', '+', '?', '{']) {
                    return None;
                }
                literal.push(escaped);
                rest = &behind[escaped.len_utf8()..];
            }
            char => {
                literal.push(char);
                rest = behind;
            }
        }
    }
    let is_plain = literal.starts_with('/')
        && literal.len() > 1
        && !literal.contains("//")
        && !literal.contains(['?', '#', '%', '\\'])
        && !literal.split('/').any(|part| matches!(part, "." | ".."));
    is_plain.then_some((literal, rest))
}

/// The host of a pattern, as `host` takes it. uWSGI compares the field with its port.
fn host(pattern: &str) -> Option<String> {
    let start = pattern.strip_suffix('$').unwrap_or(pattern);
    let (start, is_below) = match start.strip_prefix('^') {
        Some(rest) => match rest.strip_prefix(".*\\.").or(rest.strip_prefix("(.*)\\.")) {
            Some(rest) => (rest, true),
            None => (rest, false),
        },
        None => (
            start.strip_prefix(".*\\.").or(start.strip_prefix("\\."))?,
            true,
        ),
    };
    let name = start.replace("\\.", ".").replace("\\-", "-");
    let host = match is_below {
        true => format!("*.{name}"),
        false => name,
    };
    (!host.is_empty() && HostPattern::parse(&host).is_ok()).then_some(host)
}

/// Obeys one action; the error is the verdict of a line that sets nothing.
fn act(
    meaning: &mut Meaning<'_>,
    at: usize,
    area: &Area,
    name: &str,
    argument: &str,
) -> Result<(), Verdict> {
    match name {
        "donotlog" => do_not_log(meaning, at, area),
        "addheader" => add_header(meaning, at, area, &format!("always add {argument}")),
        "remheader" | "delheader" => add_header(meaning, at, area, &format!("remove {argument}")),
        "basicauth" => basic_auth(meaning, at, area, argument),
        "basicauth-next" => Err(open_without_password()),
        "redirect" | "redirect-302" => redirect(meaning, at, area, argument, 302),
        "redirect-permanent" | "redirect-301" => redirect(meaning, at, area, argument, 301),
        "break" | "return" => respond(meaning, at, area, argument),
        "http" => {
            let address = upstream("http", argument).ok_or_else(no_counterpart)?;
            answer(meaning, at, area, &[("upstream", address)])
        }
        "uwsgi" => {
            let address = match argument.split(',').collect::<Vec<_>>()[..] {
                [address] | [address, "0", "0"] => upstream("uwsgi", address),
                _ => None,
            };
            let address = address.ok_or_else(no_counterpart)?;
            answer(meaning, at, area, &[("upstream", address)])
        }
        _ => Err(no_counterpart()),
    }
}

fn do_not_log(meaning: &mut Meaning<'_>, at: usize, area: &Area) -> Result<(), Verdict> {
    let paths = match area {
        Area::All => vec!["/*".to_owned()],
        Area::Exact(paths) => paths.clone(),
        Area::Below(path) => vec![format!("{path}/*")],
        Area::Start(path) => vec![format!("{path}*")],
        Area::Host(_) => return Err(no_counterpart()),
    };
    for path in &paths {
        meaning.append(at, "access_log_skip", path.clone());
    }
    if paths.len() > 1 {
        let text = format!("access_log_skip = {paths:?}");
        meaning.say(at, Verdict::Honoured(text));
    }
    Ok(())
}

fn add_header(
    meaning: &mut Meaning<'_>,
    at: usize,
    area: &Area,
    rule: &str,
) -> Result<(), Verdict> {
    let rule = header_rule(rule)?;
    match area {
        Area::All => {
            meaning.append(at, "header", rule);
            Ok(())
        }
        _ => protect(meaning, at, area, &[("header", rule)]),
    }
}

/// `basicauth:Realm,FILE`; with `user:password` in place of the file, the paths are closed.
fn basic_auth(
    meaning: &mut Meaning<'_>,
    at: usize,
    area: &Area,
    argument: &str,
) -> Result<(), Verdict> {
    let Some((realm, file)) = argument.split_once(',') else {
        return Err(Verdict::Wrong("it needs `basicauth:REALM,FILE`".to_owned()));
    };
    if file.contains(':') {
        let closed = [("access", "deny all".to_owned())];
        match area {
            Area::All => return Err(open_without_password()),
            _ => protect(meaning, at, area, &closed).map_err(|_| open_without_password())?,
        }
        let why = "access = \"deny all\" closes these paths: write the user with `htpasswd -B`, and give the [[location]] basic_auth = FILE";
        meaning.say(at, Verdict::Unsupported(why.to_owned()));
        return Ok(());
    }
    let path = meaning.around.current_dir.join(native::path(file));
    if let Ok(bytes) = (meaning.around.files.read)(&path, LONGEST_PASSWORDS) {
        let (_, bad) = htpasswd::parse(&bytes);
        if !bad.is_empty() {
            let why = "the file has hashes other than bcrypt and SHA-2: write it again with `htpasswd -B`";
            return Err(Verdict::Wrong(why.to_owned()));
        }
    }
    let settings = [
        ("basic_auth", file.to_owned()),
        ("basic_auth_realm", realm.to_owned()),
    ];
    if *area != Area::All {
        return protect(meaning, at, area, &settings).map_err(|_| open_without_password());
    }
    for (name, value) in settings {
        meaning.honour(at, name, vec![value]);
    }
    let text = format!("basic_auth = {file:?}, basic_auth_realm = {realm:?} (for files, too)");
    meaning.say(at, Verdict::Honoured(text));
    Ok(())
}

/// `user:password` of `basicauth:Realm,user:password`.
pub(super) fn password(value: &str) -> Option<String> {
    let (_, argument) = value.split_once("basicauth")?;
    let (_, credentials) = argument.split_once(',')?;
    credentials
        .contains(':')
        .then(|| credentials.trim().to_owned())
}

/// Longest password file that is looked into.
const LONGEST_PASSWORDS: usize = 1 << 20;

/// Settings for the application's requests of this area.
fn protect(
    meaning: &mut Meaning<'_>,
    at: usize,
    area: &Area,
    settings: &[(&str, String)],
) -> Result<(), Verdict> {
    let files = file_places::of(meaning, area)?;
    let is_for_files = !files.is_empty();
    let area = &match area {
        Area::Start(path) if is_for_files => Area::Below(path.clone()),
        area => area.clone(),
    };
    let has_file = |place: &Vec<(&'static str, String)>| {
        let mut single = files.iter().filter(|file| file.handler.0 == "file");
        single.any(|file| place.contains(&file.place))
    };
    let others = places(area, settings).into_iter();
    for place in others.filter(|place| !has_file(place)) {
        if let Some(index) = table_at(meaning, &place, false) {
            extend(meaning, at, index, settings)?;
            continue;
        }
        if let Some((_, path)) = place.iter().find(|(name, _)| *name != "host")
            && is_mounted(meaning, path)
        {
            let advice =
                "an application is mounted above this path: give it a [[location]] of its own";
            return Err(Verdict::Unsupported(advice.to_owned()));
        }
        let mut given = place;
        given.push(("pass", "@app".to_owned()));
        given.extend_from_slice(settings);
        let table = meaning.table(at, &mut locations::all(), &given);
        meaning.draft.layer.locations.push(table);
    }
    for file in files {
        protect_files(meaning, at, &file, settings)?;
    }
    report(meaning, at, area, settings);
    if is_for_files {
        meaning.note(at, "for the files there, too");
    }
    Ok(())
}

/// The table with files at this place, or the one with another handler.
fn table_at(meaning: &Meaning<'_>, place: &[(&str, String)], has_files: bool) -> Option<usize> {
    let is_one = |table: &SettingsTable| {
        let files = ["static", "file"];
        let has = files.iter().any(|kind| table.entry(kind).is_some());
        has == has_files && is_at(table, place)
    };
    meaning.draft.layer.locations.iter().position(is_one)
}

/// Settings for the files of an area, which get a table of their own.
fn protect_files(
    meaning: &mut Meaning<'_>,
    at: usize,
    file: &FilePlace,
    settings: &[(&str, String)],
) -> Result<(), Verdict> {
    let place = vec![file.place.clone()];
    if let Some(index) = table_at(meaning, &place, true) {
        return add(meaning, at, index, settings);
    }
    let (_, path) = &file.place;
    let (_, dir) = &file.handler;
    let served = format!("{path}={dir}");
    meaning.draft.layer.remove_value("static", &served);
    let mut given = place;
    given.push(file.handler.clone());
    if file.handler.0 == "static" {
        given.push(("missing", "app".to_owned()));
    }
    given.extend_from_slice(settings);
    let table = meaning.table(at, &mut locations::all(), &given);
    meaning.draft.layer.locations.push(table);
    file_places::inherit(meaning, at, file);
    Ok(())
}

/// Adds settings to a table that another line made.
fn extend(
    meaning: &mut Meaning<'_>,
    at: usize,
    index: usize,
    settings: &[(&str, String)],
) -> Result<(), Verdict> {
    let table = &meaning.draft.layer.locations[index];
    let answers = ["redirect", "respond"];
    if answers.iter().any(|kind| table.entry(kind).is_some()) {
        let why = "another line answers there".to_owned();
        return Err(Verdict::NoEffect(why));
    }
    add(meaning, at, index, settings)
}

/// Adds settings to a table, in so far as no other line has set them.
fn add(
    meaning: &mut Meaning<'_>,
    at: usize,
    index: usize,
    settings: &[(&str, String)],
) -> Result<(), Verdict> {
    let item = &meaning.items[at];
    let origin = origin(&item.place, &item.text);
    let table = &mut meaning.draft.layer.locations[index];
    for (name, value) in settings {
        let Some(setting) = locations::named(name) else {
            continue;
        };
        let before = table.entry(name).map(|entry| entry.values.clone());
        let values = match before {
            Some(mut values) if setting.repeatable => {
                values.push(value.clone());
                values
            }
            Some(_) => {
                let why = format!("another line sets {name} there");
                return Err(Verdict::NoEffect(why));
            }
            None => vec![value.clone()],
        };
        table.insert(setting, values, origin.clone());
    }
    Ok(())
}

/// True if an application other than that of the whole site answers there.
fn is_mounted(meaning: &Meaning<'_>, path: &str) -> bool {
    let mut tables = meaning.draft.layer.locations.iter();
    tables.any(|table| {
        let prefix = one(table, "prefix").unwrap_or_default();
        let rest = path.strip_prefix(prefix.trim_end_matches('/'));
        table.entry("app").is_some()
            && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

fn redirect(
    meaning: &mut Meaning<'_>,
    at: usize,
    area: &Area,
    target: &str,
    status: u16,
) -> Result<(), Verdict> {
    let target = target.replace("${HTTP_HOST}", locations::HOST);
    let (base, keeps_path) = match area {
        Area::All => return Err(no_counterpart()),
        Area::Host(_) => whole_target(&target),
        Area::Exact(paths) => {
            whole_target(&target).map(|(base, keeps)| match (keeps, &paths[..]) {
                // The one path, and its query.
                (true, [path]) => (format!("{base}{path}"), true),
                _ => (base, keeps),
            })
        }
        Area::Below(path) | Area::Start(path) => match target.strip_suffix("/$1") {
            Some(base) => Some((base.to_owned(), true)),
            None => whole_target(&target).map(|(base, keeps)| match keeps {
                true => (format!("{base}{path}"), true),
                false => (base, false),
            }),
        },
    }
    .ok_or_else(no_counterpart)?;
    let base = match base.is_empty() {
        true => "/".to_owned(),
        false => base,
    };
    let is_path = base.starts_with('/') && !base.starts_with("//");
    let is_url = ["http://", "https://"].iter().any(|scheme| {
        base.strip_prefix(scheme)
            .is_some_and(|rest| !rest.is_empty())
    });
    let is_plain = base
        .chars()
        .all(|c| c.is_ascii_graphic() && !"$\\".contains(c));
    let own = match area {
        Area::Exact(paths) => paths.contains(&base),
        Area::Below(path) | Area::Start(path) => base.starts_with(&**path),
        _ => is_path,
    };
    if !(is_path || is_url) || !is_plain || own {
        return Err(no_counterpart());
    }
    let mut settings = vec![("redirect", base), ("status", status.to_string())];
    match (keeps_path, area) {
        (true, _) => settings.push(("keep_path", "yes".to_owned())),
        // It keeps none.
        (false, Area::Start(_)) => {}
        (false, _) => settings.push(("keep_path", "no".to_owned())),
    }
    answer(meaning, at, area, &settings)
}

/// The target without the part that repeats the path of the request, and whether it had one.
fn whole_target(target: &str) -> Option<(String, bool)> {
    let ends = ["${REQUEST_URI}", "${PATH_INFO}"];
    let kept = ends.iter().find_map(|end| target.strip_suffix(end));
    let (base, keeps) = match kept {
        Some(base) => (base.trim_end_matches('/'), true),
        None => (target, false),
    };
    (!base.contains('$')).then(|| (base.to_owned(), keeps))
}

/// `break:403 Forbidden`.
fn respond(
    meaning: &mut Meaning<'_>,
    at: usize,
    area: &Area,
    argument: &str,
) -> Result<(), Verdict> {
    let code = argument.split_whitespace().next().unwrap_or_default();
    let is_status = code.len() == 3
        && code
            .parse::<u16>()
            .is_ok_and(|code| (200..600).contains(&code));
    if !is_status || *area == Area::All {
        return Err(no_counterpart());
    }
    let settings = [("respond", String::new()), ("status", code.to_owned())];
    answer(meaning, at, area, &settings)
}

/// `127.0.0.1:8080` or `/run/x.sock` as `upstream` takes it.
fn upstream(scheme: &str, address: &str) -> Option<String> {
    match address.strip_prefix("unix:").unwrap_or(address) {
        path if path.starts_with('/') => Some(format!("{scheme}+unix:{path}")),
        address => {
            let (host, port) = address.rsplit_once(':')?;
            let is_plain = !host.is_empty() && !host.contains(['$', '/', ' ']);
            (is_plain && port.parse::<u16>().is_ok()).then(|| format!("{scheme}://{address}"))
        }
    }
}

/// A location that answers in place of the application.
fn answer(
    meaning: &mut Meaning<'_>,
    at: usize,
    area: &Area,
    settings: &[(&str, String)],
) -> Result<(), Verdict> {
    let places = places(area, settings);
    if *area == Area::All {
        return Err(no_counterpart());
    }
    if let Some(prefix) = file_places::precede(meaning, area)
        && !matches!(area, Area::Host(_))
    {
        return Err(file_places::beside(prefix));
    }
    for place in &places {
        if let Some(table) = meaning
            .draft
            .layer
            .locations
            .iter()
            .find(|table| is_at(table, place))
        {
            return Err(
                match table.entry("pass").is_some() || table.entry("app").is_some() {
                    true => {
                        Verdict::Unsupported("another line has settings for this path".to_owned())
                    }
                    false => Verdict::NoEffect("another line answers there".to_owned()),
                },
            );
        }
    }
    for mut given in places {
        given.extend_from_slice(settings);
        let table = meaning.table(at, &mut locations::all(), &given);
        meaning.draft.layer.locations.push(table);
    }
    report(meaning, at, area, settings);
    if let Some(prefix) = file_places::within(meaning, area).map(str::to_owned) {
        meaning.note(at, &format!("the files of {prefix} are served there, too"));
    }
    Ok(())
}

/// Path and host of an area, as settings of locations.
fn places(area: &Area, settings: &[(&str, String)]) -> Vec<Vec<(&'static str, String)>> {
    match area {
        Area::All => vec![vec![("prefix", "/".to_owned())]],
        Area::Exact(paths) => {
            let paths = paths.iter();
            paths.map(|path| vec![("path", path.clone())]).collect()
        }
        Area::Start(path) if !keeps_path(settings) => vec![vec![("starts_with", path.clone())]],
        Area::Below(path) | Area::Start(path) => vec![vec![("prefix", path.clone())]],
        Area::Host(host) => vec![vec![("host", host.clone())]],
    }
}

/// True for a redirect that appends the rest of the path, which has to begin with a slash.
fn keeps_path(settings: &[(&str, String)]) -> bool {
    settings.contains(&("keep_path", "yes".to_owned()))
}

fn one(table: &SettingsTable, name: &str) -> Option<String> {
    table.entry(name)?.values.first().cloned()
}

fn is_at(table: &SettingsTable, place: &[(&str, String)]) -> bool {
    let given = |name: &str| {
        let found = place.iter().find(|(given, _)| *given == name);
        found.map(|(_, value)| value.clone())
    };
    let start = |given: &dyn Fn(&str) -> Option<String>| given("prefix").or(given("starts_with"));
    start(&|name| one(table, name)) == start(&given)
        && ["path", "host"]
            .iter()
            .all(|name| one(table, name) == given(name))
}

/// The verdict of a line that made locations.
fn report(meaning: &mut Meaning<'_>, at: usize, area: &Area, settings: &[(&str, String)]) {
    let place = match area {
        Area::All => "prefix = \"/\"".to_owned(),
        Area::Exact(paths) if paths.len() > 2 => format!("path = {paths:?}"),
        Area::Exact(paths) => format!("path = {:?}", paths[0]),
        Area::Start(path) if !keeps_path(settings) => format!("starts_with = {path:?}"),
        Area::Below(path) | Area::Start(path) => format!("prefix = {path:?}"),
        Area::Host(host) => format!("host = {host:?}"),
    };
    let assigned = settings.iter().filter_map(|(name, value)| {
        let setting = locations::named(name)?;
        Some(equivalent::assignment(setting, std::slice::from_ref(value)))
    });
    let assigned: Vec<_> = assigned.collect();
    let text = format!("[[location]] {place}, {}", assigned.join(", "));
    let verdict = match area {
        Area::Start(path) if keeps_path(settings) => {
            Verdict::Honoured(format!("{text} (not for {path}X: whole segments)"))
        }
        _ => Verdict::Honoured(text),
    };
    meaning.say(at, verdict);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_plain_paths_have_an_area() {
        let check = |pattern: &str, expected: Option<Area>| {
            assert_eq!(path(pattern), expected, "{pattern}");
        };
        let exact =
            |paths: &[&str]| Some(Area::Exact(paths.iter().map(|p| (*p).to_owned()).collect()));
        let below = |path: &str| Some(Area::Below(path.to_owned()));
        let start = |path: &str| Some(Area::Start(path.to_owned()));
        check(".*", Some(Area::All));
        check("^/", Some(Area::All));
        check("^/health$", exact(&["/health"]));
        check("^/health/?$", exact(&["/health/", "/health"]));
        check("^/robots\\.txt$", exact(&["/robots.txt"]));
        check("^/api/", below("/api"));
        check("^/api/(.*)$", below("/api"));
        check("^/api(/.*)?$", below("/api"));
        check("^/api", start("/api"));
        check("^/api.*", start("/api"));
        check("^/(a|b)/", None);
        check("^/a[0-9]+$", None);
        check("^/a\\d$", None);
        check("/api", None);
        check("^/a+$", None);
        check("^/a//b", None);
        check("\\.php$", None);
    }

    #[test]
    fn alternatives_of_a_group_are_areas_of_their_own() {
        let check = |pattern: &str, expected: Option<&[&str]>| {
            let one = |text: &&str| path(text).unwrap();
            let expected = expected.map(|all| all.iter().map(one).collect::<Vec<_>>());
            assert_eq!(areas(pattern), expected, "{pattern}");
        };
        let exact = Area::Exact(vec!["/health".to_owned(), "/ping".to_owned()]);
        assert_eq!(areas("^/(health|ping)$"), Some(vec![exact]));
        check("^/(?:admin|staff)/", Some(&["^/admin/", "^/staff/"]));
        check("^/(admin|staff)/(.*)$", Some(&["^/admin/", "^/staff/"]));
        check("^/api/(v1|v2)", Some(&["^/api/v1", "^/api/v2"]));
        check("^/a$", Some(&["^/a$"]));
        check("^/(a|b)?$", None);
        check("^/(a|b+)$", None);
        check("^/(a|(b|c))$", None);
        check("^/\\(a|b)$", None);
        check("^/(a|b", None);
    }

    #[test]
    fn areas_cover_and_overlap_as_their_requests_do() {
        let area = |text: &str| path(text).unwrap();
        let check = |one: &str, other: &str, covers: bool, overlaps: bool| {
            let (one, other) = (area(one), area(other));
            assert_eq!(one.covers(&other), covers, "{one:?} {other:?}");
            assert_eq!(one.overlaps(&other), overlaps, "{one:?} {other:?}");
            assert_eq!(other.overlaps(&one), overlaps, "{one:?} {other:?}");
        };
        check("^/health/", "^/health/", true, true);
        check("^/health/", "^/health/live$", true, true);
        check("^/health/", "^/", false, true);
        check("^/", "^/health", true, true);
        check("^/health", "^/health/", true, true);
        check("^/health/", "^/health", false, true);
        check("^/health/", "^/healthy/", false, false);
        check("^/health/", "^/static/.*", false, false);
        check("^/a$", "^/a/?$", false, true);
        check("^/a/?$", "^/a$", true, true);
        check("^/a$", "^/b$", false, false);
        let host = Area::Host("a.test".to_owned());
        assert!(Area::All.covers(&host) && !host.covers(&Area::All));
        assert!(host.overlaps(&area("^/a$")) && host.covers(&host));
        assert!(!host.overlaps(&Area::Host("b.test".to_owned())));
    }

    #[test]
    fn patterns_of_hosts_are_names() {
        let check = |pattern: &str, expected: Option<&str>| {
            assert_eq!(host(pattern).as_deref(), expected, "{pattern}");
        };
        check("^www\\.example\\.com$", Some("www.example.com"));
        check("^www.example.com", Some("www.example.com"));
        check("^.*\\.example\\.com$", Some("*.example.com"));
        check("\\.example\\.com$", Some("*.example.com"));
        check("example", None);
        check("^(www\\.)?example\\.com$", None);
        check("^$", None);
    }
}
