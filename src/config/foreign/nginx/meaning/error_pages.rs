//! `error_page`: pages in files, and texts that a location returns.

use std::path::Path;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::locations::{self, Context, Location, Paths, plain};
use super::redirects::{self, Fixed};
use super::{Meaning, Table, try_files, types};
use crate::config::foreign::Verdict;
use crate::config::response_rules::ErrorPage;

/// `error_page` with pages in files or texts.
pub fn error_pages(meaning: &mut Meaning<'_>, context: &Context<'_>, at: usize, table: &mut Table) {
    intercept(meaning, at, table);
    let is_part = at != context.site.server;
    let is_before = at == context.site.at && (is_part || meaning.has(at, |name| name == "return"));
    // The locations of an `if` that is a site of its own are those of the server around.
    let around = (is_part && is_before).then(|| Context {
        site: context.site,
        locations: locations::of(meaning, context.site.server),
    });
    let context = around.as_ref().unwrap_or(context);
    for line in meaning.nearest(Some(at), "error_page") {
        // nginx looks for a path in the server again, whose `return` answers again: the built-in page.
        let page = meaning.args(line).last().copied().unwrap_or_default();
        if is_before && !page.starts_with('@') {
            continue;
        }
        if try_files::is_of_returns(meaning, context, line) {
            // The `return` decides.
            continue;
        }
        if meaning.verdicts[line].as_ref().is_some_and(
            |verdict| matches!(verdict, Verdict::Honoured(text) if text.starts_with("missing")),
        ) {
            continue;
        }
        let Some(value) = value(meaning, context, (at, line)) else {
            continue;
        };
        if let Err(problem) = ErrorPage::parse(&value, Path::new("/")) {
            meaning.unsupported(line, format!("{} ({})", problem.problem, problem.remedy));
            continue;
        }
        let shown = format!("error_page = {value:?}");
        match difference(meaning, context, (at, line)) {
            Some(note) => meaning.say(line, Verdict::Differs(format!("{shown}, {note}"))),
            None => meaning.honoured(line, shown),
        }
        let is_for_all = meaning.is_alone
            && meaning.around(line, "location").is_none()
            && !has_own_pages(meaning, context);
        match is_for_all {
            true => meaning.append(line, "error_page", value),
            false => table.append("error_page", value),
        }
    }
}

/// The difference between a page as the location of an error has it, and as its own location has it in nginx.
fn difference(
    meaning: &Meaning<'_>,
    context: &Context<'_>,
    (at, line): (usize, usize),
) -> Option<&'static str> {
    let page = meaning.args(line).last().copied()?;
    let block = location_of(context, page).map_or(context.site.at, |location| location.at);
    let args = meaning.args(line);
    let is_success = args.iter().any(|arg| *arg == "=" || arg.starts_with("=2"));
    let fields = |block: usize| {
        let mut all = meaning.nearest(Some(block), "add_header");
        all.retain(|at| is_success || meaning.args(*at).last() == Some(&"always"));
        if is_success {
            all.extend(meaning.nearest(Some(block), "expires"));
        }
        all
    };
    let is_file = !meaning.has(block, |name| name == "return");
    if is_file && types::has_replacing(meaning, at) != types::has_replacing(meaning, block) {
        return Some("with the type that files have where the error is, and not where the page is");
    }
    (fields(at) != fields(block)).then_some(
        "with the header fields of the location where the error is, and not of the page's own",
    )
}

/// True if a location has pages of its own, in the place of those of the server as nginx inherits.
fn has_own_pages(meaning: &Meaning<'_>, context: &Context<'_>) -> bool {
    let mut all = context.locations.iter();
    all.any(|location| meaning.has(location.at, |name| name == "error_page"))
}

/// `proxy_intercept_errors` and `uwsgi_intercept_errors`.
fn intercept(meaning: &mut Meaning<'_>, at: usize, table: &mut Table) {
    let names = ["proxy_intercept_errors", "uwsgi_intercept_errors"];
    let line = names.iter().find_map(|name| meaning.scalar(Some(at), name));
    let Some(line) = line else { return };
    let is_on = meaning.arg(line, 0) == "on";
    if !is_on {
        meaning.already(line, "errors of servers pass");
    } else if table.value("pass").or(table.value("upstream")).is_some() {
        table.set("intercept_errors", "yes");
        meaning.honoured(line, "intercept_errors = true");
    } else {
        meaning.no_effect(line, "no server answers here");
    }
}

/// The setting of an `error_page`; `None` for one that has its verdict.
fn value(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    (at, line): (usize, usize),
) -> Option<String> {
    let mut args = meaning.args(line);
    let page = args.pop()?;
    let status = args.iter().position(|arg| arg.starts_with('='));
    let status = status.map(|at| args.remove(at));
    let is_error = |code: &&&str| {
        let code = code.parse::<u16>();
        code.is_ok_and(|code| (400..600).contains(&code))
    };
    let codes: Vec<_> = args.iter().filter(is_error).copied().collect();
    let is_of_tls = |code: &&str| matches!(*code, "495" | "496" | "497");
    if !args.is_empty() && args.iter().all(is_of_tls) {
        let text = "a request without TLS at an address with it, or without a certificate, is a 400 with the built-in page (for requests without TLS: redirect_to_https at an address of their own)";
        meaning.say(line, Verdict::Differs(text.to_owned()));
        return None;
    }
    if codes.len() != args.len() || codes.is_empty() {
        meaning.unsupported(line, "pages for the statuses 400 to 599");
        return None;
    }
    let codes_given = codes.join(",");
    let status = match status {
        None => String::new(),
        Some("=") => "=200 ".to_owned(),
        Some(status) => format!("{status} "),
    };
    if let Some(file) = page_file(meaning, context, page) {
        let block = location_of(context, page).map_or(context.site.at, |location| location.at);
        if types::differs(meaning, (at, block), &file) {
            let text = "a page without an extension has the default_type of the location where the error is: give its name an extension";
            meaning.unsupported(line, text);
            return None;
        }
        if let Some(named) = page.starts_with('@').then(|| context.named(page)).flatten() {
            meaning.honoured(named, "the page for errors");
            meaning.say_inside(named, &Verdict::Honoured(format!("the page {file}")));
        }
        return Some(format!("{codes_given}={status}{file}"));
    }
    match page_text(meaning, context, page) {
        Ok(Some((own, text))) => {
            // nginx keeps the status of the error, or that of `error_page`, unless it is to be the page's.
            let status = match &*status {
                "=200 " if !meaning.args(line).contains(&"=200") => format!("={own} "),
                other => other.to_owned(),
            };
            return Some(format!("{codes_given}={status}{text}"));
        }
        Ok(None) => {}
        Err(why) => {
            meaning.unsupported(line, why);
            return None;
        }
    }
    let verdict = match is_of_nginx(meaning, context, page) {
        true => {
            let text = "a page of nginx's installation: the built-in page is sent".to_owned();
            Verdict::Differs(text)
        }
        false => page_of_server(meaning, context, page, &codes),
    };
    meaning.say(line, verdict);
    None
}

/// The location that nginx finds for a page.
fn location_of<'c>(context: &'c Context<'_>, page: &str) -> Option<&'c Location> {
    let named =
        |location: &&Location| matches!(&location.paths, Paths::Named(name) if name == page);
    if page.starts_with('@') {
        return context.locations.iter().find(named);
    }
    let fits = |location: &Location| match &location.paths {
        Paths::Exact(path) if path == page => Some((usize::MAX, true)),
        Paths::Prefix(prefix, is_final) if page.starts_with(prefix.as_str()) => {
            Some((prefix.len(), *is_final))
        }
        _ => None,
    };
    let best = context.locations.iter();
    let best = best.filter_map(|location| Some((fits(location)?, location)));
    let best = best.max_by_key(|((length, _), _)| *length);
    let by_name = |location: &&Location| match &location.paths {
        Paths::Extensions(all, below) => {
            let ending = page.rsplit_once('.').map_or("", |(_, ending)| ending);
            let is_below = below
                .as_ref()
                .is_none_or(|below| page.starts_with(below.as_str()));
            is_below && all.iter().any(|own| own == ending)
        }
        _ => false,
    };
    match best {
        Some(((_, true), location)) => Some(location),
        other => {
            let expression = context.locations.iter().find(by_name);
            expression.or(other.map(|(_, location)| location))
        }
    }
}

/// The status and the text of the page that a location returns, as `error_page` takes it; `Ok(None)` if
/// it returns nothing.
///
/// # Errors
/// The reason for which it is not sent.
fn page_text(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    page: &str,
) -> Result<Option<(String, String)>, String> {
    let Some(block) = location_of(context, page).map(|location| location.at) else {
        return Ok(None);
    };
    if !meaning.has(block, |name| name == "return") {
        return Ok(None);
    }
    let why = "a page for an error is a file, or a text that a location of the same server returns";
    if meaning.has(block, |name| matches!(name, "if" | "rewrite")) {
        return Err(why.to_owned());
    }
    let Some((line, Some(fixed))) = redirects::fixed(meaning, context.site, block) else {
        return Err(why.to_owned());
    };
    let Fixed::Respond {
        text,
        status,
        content_type,
    } = fixed
    else {
        return Err(format!(
            "{why}: a redirect is not sent in the place of an error"
        ));
    };
    if text.is_empty() && status.starts_with(['4', '5']) {
        return Err(format!(
            "{why}: a status without a text would be that of the response, with its built-in page"
        ));
    }
    let content_type = content_type.unwrap_or_else(|| "text/plain".to_owned());
    if content_type.contains(',') {
        return Err(why.to_owned());
    }
    meaning.honoured(line, "the text of the page for errors");
    if page.starts_with('@') {
        meaning.honoured(block, "the page for errors");
    }
    own_fields(meaning, block);
    let mut text = utf8_percent_encode(&text, IN_PAGES).to_string();
    if text.ends_with(' ') {
        text.pop();
        text.push_str("%20");
    }
    Ok(Some((status, format!("data:{content_type},{text}"))))
}

/// Header fields of the location of a page, which a response in the place of an error does not get.
fn own_fields(meaning: &mut Meaning<'_>, block: usize) {
    let all: Vec<_> = meaning.tree.named(Some(block), "add_header").collect();
    for line in all {
        if !meaning.arg(line, 0).eq_ignore_ascii_case("content-type") {
            let text = "a page has the header fields of the location where the error is: give them to that one, with always";
            meaning.unsupported(line, text);
        }
    }
}

/// Characters of a text that a `data:` page has in percent signs.
const IN_PAGES: &AsciiSet = &CONTROLS.add(b'%');

/// The file that the location of a path has for it.
pub fn page_file(meaning: &Meaning<'_>, context: &Context<'_>, page: &str) -> Option<String> {
    if page.starts_with('@') {
        return page_of_named(meaning, context, page);
    }
    if !page.starts_with('/') || page.contains('$') {
        return None;
    }
    let best = location_of(context, page);
    let block = best.map_or(context.site.at, |location| location.at);
    if answers(meaning, block) {
        return None;
    }
    if let Some(alias) = meaning.tree.named(Some(block), "alias").next() {
        let dir = meaning.arg(alias, 0);
        return match best.map(|location| &location.paths) {
            Some(Paths::Exact(_)) => Some(dir.to_owned()),
            Some(Paths::Prefix(prefix, _)) => Some(format!(
                "{}/{}",
                plain(dir),
                page.strip_prefix(prefix.as_str())?.trim_start_matches('/')
            )),
            _ => None,
        };
    }
    let root = meaning.nearest(Some(block), "root").first().copied()?;
    let dir = meaning.arg(root, 0);
    let is_plain = dir.starts_with('/') && !dir.contains('$');
    is_plain.then(|| format!("{}{page}", dir.trim_end_matches('/')))
}

/// True if a server or a `return` answers in a block.
fn answers(meaning: &Meaning<'_>, block: usize) -> bool {
    meaning.has(block, |name| name.ends_with("_pass") || name == "return")
}

/// The verdict of a page that no file is.
fn page_of_server(
    meaning: &Meaning<'_>,
    context: &Context<'_>,
    page: &str,
    codes: &[&str],
) -> Verdict {
    let unsupported = "a page for an error is a file, which a location of the same server has";
    let has_server = |location: &Location| meaning.has(location.at, |name| name.ends_with("_pass"));
    let found = location_of(context, page);
    let mut items = meaning.tree.items.iter();
    let intercepts =
        items.any(|item| item.name.ends_with("_intercept_errors") && item.arg(0) == "on");
    if !page.starts_with('/') || intercepts || !found.is_some_and(has_server) {
        return Verdict::Unsupported(unsupported.to_owned());
    }
    let mut addresses: Vec<_> = (0..meaning.tree.items.len())
        .filter(|at| meaning.around(*at, "server") == Some(context.site.at))
        .filter(|at| meaning.name(*at).ends_with("_pass"))
        .map(|at| meaning.arg(at, 0))
        .collect();
    addresses.dedup();
    if codes.iter().all(|code| code.starts_with('5')) && addresses.len() == 1 {
        let text = "the server that fails would have the page: the built-in page is sent";
        return Verdict::Differs(text.to_owned());
    }
    let mut items = (0..meaning.tree.items.len())
        .filter(|at| meaning.around(*at, "server") == Some(context.site.at));
    let has_files =
        items.any(|at| matches!(meaning.name(at), "alias" | "root" | "deny" | "return"));
    match has_files {
        true => Verdict::Differs(
            "the server has the page, for missing files alone: these get the built-in page"
                .to_owned(),
        ),
        false => Verdict::NoEffect("the server answers by itself, also with errors".to_owned()),
    }
}

/// True if the page lies in a directory that is relative to nginx's own.
fn is_of_nginx(meaning: &Meaning<'_>, context: &Context<'_>, page: &str) -> bool {
    let is_exact = |paths: &Paths| matches!(paths, Paths::Exact(path) if path == page);
    let mut all = context.locations.iter();
    let exact = all.find(|location| is_exact(&location.paths));
    let root = exact.and_then(|exact| meaning.nearest(Some(exact.at), "root").first().copied());
    let answers = exact.is_some_and(|exact| answers(meaning, exact.at));
    exact.is_some() && !answers && root.is_none_or(|root| !meaning.arg(root, 0).starts_with('/'))
}

/// The one file that a named location answers with, as `rewrite ^ /maintenance.html break` and
/// `try_files /maintenance.html =503` say.
fn page_of_named(meaning: &Meaning<'_>, context: &Context<'_>, name: &str) -> Option<String> {
    let block = context.named(name)?;
    let own: Vec<_> = meaning.tree.children(Some(block)).collect();
    let is_known = |at: &usize| {
        matches!(
            meaning.name(*at),
            "root" | "rewrite" | "try_files" | "internal" | "default_type" | "add_header"
        )
    };
    if !own.iter().all(is_known) {
        return None;
    }
    let page = own.iter().find_map(|at| {
        let args = meaning.args(*at);
        match (meaning.name(*at), &args[..]) {
            ("rewrite", ["^" | "^(.*)$" | "^.*$" | ".*" | "(.*)", page, "break"]) => Some(*page),
            ("try_files", [page, ..]) => Some(*page),
            _ => None,
        }
    })?;
    let root = meaning.nearest(Some(block), "root").first().copied()?;
    let dir = meaning.arg(root, 0);
    let is_plain = page.starts_with('/') && !page.contains('$') && !dir.contains('$');
    is_plain.then(|| format!("{}{page}", dir.trim_end_matches('/')))
}
