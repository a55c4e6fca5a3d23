//! Which application, when nobody says: one found by the look of its directory.
//!
//! Nothing is imported or executed here: a few files are read as text, and what cannot be told
//! from them is left to the host, which reports what Python says.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::app::{AppRef, AppTarget, is_dotted_name, names_in};
use super::error::ConfigError;

/// What a look at a directory gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Discovery {
    /// This application.
    Found(AppRef),
    /// Nothing; the text tells what was looked for, and what was there instead.
    Nothing(String),
}

/// Looks for a Django project or a Flask application in `chdir`.
///
/// # Errors
/// [`ConfigError::Ambiguous`] if there are several Django projects and `manage.py` does not
/// say which one it belongs to.
pub fn discover(chdir: &Path) -> Result<Discovery, ConfigError> {
    if let Some(app) = django(chdir)? {
        return Ok(Discovery::Found(app));
    }
    let (flask, notes) = flask(chdir);
    if let Some(app) = flask {
        return Ok(Discovery::Found(app));
    }
    let mut looked_for = format!("manage.py, */wsgi.py, {}", FLASK_FILES.join(", "));
    if !notes.is_empty() {
        looked_for = format!("{looked_for}; {}", notes.join("; "));
    }
    Ok(Discovery::Nothing(looked_for))
}

/// File names of single-file applications, in the order in which they are tried.
const FLASK_FILES: &[&str] = &["application.py", "app.py", "main.py", "wsgi.py", "index.py"];

/// Longest piece of a source file that is looked at. Generated `manage.py` and `wsgi.py`
/// have under 1 KiB; the callable of a large single-file application stands anywhere.
const LONGEST_SOURCE: u64 = 1 << 20;

fn django(chdir: &Path) -> Result<Option<AppRef>, ConfigError> {
    let manage = read_source(&chdir.join("manage.py"));
    let settings = manage.as_deref().and_then(settings_module);
    if let Some(package) = settings.and_then(|settings| package_with_wsgi(chdir, settings)) {
        return Ok(Some(django_app(&package, true)));
    }
    let mut packages: Vec<String> = names_in(chdir)
        .filter(|name| is_dotted_name(name) && !name.contains('.'))
        .filter(|name| {
            read_source(&chdir.join(name).join("wsgi.py"))
                .is_some_and(|source| manage.is_some() || source.contains("django"))
        })
        .collect();
    packages.sort();
    match packages.as_slice() {
        [] => Ok(None),
        [package] => Ok(Some(django_app(package, manage.is_some()))),
        several => Err(ConfigError::Ambiguous {
            directory: chdir.to_owned(),
            candidates: several
                .iter()
                .map(|package| format!("{package}.wsgi"))
                .collect::<Vec<_>>()
                .join(" or "),
        }),
    }
}

fn django_app(package: &str, has_manage: bool) -> AppRef {
    let file = format!("{}/wsgi.py", package.replace('.', "/"));
    let seen = if has_manage {
        format!("manage.py, {file}")
    } else {
        file
    };
    AppRef {
        target: AppTarget::Module(format!("{package}.wsgi")),
        callable: None,
        factory: false,
        found: Some(format!("Django project ({seen})")),
    }
}

/// The settings module that `manage.py` sets: the dotted name in quotes that follows
/// `DJANGO_SETTINGS_MODULE`, as in `os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")`.
fn settings_module(manage: &str) -> Option<&str> {
    manage
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .find_map(|line| {
            let (_, behind) = line.split_once("DJANGO_SETTINGS_MODULE")?;
            behind
                .split(['"', '\''])
                .find(|piece| piece.contains('.') && is_dotted_name(piece))
        })
        // The call may be spread over lines, one argument on each.
        .or_else(|| {
            let (_, behind) = manage.split_once("DJANGO_SETTINGS_MODULE")?;
            let end = behind.find(')').unwrap_or(behind.len());
            behind[..end]
                .split(['"', '\''])
                .find(|piece| is_dotted_name(piece))
        })
}

/// The package around the settings module that has a `wsgi.py`: of `config.settings.local`
/// first `config.settings`, then `config`.
fn package_with_wsgi(chdir: &Path, settings: &str) -> Option<String> {
    let mut package = settings;
    while let Some((parent, _)) = package.rsplit_once('.') {
        let directory = chdir.join(parent.replace('.', "/"));
        if directory.join("wsgi.py").is_file() {
            return Some(parent.to_owned());
        }
        package = parent;
    }
    None
}

/// A single-file application, or why the files that were there are none.
fn flask(chdir: &Path) -> (Option<AppRef>, Vec<String>) {
    let mut notes = Vec::new();
    for file in FLASK_FILES {
        let Some(source) = read_source(&chdir.join(file)) else {
            continue;
        };
        let Some((callable, factory)) = callable_in(&source) else {
            notes.push(format!(
                "{file} defines none of application, app, create_app"
            ));
            continue;
        };
        let kind = if source.to_lowercase().contains("flask") {
            "Flask application"
        } else {
            "WSGI application"
        };
        let app = AppRef {
            target: AppTarget::Module(file.trim_end_matches(".py").to_owned()),
            callable: factory.then(|| callable.to_owned()),
            factory,
            found: Some(format!("{kind} ({file})")),
        };
        return (Some(app), notes);
    }
    (None, notes)
}

/// The name at top level that looks like the application, and whether it is a factory.
/// Flask's own command looks for the same names.
fn callable_in(source: &str) -> Option<(&'static str, bool)> {
    [
        ("application", false),
        ("app", false),
        ("create_app", true),
        ("make_app", true),
    ]
    .into_iter()
    .find(|(name, _)| source.lines().any(|line| binds(line, name)))
}

/// Whether a line of Python at top level binds `name`.
fn binds(line: &str, name: &str) -> bool {
    let first_word = |text: &str| {
        text.trim_start()
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .next()
            .is_some_and(|word| word == name)
    };
    if let Some(rest) = ["def ", "class "]
        .iter()
        .find_map(|word| line.strip_prefix(word))
    {
        return first_word(rest);
    }
    if line.starts_with("from ") || line.starts_with("import ") {
        // The name that an import binds stands last before a comma or the end.
        return line.split_once("import ").is_some_and(|(_, names)| {
            names
                .split('#')
                .next()
                .unwrap_or_default()
                .split([',', '(', ')'])
                .any(|item| item.split_whitespace().next_back() == Some(name))
        });
    }
    first_word(line)
        && line[name.len()..]
            .trim_start()
            .strip_prefix(['=', ':'])
            .is_some_and(|rest| !rest.starts_with('='))
}

fn read_source(path: &Path) -> Option<String> {
    if !path.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    File::open(path)
        .ok()?
        .take(LONGEST_SOURCE)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::app::tests::project;
    use proptest::prelude::*;

    fn check_discovery(files: &[(&str, &str)], expected: &str) {
        let dir = project(files);
        let shown = match discover(dir.path()) {
            Ok(Discovery::Found(app)) => format!("{app}: {}", app.found.as_deref().unwrap()),
            Ok(Discovery::Nothing(looked_for)) => looked_for,
            Err(error) => error.to_string(),
        };
        assert!(shown.contains(expected), "{files:?}: {shown}");
    }

    const MANAGE: &str = "os.environ.setdefault(\"DJANGO_SETTINGS_MODULE\", \"mysite.settings\")";
    const DJANGO_WSGI: &str = "from django.core.wsgi import get_wsgi_application";

    #[test]
    fn a_django_project_is_found() {
        check_discovery(
            &[("manage.py", MANAGE), ("mysite/wsgi.py", DJANGO_WSGI)],
            "mysite.wsgi: Django project (manage.py, mysite/wsgi.py)",
        );
        check_discovery(
            &[
                ("manage.py", MANAGE),
                ("mysite/wsgi.py", ""),
                ("other/wsgi.py", ""),
                ("app.py", "app = 1"),
            ],
            "mysite.wsgi: Django",
        );
        check_discovery(
            &[
                (
                    "manage.py",
                    "# DJANGO_SETTINGS_MODULE 'no.no'\nos.environ['DJANGO_SETTINGS_MODULE'] = 'config.settings.local'",
                ),
                ("config/wsgi.py", ""),
                ("other/wsgi.py", ""),
            ],
            "config.wsgi: Django",
        );
        check_discovery(
            &[
                (
                    "manage.py",
                    "os.environ.setdefault(\n  'DJANGO_SETTINGS_MODULE',\n  'b.settings',\n)",
                ),
                ("a/wsgi.py", ""),
                ("b/wsgi.py", ""),
            ],
            "b.wsgi: Django",
        );
        check_discovery(
            &[("shop/wsgi.py", DJANGO_WSGI)],
            "shop.wsgi: Django project (shop/wsgi.py)",
        );
        check_discovery(
            &[("manage.py", ""), ("b/wsgi.py", ""), ("a/wsgi.py", "")],
            "a.wsgi or b.wsgi (choose one with --app)",
        );
    }

    #[test]
    fn a_flask_application_is_found() {
        check_discovery(
            &[("app.py", "from flask import Flask\napp = Flask(__name__)")],
            "app: Flask application (app.py)",
        );
        check_discovery(
            &[("main.py", "def application(environ, start_response):")],
            "main: WSGI application (main.py)",
        );
        check_discovery(
            &[("app.py", "import flask\ndef create_app():\n    app = 1")],
            "app:create_app(): Flask application (app.py)",
        );
        check_discovery(
            &[
                ("app.py", "print('a script')"),
                ("wsgi.py", "from web import make as x, site as app"),
            ],
            "wsgi: WSGI application (wsgi.py)",
        );
        check_discovery(
            &[
                ("manage.py", "import flask_script"),
                ("index.py", "app: Flask = make()"),
            ],
            "index: Flask",
        );
    }

    #[test]
    fn what_is_no_application_is_not_taken_for_one() {
        check_discovery(
            &[],
            "manage.py, */wsgi.py, application.py, app.py, main.py, wsgi.py, index.py",
        );
        check_discovery(
            &[("main.py", "app == 1\napplications = 2\n  app = 3")],
            "main.py defines none of",
        );
        check_discovery(&[("docs/wsgi.py", "# text")], "index.py");
    }

    proptest! {
        #[test]
        fn any_source_is_searched_without_a_panic(source in "(\\PC|\n){0,200}|(DJANGO_SETTINGS_MODULE|app|[\"'=(), .]|é|\n){0,30}") {
            let _ = settings_module(&source);
            let _ = callable_in(&source);
        }
    }
}
