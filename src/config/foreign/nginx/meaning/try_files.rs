//! The handler of paths without a file: `try_files`, and `error_page 404 = @app`.

use super::Meaning;
use super::locations::{Context, Location, Paths, plain};
use crate::config::foreign::Verdict;

/// The handler of paths without a file.
pub enum Missing {
    Refuse,
    /// The named location.
    Location(usize),
    /// A page below the root.
    Page(String),
}

/// The meaning of `try_files`, or of `error_page 404 = @app`.
pub fn missing(meaning: &mut Meaning<'_>, context: &Context<'_>, at: usize, path: &str) -> Missing {
    let Some(line) = meaning.tree.named(Some(at), "try_files").next() else {
        if let Some(block) = without_file(meaning, at) {
            return Missing::Location(block);
        }
        for page in meaning.nearest(Some(at), "error_page") {
            let args = meaning.args(page);
            if let ["404", "=", name] = args[..]
                && let Some(named) = handler(meaning, context, name)
            {
                meaning.honoured(page, "missing = \"app\"");
                return Missing::Location(named);
            }
        }
        return Missing::Refuse;
    };
    let args = meaning.args(line);
    let Some((&last, tried)) = args.split_last().filter(|(_, tried)| !tried.is_empty()) else {
        meaning.say(
            line,
            Verdict::Wrong("try_files has a path and what follows it".to_owned()),
        );
        return Missing::Refuse;
    };
    let is_usual = |path: &&str| {
        matches!(
            *path,
            "$uri" | "$uri/" | "$uri/index.html" | "$uri.html" | "$request_uri" | "${uri}"
        )
    };
    let last = match is_start(context, (path, last), tried) {
        true => "/index.html",
        false => last,
    };
    // A page before `=404` is sent in the place of every missing file.
    let before = tried.last().filter(|path| is_page(path, last));
    let tried = match before {
        Some(_) => &tried[..tried.len() - 1],
        None => tried,
    };
    if let Some(other) = tried.iter().find(|path| !is_usual(path)) {
        meaning.unsupported(
            line,
            format!("{other} is not tried here: the file itself, and index.html of a directory"),
        );
    }
    if let Some(status) = last.strip_prefix('=') {
        if status == "404"
            && let Some(before) = before
        {
            return page(meaning, context, (at, line), path, (before, true));
        }
        match status {
            "404" => meaning.already(line, "the file, index.html of a directory, else 404"),
            _ => meaning.unsupported(line, "a missing file is 404"),
        }
        return Missing::Refuse;
    }
    if last.starts_with('@') {
        return match context.named(last) {
            Some(named) => {
                let text = "missing = \"app\", also for other methods than GET and HEAD (nginx: 405 where a file is)";
                meaning.honoured(line, text);
                Missing::Location(named)
            }
            None => {
                meaning.say(line, Verdict::Wrong(format!("there is no location {last}")));
                Missing::Refuse
            }
        };
    }
    page(meaning, context, (at, line), path, (last, false))
}

/// The named location that answers requests, unless it is a page for errors (`error_pages`).
pub fn handler(meaning: &Meaning<'_>, context: &Context<'_>, name: &str) -> Option<usize> {
    let named = context.named(name)?;
    let mut children = meaning.tree.children(Some(named));
    let is_text = children.any(|child| meaning.name(child) == "return");
    (!is_text).then_some(named)
}

/// The named location that answers in the place of a `return 418` where `error_page 418 = @app` holds,
/// which older files have since `if` and `proxy_pass` disagree.
pub fn passed_on(meaning: &mut Meaning<'_>, context: &Context<'_>, line: usize) -> Option<usize> {
    let [code] = meaning.args(line)[..] else {
        return None;
    };
    let block = meaning.tree.items[line].parent?;
    if meaning.name(line) != "return" || !code.starts_with(['4', '5']) || code == "444" {
        return None;
    }
    let pages = meaning.nearest(Some(block), "error_page");
    let (page, named) = pages.into_iter().find_map(|page| {
        let args = meaning.args(page);
        let [codes @ .., "=", name] = &args[..] else {
            return None;
        };
        let named = handler(meaning, context, name)?;
        codes.contains(&code).then_some((page, named))
    })?;
    meaning.honoured(line, "passed on to the named location");
    match is_of_returns(meaning, context, page) {
        true => meaning.honoured(page, "the named location answers"),
        false => meaning.say(
            page,
            Verdict::Noted("the named location answers in the place of return alone".to_owned()),
        ),
    }
    Some(named)
}

/// True for an `error_page 418 = @app` whose statuses nothing but a `return` gives.
pub fn is_of_returns(meaning: &Meaning<'_>, context: &Context<'_>, page: usize) -> bool {
    let args = meaning.args(page);
    let [codes @ .., "=", name] = &args[..] else {
        return false;
    };
    let mut items = meaning.tree.items.iter();
    let intercepts =
        items.any(|item| item.name.ends_with("_intercept_errors") && item.arg(0) == "on");
    !intercepts
        && handler(meaning, context, name).is_some()
        && codes.iter().all(|code| UNUSUAL.contains(code))
}

/// Statuses that neither nginx nor pyserve gives by itself.
const UNUSUAL: [&str; 8] = ["402", "406", "407", "409", "410", "417", "418", "419"];

/// True for `try_files $uri $uri/ /` of the location for all paths, whose last path is answered with the
/// index of its directory.
fn is_start(context: &Context<'_>, (path, last): (&str, &str), tried: &[&str]) -> bool {
    let mut locations = context.locations.iter();
    let has_own =
        locations.any(|other| matches!(&other.paths, Paths::Exact(exact) if exact == "/"));
    path == "/" && last == "/" && tried.contains(&"$uri/") && !has_own
}

/// The block of `if (!-f $request_filename) { proxy_pass …; }`, which older files have in the place of
/// `try_files $uri @app`.
pub fn without_file(meaning: &Meaning<'_>, at: usize) -> Option<usize> {
    let is_pass = |child: usize| matches!(meaning.name(child), "proxy_pass" | "uwsgi_pass");
    let mut children = meaning.tree.children(Some(at));
    if meaning.name(at) != "location" || children.any(is_pass) {
        return None;
    }
    let mut conditions = meaning.tree.named(Some(at), "if");
    let block = conditions.next()?;
    let test = meaning.args(block).concat();
    let is_test = matches!(&*test, "(!-f$request_filename)" | "(!-e$request_filename)");
    let mut inside = meaning.tree.children(Some(block));
    let is_known = |child: usize| {
        is_pass(child)
            || matches!(meaning.name(child), "break" | "include")
            || meaning.name(child).starts_with("proxy_")
            || meaning.name(child).starts_with("uwsgi_")
    };
    let has_pass = meaning.tree.children(Some(block)).any(is_pass);
    let is_alone = conditions.next().is_none();
    (is_test && is_alone && has_pass && inside.all(is_known)).then_some(block)
}

/// True unless a `try_files` names the file alone: nginx then passes directories on.
pub fn tries_directories(meaning: &Meaning<'_>, at: usize) -> bool {
    if let Some(block) = without_file(meaning, at) {
        return meaning.args(block).concat().contains("!-e");
    }
    let line = meaning.tree.named(Some(at), "try_files").next();
    line.is_none_or(|line| {
        let args = meaning.args(line);
        let tried = args.split_last().map_or(&[][..], |(_, tried)| tried);
        tried.iter().any(|path| {
            path.starts_with('$') && (path.ends_with('/') || path.ends_with("/index.html"))
        })
    })
}

/// States that directories without an index are answered as missing files are, where nginx finds them by `$uri/`.
pub fn note_directories(meaning: &mut Meaning<'_>, at: usize, missing: &Missing) {
    let by = match missing {
        Missing::Refuse => return,
        Missing::Location(_) => "the named location",
        Missing::Page(_) => "this page",
    };
    let mut lines = meaning.tree.named(Some(at), "try_files");
    let Some(line) = lines.find(|line| meaning.args(*line).contains(&"$uri/")) else {
        return;
    };
    let note = format!("; {by} also answers for directories without index.html (nginx: 403)");
    if let Some(Verdict::Honoured(text)) = &mut meaning.verdicts[line]
        && !text.contains(&note)
    {
        text.push_str(&note);
    }
}

/// The line of a `try_files` that has `$uri.html` as well.
pub fn tries_html(meaning: &Meaning<'_>, at: usize) -> Option<usize> {
    let line = meaning.tree.named(Some(at), "try_files").next()?;
    meaning.args(line).contains(&"$uri.html").then_some(line)
}

/// The page of the same location that `try_files` names last; `is_file` if nginx looks for it in the
/// directory of the location, and not in the location that the path has.
fn page(
    meaning: &mut Meaning<'_>,
    context: &Context<'_>,
    (at, line): (usize, usize),
    path: &str,
    (last, is_file): (&str, bool),
) -> Missing {
    let page = last.split(['?', '#']).next().unwrap_or_default();
    // Below an alias, it is put behind the directory.
    let is_of_alias = is_file && meaning.tree.named(Some(at), "alias").next().is_some();
    let is_below =
        is_of_alias || plain(path) == "/" || page.starts_with(&format!("{}/", plain(path)));
    let below = match plain(path) {
        "/" => page.trim_start_matches('/'),
        _ if is_of_alias => page.trim_start_matches('/'),
        prefix => page
            .strip_prefix(prefix)
            .unwrap_or(page)
            .trim_start_matches('/'),
    };
    let elsewhere = elsewhere(context, at, page).filter(|_| !is_file);
    let is_other = elsewhere.is_some_and(|other| !is_same_file(meaning, at, other));
    if page.contains('$') || !is_below || below.is_empty() || below.ends_with('/') || is_other {
        meaning.unsupported(line, "what follows a missing file is 404, a page of the same location, or a named location with a server");
        return Missing::Refuse;
    }
    let mut text = format!(
        "missing = {below:?} for pages that a browser opens (a missing script or image is 404)"
    );
    if let Some(other) = elsewhere.filter(|other| has_own_fields(meaning, *other)) {
        let other = meaning.tree.items[other].line;
        text.push_str(&format!(
            ", with the header fields of this location, and not with those of line {other} as in nginx"
        ));
    }
    meaning.honoured(line, text);
    Missing::Page(below.to_owned())
}

/// True if what is tried last but one is the page itself, or one before a status.
fn is_page(path: &str, last: &str) -> bool {
    path == last || (path.starts_with('/') && !path.contains('$') && last.starts_with('='))
}

/// The other location of this path alone, in which nginx looks for the page.
fn elsewhere(context: &Context<'_>, at: usize, page: &str) -> Option<usize> {
    let is_it = |location: &&Location| {
        location.at != at && matches!(&location.paths, Paths::Exact(path) if path == page)
    };
    context.locations.iter().find(is_it).map(|found| found.at)
}

/// True if the location of one path answers with the file that the directory of another location has there, to
/// everyone who gets the files of that one.
fn is_same_file(meaning: &Meaning<'_>, at: usize, exact: usize) -> bool {
    let is_plain = |name: &str| {
        matches!(
            name,
            "add_header"
                | "expires"
                | "etag"
                | "access_log"
                | "log_not_found"
                | "root"
                | "internal"
        )
    };
    let root = |block: usize| {
        let line = meaning.nearest(Some(block), "root").first().copied()?;
        Some(meaning.arg(line, 0).trim_end_matches('/'))
    };
    let has_alias = !meaning.nearest(Some(at), "alias").is_empty();
    let mut children = meaning.tree.children(Some(exact));
    children.all(|child| is_plain(meaning.name(child))) && !has_alias && root(at) == root(exact)
}

/// True if a location has header fields of its own.
fn has_own_fields(meaning: &Meaning<'_>, at: usize) -> bool {
    meaning.has(at, |name| matches!(name, "add_header" | "expires" | "etag"))
}
