//! Which application: a reference somebody gave, or one found by the look of its directory.
//!
//! A reference is `MODULE` or `FILE`, with `:CALLABLE` or `:FACTORY()` behind it. Nothing
//! is imported or executed here; discovery reads a few files as text, and what it cannot
//! tell from them it leaves to the host, which reports what Python says.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::{ConfigError, Invalid, invalid};
use super::suggest;

/// The application to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppRef {
    /// What to import.
    pub target: AppTarget,
    /// The attribute to call; without one `application`, then `app`.
    pub callable: Option<String>,
    /// Whether the attribute is a factory to be called without arguments.
    pub factory: bool,
    /// How it was recognised, `Django project (manage.py, mysite/wsgi.py)`; `None` if given.
    pub found: Option<String>,
}

/// What to import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppTarget {
    /// A dotted module name.
    Module(String),
    /// A file of Python code, whatever its name ends in; absolute.
    File(PathBuf),
}

impl fmt::Display for AppRef {
    /// As one would write it behind `--app`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            AppTarget::Module(name) => f.write_str(name)?,
            AppTarget::File(path) => write!(f, "{}", path.display())?,
        }
        if let Some(callable) = &self.callable {
            write!(f, ":{callable}{}", if self.factory { "()" } else { "" })?;
        }
        Ok(())
    }
}

impl AppRef {
    /// Reads a reference; files are looked for in `chdir`.
    ///
    /// # Errors
    /// [`Invalid`] if it is no reference, or names a file that is not there.
    pub fn parse(text: &str, chdir: &Path) -> Result<Self, Invalid> {
        // A file may have a colon in its name, so the whole text is tried first.
        if !text.is_empty() && chdir.join(text).is_file() {
            return Ok(Self::given(file(text, chdir), None, false));
        }
        let (target, callable) = match text.rsplit_once(':') {
            Some((target, callable)) => (target, Some(callable)),
            None => (text, None),
        };
        let (callable, factory) = match callable {
            None => (None, false),
            Some(callable) => {
                let (name, factory) = callable_of(callable)?;
                (Some(name), factory)
            }
        };
        Ok(Self::given(target_of(target, chdir)?, callable, factory))
    }

    fn given(target: AppTarget, callable: Option<String>, factory: bool) -> Self {
        Self {
            target,
            callable,
            factory,
            found: None,
        }
    }
}

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

/// Most packages that are looked at; a directory with more is no project.
const MOST_PACKAGES: usize = 1000;

fn callable_of(text: &str) -> Result<(String, bool), Invalid> {
    let (name, factory) = match text.split_once('(') {
        None => (text, false),
        Some((name, ")")) => (name, true),
        Some(_) => {
            return Err(invalid(
                "a factory is called without arguments",
                "give `MODULE:FACTORY()`, and a function of your own for arguments",
            ));
        }
    };
    if is_dotted_name(name) {
        Ok((name.to_owned(), factory))
    } else {
        Err(invalid(
            format!("`{name}` is no name of a callable"),
            "give `MODULE:NAME`, or `MODULE:FACTORY()`",
        ))
    }
}

fn target_of(text: &str, chdir: &Path) -> Result<AppTarget, Invalid> {
    let path = chdir.join(text);
    if text.is_empty() {
        return Err(invalid(
            "no module or file",
            "give `MODULE` or `FILE`, as in `mysite.wsgi`",
        ));
    }
    if path.is_file() {
        return Ok(file(text, chdir));
    }
    if text.contains('/') || text.ends_with(".py") {
        return Err(missing_file(text, &path, chdir));
    }
    if is_dotted_name(text) {
        return Ok(AppTarget::Module(text.to_owned()));
    }
    Err(invalid(
        format!(
            "no file of that name in {}, and no module can have it",
            chdir.display()
        ),
        "give a module as in `mysite.wsgi`, or an existing file; its directory goes to --chdir",
    ))
}

fn file(text: &str, chdir: &Path) -> AppTarget {
    AppTarget::File(chdir.join(text).components().collect())
}

fn missing_file(text: &str, path: &Path, chdir: &Path) -> Invalid {
    let with_suffix = format!("{text}.py");
    if path.is_dir() {
        let module = text.trim_matches(['.', '/']).replace('/', ".");
        return invalid(
            format!("{} is a directory", path.display()),
            format!("give a file in it, or a module as in `{module}.wsgi`"),
        );
    }
    if chdir.join(&with_suffix).is_file() {
        return invalid("there is no such file", format!("give {with_suffix}"));
    }
    let problem = format!("there is no file {}", path.display());
    let siblings: Vec<String> = path
        .parent()
        .map(|parent| names_in(parent).collect())
        .unwrap_or_default();
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    match suggest::closest(name, siblings.iter().map(String::as_str)) {
        Some(meant) => invalid(problem, format!("did you mean {meant}?")),
        None => invalid(
            problem,
            "give an existing file; its directory goes to --chdir",
        ),
    }
}

/// A Python identifier, or several with dots between them.
fn is_dotted_name(text: &str) -> bool {
    text.split('.').all(|part| {
        let mut chars = part.chars();
        chars
            .next()
            .is_some_and(|first| first.is_alphabetic() || first == '_')
            && chars.all(|c| c.is_alphanumeric() || c == '_')
    })
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

/// The names in a directory, without those that start with a dot; none if unreadable.
fn names_in(directory: &Path) -> impl Iterator<Item = String> {
    std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .take(MOST_PACKAGES)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
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
    use proptest::prelude::*;
    use tempfile::TempDir;

    /// A directory with these files.
    fn project(files: &[(&str, &str)]) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        dir
    }

    #[test]
    fn references() {
        let dir = project(&[
            ("hello.wsgi", ""),
            ("x.py", ""),
            ("sub/y.py", ""),
            ("a:b.py", ""),
        ]);
        let check = |text: &str, expected: &str| {
            let root = format!("{}/", dir.path().display());
            let shown = match AppRef::parse(text, dir.path()) {
                Ok(app) => {
                    let kind = match app.target {
                        AppTarget::Module(_) => "module",
                        AppTarget::File(_) => "file",
                    };
                    format!("{kind} {app}")
                }
                Err(error) => format!("{}: {}", error.problem, error.remedy),
            };
            assert_eq!(shown.replace(&root, ""), expected, "{text:?}");
        };
        check("hello.wsgi", "file hello.wsgi");
        check("hello.wsgi:app", "file hello.wsgi:app");
        check("mysite.wsgi", "module mysite.wsgi");
        check("mysite", "module mysite");
        check("pkg.mod:create_app()", "module pkg.mod:create_app()");
        check("pkg.mod:site.app", "module pkg.mod:site.app");
        check("x.py", "file x.py");
        check("x.py:app", "file x.py:app");
        check("sub/y.py:app", "file sub/y.py:app");
        check("./x.py:app", "file x.py:app");
        check("a:b.py", "file a:b.py");
        check("y.py", "there is no file y.py: did you mean x.py?");
        check("sub/y", "there is no such file: give sub/y.py");
        check(
            "sub/",
            "sub/ is a directory: give a file in it, or a module as in `sub.wsgi`",
        );
        check(
            "other/far.py",
            "there is no file other/far.py: give an existing file; its directory goes to --chdir",
        );
        check(
            "x.py:app(1)",
            "a factory is called without arguments: give `MODULE:FACTORY()`, and a function of your own for arguments",
        );
        check(
            "x.py:",
            "`` is no name of a callable: give `MODULE:NAME`, or `MODULE:FACTORY()`",
        );
        check(
            "",
            "no module or file: give `MODULE` or `FILE`, as in `mysite.wsgi`",
        );
        for wrong in [":app", "a..b", "my-site", "1st.wsgi", "a b"] {
            assert!(AppRef::parse(wrong, dir.path()).is_err(), "{wrong:?}");
        }
    }

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
        fn any_reference_is_read_without_a_panic(text in "\\PC{0,30}|[a-z./:()]{0,20}") {
            let _ = AppRef::parse(&text, Path::new("/nonexistent"));
        }

        #[test]
        fn module_references_read_back(module in "[a-z_]{1,8}(\\.[a-z_]{1,8}){0,3}q", callable in "[a-z_]{1,8}", factory: bool) {
            let text = format!("{module}:{callable}{}", if factory { "()" } else { "" });
            let app = AppRef::parse(&text, Path::new("/nonexistent")).unwrap();
            prop_assert_eq!(app.to_string(), text);
        }

        #[test]
        fn any_source_is_searched_without_a_panic(source in "(\\PC|\n){0,200}|(DJANGO_SETTINGS_MODULE|app|[\"'=(), .]|é|\n){0,30}") {
            let _ = settings_module(&source);
            let _ = callable_in(&source);
        }
    }
}
