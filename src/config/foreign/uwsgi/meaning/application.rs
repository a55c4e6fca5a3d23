//! Which application runs, where, with which interpreter and environment.

use super::Meaning;
use super::addresses::{HTTP, HTTPS};
use crate::config::app::{AppRef, is_dotted_name};
use crate::config::foreign::Verdict;
use crate::config::foreign::uwsgi::reader::Item;
use crate::config::locations;

pub(super) fn decide(meaning: &mut Meaning<'_>) {
    if let Some(at) = meaning.last(&["chdir"]) {
        let dir = meaning.value(at).to_owned();
        match dir.is_empty() {
            true => meaning.no_effect(at, "no directory"),
            false => meaning.honour(at, "chdir", vec![dir]),
        }
    }
    if let Some(at) = meaning.last(&["chdir2"])
        && let Some(dir) = meaning.draft.layer.entry("chdir")
        && dir
            .values
            .first()
            .is_some_and(|dir| same_dir(dir, meaning.value(at)))
    {
        let so = "it is the directory of `chdir`".to_owned();
        meaning.say(at, Verdict::AlreadySo(so));
    }
    interpreter(meaning);
    let callable = meaning.last(&["callable"]);
    let has_app = entry_point(meaning, callable);
    mounts(meaning, callable, has_app);
    if let Some(at) = callable.filter(|at| meaning.verdicts[*at].is_none()) {
        meaning.no_effect(at, "no line names the module or file that it is in");
    }
    imports(meaning);
    optimization(meaning);
    for at in meaning.all(&["env"]) {
        let pair = meaning.value(at).to_owned();
        match pair.split_once('=') {
            Some((name, _)) if !name.is_empty() => meaning.append(at, "env", pair),
            _ => meaning.no_effect(at, "no NAME=value"),
        }
    }
    arguments(meaning);
    if let Some(at) = meaning.last(&["lazy", "lazy-apps"]) {
        match meaning.flag(at) {
            true => meaning.honour(at, "preload", vec!["no".to_owned()]),
            false => {
                let so = "the application is imported before the workers are forked";
                meaning.say(at, Verdict::AlreadySo(so.to_owned()));
            }
        }
    }
    let names = [
        "py-autoreload",
        "py-auto-reload",
        "python-autoreload",
        "python-auto-reload",
    ];
    if let Some(at) = meaning.last(&names)
        && let Some(seconds) = meaning.number(at)
    {
        match seconds {
            0 => meaning.say(at, Verdict::AlreadySo("it is off".to_owned())),
            _ => meaning.honour(at, "autoreload", vec!["yes".to_owned()]),
        }
    }
}

fn same_dir(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

/// `optimize`, by the variable that CPython reads at its start.
fn optimization(meaning: &mut Meaning<'_>) {
    let Some(at) = meaning.last(&["optimize"]) else {
        return;
    };
    match meaning.number(at) {
        None => {}
        Some(0) => meaning.say(at, Verdict::AlreadySo("nothing is optimized".to_owned())),
        Some(level) => meaning.append(at, "env", format!("PYTHONOPTIMIZE={level}")),
    }
}

/// `pyargv`, which uWSGI splits at blanks, without quotes (plugins/python/pyutils.c, `init_pyargv`).
fn arguments(meaning: &mut Meaning<'_>) {
    let Some(at) = meaning.last(&["pyargv"]) else {
        let why = "the program is called so in uWSGI, and applications look for that in sys.argv";
        return meaning.imply("argv", "uwsgi", why);
    };
    let value = meaning.value(at).to_owned();
    let words = value.split([' ', '\t']).filter(|word| !word.is_empty());
    let words = std::iter::once("uwsgi").chain(words).map(str::to_owned);
    meaning.honour(at, "argv", words.collect());
}

fn interpreter(meaning: &mut Meaning<'_>) {
    if let Some(at) = meaning.last(&["home", "virtualenv", "venv", "pyhome"]) {
        let given = meaning.value(at).to_owned();
        let dir = environment_of(&given).to_owned();
        match dir.is_empty() {
            true => meaning.no_effect(at, "no directory"),
            false if dir != given.trim_end_matches('/') => meaning.honour_with_note(
                at,
                "venv",
                vec![dir],
                "the environment of that interpreter",
            ),
            false => meaning.honour(at, "venv", vec![given]),
        }
    }
    // uWSGI puts each before those that it has.
    let mut lines = meaning.all(&["pythonpath", "python-path", "pp"]);
    lines.reverse();
    for at in lines {
        let dir = meaning.value(at).to_owned();
        if dir.is_empty() {
            meaning.no_effect(at, "no directory");
        } else if dir.contains(['*', '?', '[']) {
            let advice = "patterns are not looked up: name the directories";
            meaning.say(at, Verdict::Unsupported(advice.to_owned()));
        } else {
            meaning.append(at, "pythonpath", dir.clone());
            meaning.say(
                at,
                Verdict::Honoured(format!("pythonpath = {dir:?}, {BEHIND}")),
            );
        }
    }
}

/// The place of `pythonpath` in `sys.path`.
const BEHIND: &str = "behind the directory of the application (uWSGI has it before: of two modules of one name, that of chdir is taken here)";

/// The environment whose interpreter `home = /venv/bin/python3/` names.
fn environment_of(home: &str) -> &str {
    let plain = home.trim_end_matches('/');
    match plain.rsplit_once('/') {
        Some((bin, name)) if name.starts_with("python") && bin.ends_with("/bin") => {
            &bin[..bin.len() - "/bin".len()]
        }
        _ => plain,
    }
}

/// `module`, or else `wsgi-file`: uWSGI loads the module first, and that answers. Returns true if
/// there is one.
fn entry_point(meaning: &mut Meaning<'_>, callable: Option<usize>) -> bool {
    let module = meaning.last(&["module", "wsgi"]);
    let file = meaning.last(&["wsgi-file", "file"]);
    let chosen = match (module, file) {
        (Some(module), file) => {
            if let Some(file) = file {
                let why = "the module is loaded first, and answers";
                meaning.no_effect(file, why);
            }
            module
        }
        (None, Some(file)) => file,
        (None, None) => return false,
    };
    let target = meaning.value(chosen).to_owned();
    if target.is_empty() {
        meaning.say(chosen, Verdict::Wrong("no application".to_owned()));
        return true;
    }
    let is_module = module.is_some();
    if let Some(problem) = no_reference(meaning, &target, is_module) {
        meaning.say(chosen, Verdict::Wrong(problem));
        return true;
    }
    let names_callable = is_module && target.contains(':');
    let app = match callable {
        Some(at) if names_callable => {
            meaning.no_effect(at, "the line with the module names the callable");
            target
        }
        Some(at) => {
            let name = meaning.value(at).to_owned();
            if !AppRef::has_callable(&name) {
                let problem = format!("`{name}` is no name of a callable");
                meaning.say(at, Verdict::Wrong(problem));
                return true;
            }
            let app = format!("{target}:{name}");
            meaning.say(at, Verdict::Honoured(format!("app = {app:?}")));
            app
        }
        None => target,
    };
    meaning.honour(chosen, "app", vec![app]);
    true
}

/// The problem of a value that names no module or file, with which uWSGI starts and answers 500.
fn no_reference(meaning: &Meaning<'_>, target: &str, is_module: bool) -> Option<String> {
    if meaning.around.kind(target).is_some() {
        return None;
    }
    if !is_module {
        let is_none = target.starts_with(['=', '"', '\'', '#']);
        return is_none.then(|| format!("no file: uWSGI takes {target:?} for its name"));
    }
    let (module, callable) = match target.split_once(':') {
        Some((module, callable)) => (module, Some(callable)),
        None => (target, None),
    };
    if !is_dotted_name(module) && !module.contains('/') && !module.ends_with(".py") {
        return Some(format!("no module: uWSGI takes {module:?} for its name"));
    }
    let wrong = callable.filter(|callable| !AppRef::has_callable(callable))?;
    Some(format!("no callable: uWSGI takes {wrong:?} for its name"))
}

/// Modules beside the application. uWSGI imports the shared ones first: before the fork, even where
/// each worker imports the application for itself.
fn imports(meaning: &mut Meaning<'_>) {
    let lazy = meaning.all(&["lazy", "lazy-apps"]);
    let is_lazy = lazy.last().is_some_and(|at| meaning.flag(*at));
    let shared = [
        "shared-import",
        "shared-pyimport",
        "shared-py-import",
        "shared-python-import",
    ];
    let own = ["import", "pyimport", "py-import", "python-import"];
    for (names, is_shared) in [(&shared, true), (&own, false)] {
        for at in meaning.all(names) {
            let module = meaning.value(at).to_owned();
            if module.is_empty() {
                meaning.no_effect(at, "no module");
            } else if is_shared && is_lazy {
                let advice =
                    "workers of lazy-apps share nothing: leave that away, or name it with `import`";
                meaning.say(at, Verdict::Unsupported(advice.to_owned()));
            } else {
                meaning.append(at, "import", module);
            }
        }
    }
}

/// True if requests come by HTTP alone, which never sets `SCRIPT_NAME`.
fn is_http_alone(meaning: &Meaning<'_>) -> bool {
    let is_one = |item: &Item, names: &[&str]| !item.is_placeholder && names.contains(&&*item.key);
    let has = |names: &[&str]| meaning.items.iter().any(|item| is_one(item, names));
    let speaks_http = meaning.items.iter().any(|item| {
        is_one(item, &["protocol", "socket-protocol"]) && item.value.as_deref() == Some("http")
    });
    let has_socket = has(&["socket"]);
    let is_http = has(&HTTP) || has(&HTTPS) || speaks_http && has_socket;
    is_http && !has(&["uwsgi-socket"]) && (speaks_http || !has_socket)
}

/// `mount = /prefix=application`.
fn mounts(meaning: &mut Meaning<'_>, callable: Option<usize>, mut has_app: bool) {
    let mounts = meaning.all(&["mount", "worker-mount"]);
    let is_default = no_default(meaning, !mounts.is_empty());
    let manages = meaning.last(&["manage-script-name"]);
    let is_managed = manages.is_some_and(|at| meaning.flag(at));
    if let Some(at) = manages {
        let is_below = |at: &usize| {
            let value = meaning.value(*at).trim_start_matches('/');
            !value.starts_with('=') && value.contains('=')
        };
        match mounts.iter().any(is_below) && is_managed {
            false => meaning.no_effect(at, "no line mounts an application below a prefix"),
            true => meaning.say(at, Verdict::Honoured("strip_prefix = true".to_owned())),
        }
    }
    // Without that, uWSGI chooses by the `SCRIPT_NAME` that the front server sends.
    let is_chosen = is_managed || !is_http_alone(meaning);
    let mut first = None;
    let mut prefixes: Vec<String> = Vec::new();
    for at in mounts {
        let value = meaning.value(at).to_owned();
        let Some((prefix, app)) = value.split_once('=') else {
            meaning.say(
                at,
                Verdict::Wrong("it needs `/prefix=application`".to_owned()),
            );
            continue;
        };
        let prefix = prefix.trim_end_matches('/').to_owned();
        let is_file = app.ends_with(".py") || app.ends_with(".wsgi");
        let app = match callable {
            Some(at) if is_file => {
                let name = meaning.value(at).to_owned();
                meaning.say(
                    at,
                    Verdict::Honoured("the callable of the mounted file".to_owned()),
                );
                format!("{app}:{name}")
            }
            _ => app.to_owned(),
        };
        if !is_file && !app.is_empty() && !app.contains(':') && !app.ends_with(".ini") {
            // uWSGI: plugins/python/pyloader.c, `uwsgi_mount_loader`.
            let why =
                "uWSGI loads nothing for it: a module needs its callable, as in `MODULE:CALLABLE`";
            meaning.no_effect(at, why);
            continue;
        }
        if app.ends_with(".ini") || app.is_empty() {
            let advice = "name a module or a file with the WSGI callable";
            meaning.say(at, Verdict::Unsupported(advice.to_owned()));
        } else if prefix.contains('|') || !(prefix.is_empty() || prefix.starts_with('/')) {
            let advice = "applications by host: run one pyserve for each";
            meaning.say(at, Verdict::Unsupported(advice.to_owned()));
        } else if prefixes.contains(&prefix) || prefix.is_empty() && has_app {
            meaning.no_effect(at, "another line mounts an application there");
        } else if prefix.is_empty() {
            has_app = true;
            meaning.honour(at, "app", vec![app]);
        } else if !is_chosen && (has_app || !is_default) {
            let why = "no request names its SCRIPT_NAME: uWSGI needs `manage-script-name` for that";
            meaning.no_effect(at, why);
        } else if !is_chosen {
            let note =
                "without `manage-script-name` uWSGI gives it all paths, and removes no prefix";
            meaning.honour_with_note(at, "app", vec![app], note);
            has_app = true;
        } else {
            below(meaning, at, &prefix, &app);
            first.get_or_insert(app);
        }
        prefixes.push(prefix);
    }
    if let Some(app) = first.filter(|_| is_default && !has_app) {
        let why = "uWSGI gives all other paths to the application that it loads first";
        meaning.imply("app", &app, why);
    }
}

/// `no-default-app`; returns false if paths that no line mounts have no application.
fn no_default(meaning: &mut Meaning<'_>, has_mounts: bool) -> bool {
    let Some(at) = meaning.last(&["no-default-app"]) else {
        return true;
    };
    let is_default = !meaning.flag(at);
    let by_host = meaning.all(&["vhost", "vhost-host"]);
    if !is_default && by_host.iter().any(|at| meaning.flag(*at)) {
        let advice = "applications by the Host header: run one pyserve for each";
        meaning.say(at, Verdict::Unsupported(advice.to_owned()));
        return false;
    }
    let verdict = match (is_default, has_mounts) {
        (true, _) => Verdict::AlreadySo("it is off".to_owned()),
        (false, false) => Verdict::NoEffect("there is one application, for every path".to_owned()),
        (false, true) => {
            let text = "no application for the paths beside the mounts: 404 (500 in uWSGI)";
            Verdict::Honoured(text.to_owned())
        }
    };
    meaning.say(at, verdict);
    is_default
}

/// A location with an application of its own.
fn below(meaning: &mut Meaning<'_>, at: usize, prefix: &str, app: &str) {
    let given = [
        ("prefix", prefix.to_owned()),
        ("app", app.to_owned()),
        ("strip_prefix", "yes".to_owned()),
    ];
    let table = meaning.table(at, &mut locations::all(), &given);
    meaning.draft.layer.locations.push(table);
    let text = format!(
        "[[location]] prefix = {prefix:?}, app = {app:?} (with workers of its own, where those of uWSGI serve all mounts)"
    );
    meaning.say(at, Verdict::Honoured(text));
}
