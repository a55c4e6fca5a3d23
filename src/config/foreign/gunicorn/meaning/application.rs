//! The application, its directory and its environment.

use super::{Meaning, listed};
use crate::config::foreign::Verdict;

pub(super) fn decide(meaning: &mut Meaning<'_>) {
    app(meaning);
    if let Some((at, dir)) = meaning.given("chdir")
        && let Some(dir) = dir.text().filter(|dir| !dir.is_empty())
    {
        meaning.set(at, "chdir", vec![dir]);
    }
    if let Some((at, paths)) = meaning.given("pythonpath") {
        let paths = listed(&paths.text().unwrap_or_default());
        if !paths.is_empty() {
            meaning.append(at, "pythonpath", &paths);
        }
    }
    for at in meaning.all("raw_env") {
        environment(meaning, at);
    }
    if let Some((at, is_on)) = meaning.given("preload_app") {
        let value = if is_on.is_true() { "yes" } else { "no" };
        meaning.set(at, "preload", vec![value.to_owned()]);
    }
    reload(meaning);
}

/// `MODULE[:NAME]`, where a name is missing `application`; or `MODULE:FACTORY(…)`.
fn app(meaning: &mut Meaning<'_>) {
    let Some((at, name)) = meaning.given("wsgi_app") else {
        return;
    };
    let name = name.text().unwrap_or_default();
    let app = match name.split_once(':') {
        None if name.is_empty() => return,
        None => format!("{name}:application"),
        Some((_, callable)) if has_arguments(callable) => {
            let why = "a factory is called without arguments: write a function that calls it with them, and name that";
            return meaning.say(at, Verdict::Unsupported(why.to_owned()));
        }
        Some(_) => name,
    };
    meaning.set(at, "app", vec![app]);
}

fn has_arguments(callable: &str) -> bool {
    let inside = callable.split_once('(').map(|(_, rest)| rest.trim());
    inside.is_some_and(|rest| rest.trim_end_matches(')').trim() != "")
}

fn environment(meaning: &mut Meaning<'_>, at: usize) {
    let pairs = meaning.items[at].value.texts();
    if pairs.is_empty() {
        return;
    }
    match pairs.iter().find(|pair| !pair.contains('=')) {
        Some(pair) => {
            let why = format!("{pair:?} is no NAME=VALUE");
            meaning.say(at, Verdict::Wrong(why));
        }
        None => meaning.append(at, "env", &pairs),
    }
}

fn reload(meaning: &mut Meaning<'_>) {
    let reload = meaning.given("reload");
    let is_on = reload.as_ref().is_some_and(|(_, value)| value.is_true());
    if let Some((at, _)) = reload {
        match is_on {
            true => meaning.set(at, "autoreload", vec!["yes".to_owned()]),
            false => meaning.already(at, "code is not watched"),
        }
    }
    for at in meaning.all("reload_extra_files") {
        let files = meaning.items[at].value.texts();
        if files.is_empty() {
        } else if !is_on {
            meaning.no_effect(at, "gunicorn watches them with `reload` alone");
        } else if files.iter().any(|file| file.contains(['*', '?', '['])) {
            let why = "patterns are not expanded: name each file with `touch_reload`";
            meaning.say(at, Verdict::Unsupported(why.to_owned()));
        } else {
            meaning.append(at, "touch_reload", &files);
        }
    }
}
