//! Finds the application in its directory when the settings do not name one.
//!
//! Nothing is imported or executed here: a few files are read as text. Where the text is not enough
//! the host imports the module and reports what it found.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::app::{AppRef, AppTarget, is_dotted_name, names_in};
use super::error::ConfigError;
use super::module_names::Names;

/// The result of searching a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Discovery {
    /// This application.
    Found(AppRef),
    /// Nothing; the text names the files that were looked for and those that were found.
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

/// True if the module in this file binds the name when it is imported.
pub fn binds(file: &Path, name: &str) -> bool {
    read_source(file).is_some_and(|source| Names::of(&source).may_have(name))
}

/// True for the `manage.py` of a Django project.
pub fn is_django_manage(file: &Path) -> bool {
    read_source(file).is_some_and(|source| source.contains("DJANGO_SETTINGS_MODULE"))
}

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
        arguments: String::new(),
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

/// A single-file application, or why the files that were there are none. One whose text does not say is
/// the last resort: the host imports it, and looks.
fn flask(chdir: &Path) -> (Option<AppRef>, Vec<String>) {
    let mut notes = Vec::new();
    let mut unclear = None;
    for file in FLASK_FILES {
        let Some(source) = read_source(&chdir.join(file)) else {
            continue;
        };
        let names = Names::of(&source);
        let callable = match callable_among(&names) {
            Some(callable) => callable,
            None if names.is_open() => {
                unclear = unclear.or_else(|| Some(single_file(file, &source, Callable::Unclear)));
                continue;
            }
            None => {
                let all = [APPLICATIONS, FACTORIES].concat().join(", ");
                notes.push(format!("{file} defines none of {all}"));
                continue;
            }
        };
        return (Some(single_file(file, &source, callable)), notes);
    }
    (unclear, notes)
}

/// The callable in a file, by its text.
enum Callable {
    /// One of [`APPLICATIONS`].
    Application,
    /// This one of [`FACTORIES`].
    Factory(&'static str),
    /// Importing the file shows which.
    Unclear,
}

/// Names of applications, in the order in which the host looks for them.
const APPLICATIONS: &[&str] = &["application", "app"];
/// Names of functions that make one. Flask's own command looks for the same names.
const FACTORIES: &[&str] = &["create_app", "make_app"];

fn callable_among(names: &Names) -> Option<Callable> {
    let any = |list: &[&str], is: fn(&Names, &str) -> bool| list.iter().any(|name| is(names, name));
    if any(APPLICATIONS, Names::has) {
        return Some(Callable::Application);
    }
    if any(APPLICATIONS, Names::may_have) {
        return Some(Callable::Unclear);
    }
    if let Some(factory) = FACTORIES.iter().find(|name| names.has(name)) {
        return Some(Callable::Factory(factory));
    }
    any(FACTORIES, Names::may_have).then_some(Callable::Unclear)
}

fn single_file(file: &str, source: &str, callable: Callable) -> AppRef {
    let kind = match source.to_lowercase().contains("flask") {
        true => "Flask application",
        false => "WSGI application",
    };
    let (callable, factory) = match callable {
        Callable::Factory(name) => (Some(name.to_owned()), true),
        Callable::Application | Callable::Unclear => (None, false),
    };
    AppRef {
        target: AppTarget::Module(file.trim_end_matches(".py").to_owned()),
        callable,
        factory,
        arguments: String::new(),
        found: Some(format!("{kind} ({file})")),
    }
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
    fn what_the_text_does_not_show_is_left_to_the_import() {
        check_discovery(
            &[("app.py", "from site_parts import *")],
            "app: WSGI application (app.py)",
        );
        check_discovery(
            &[
                ("app.py", "try:\n  app = 1\nexcept E:\n  raise"),
                ("main.py", "app = 1"),
            ],
            "app: WSGI application (app.py)",
        );
        check_discovery(
            &[("app.py", "from tkinter import *"), ("main.py", "app = 1")],
            "main: WSGI application (main.py)",
        );
        check_discovery(
            &[(
                "app.py",
                "def create_app(): pass\nif __name__ == '__main__':\n  app = create_app()",
            )],
            "app:create_app(): WSGI application (app.py)",
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
            let _ = callable_among(&Names::of(&source));
        }
    }
}
