//! The application, its directory and its environment.

use super::{Meaning, listed};
use crate::config::app::AppRef;
use crate::config::foreign::Verdict;
use crate::config::native;

pub(super) fn decide(meaning: &mut Meaning<'_>) {
    app(meaning);
    let why = "the program is called so in gunicorn, and applications look for that in sys.argv";
    meaning.imply("argv", &["gunicorn"], why);
    if let Some((at, dir)) = meaning.given("chdir")
        && let Some(dir) = dir.text().filter(|dir| !dir.is_empty())
    {
        meaning.set(at, "chdir", vec![dir]);
    }
    if let Some((at, paths)) = meaning.given("pythonpath") {
        let paths = listed(&paths.text().unwrap_or_default());
        if !paths.is_empty() {
            meaning.append(at, "pythonpath", &paths);
            let text = "pythonpath, behind the directory of the application (gunicorn has it before: of two modules of one name, that of chdir is taken here)";
            meaning.say(at, Verdict::Honoured(text.to_owned()));
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
    paste(meaning);
    let Some((at, name)) = meaning.given("wsgi_app") else {
        return;
    };
    let name = name.text().unwrap_or_default();
    let app = match name.split_once(':') {
        None if name.is_empty() => return,
        None => format!("{name}:application"),
        // Another application, which would be found, must not take its place.
        Some((_, callable)) if !AppRef::has_callable(callable) => {
            let why = "gunicorn takes a name, or a call of one with literals";
            return meaning.say(at, Verdict::Wrong(why.to_owned()));
        }
        Some(_) => name,
    };
    meaning.set(at, "app", vec![app]);
}

/// An application of Paste Deploy (gunicorn: app/pasterapp.py), which comes before another one.
fn paste(meaning: &mut Meaning<'_>) {
    let Some((at, name)) = meaning.given("paste") else {
        return;
    };
    let name = name.text().unwrap_or_default();
    if name.is_empty() {
        return;
    }
    let globals = meaning.find("raw_paste_global_conf");
    if globals.is_some_and(|at| !meaning.items[at].value.texts().is_empty()) {
        let why =
            "write a module with `application = loadapp(…, global_conf=…)` and name it with `app`";
        // As for any application that is named and cannot be served.
        return meaning.say(at, Verdict::Wrong(why.to_owned()));
    }
    let file = meaning.around.current_dir.join(native::path(&name));
    let address = format!("config:{}", native::text(file.as_os_str()));
    let literal = serde_json::Value::from(address).to_string();
    meaning.set(at, "app", vec![format!("paste.deploy:loadapp({literal})")]);
    meaning.note(at, "its [server:…] section is not read");
    for at in meaning.all("wsgi_app") {
        meaning.no_effect(at, "the application is that of `paste`");
    }
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
