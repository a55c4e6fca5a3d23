//! The facts of a directory from which its files are written: application, packages, version of Python.
//!
//! Files are read as text; nothing is imported or executed.

use std::path::Path;

use super::packages::{self, List, Packages};
use super::python::{self, PythonVersion};
use super::source::read;
use crate::config::app::names_in;
use crate::config::discovery::{Discovery, discover};
use crate::config::layers::Layer;
use crate::config::native;

/// The facts of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// The layout, for people: `Django project (manage.py, mysite/wsgi.py)`.
    pub found: String,
    /// The directory of the application, where it is below this one.
    pub chdir: Option<String>,
    /// The kind of site.
    pub site: Site,
    /// The packages.
    pub packages: Packages,
    /// The version of Python.
    pub python: PythonVersion,
    /// A module with an application of Celery.
    pub celery: Option<String>,
    /// Files of other servers, and the names of these servers.
    pub servers: Vec<(String, &'static str)>,
}

/// A kind of site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Site {
    /// A Django project.
    Django {
        /// The value of `app`.
        app: String,
        /// True if there is a `manage.py`.
        has_manage: bool,
        /// True if the settings name a directory for `collectstatic`.
        has_static_root: bool,
        /// True if the settings name a directory for uploads.
        has_media_root: bool,
    },
    /// Another WSGI application.
    Wsgi {
        /// The value of `app`.
        app: String,
        /// True if it is one of Flask.
        is_flask: bool,
        /// Its folder of static files, relative to the directory of the application, if pyserve does not serve
        /// it by its name alone.
        static_folder: Option<String>,
    },
    /// Files without an application, from this directory.
    Files(String),
}

/// Directories that hold no application.
const OTHER_CODE: [&str; 9] = [
    "build",
    "dist",
    "docs",
    "env",
    "examples",
    "node_modules",
    "test",
    "tests",
    "venv",
];
/// Directories that builds of pages write, and directories of plain sites.
const PAGES: [&str; 4] = ["public", "dist", "build", "site"];

/// Looks at a directory. `servers` are the files of other servers in it.
///
/// # Errors
/// The reason, if there is no application or more than one.
pub fn look(
    dir: &Path,
    flags: &Layer,
    servers: Vec<(String, &'static str)>,
) -> Result<Project, String> {
    if !dir.is_dir() {
        return Err(format!("{} is no directory", dir.display()));
    }
    let given = |name: &str| flags.entry(name).and_then(|entry| entry.values.last());
    let (found, chdir, app) = match (given("app"), given("chdir")) {
        (Some(app), chdir) => (format!("--app {app}"), chdir.cloned(), Some(app.clone())),
        (None, Some(chdir)) => in_directory(dir, Some(chdir))?,
        (None, None) => in_directory(dir, None)?,
    };
    let packages = packages::packages(dir, chdir.as_deref());
    let at = match &chdir {
        Some(chdir) => dir.join(native::path(chdir)),
        None => dir.to_owned(),
    };
    let python = python::version(dir);
    let site = match app {
        Some(app) => site(&at, app, &found, &packages),
        None => Site::Files(found.clone()),
    };
    let celery = celery(&at, &packages);
    let found = match &site {
        Site::Files(pages) => format!("files in {pages}"),
        _ => found,
    };
    // Both texts become comments.
    let found = one_line(&found);
    let servers = servers.into_iter();
    let servers = servers.map(|(file, server)| (one_line(&file), server));
    let servers = servers.collect();
    Ok(Project {
        found,
        chdir,
        site,
        packages,
        python,
        celery,
        servers,
    })
}

/// A text that ends no comment.
fn one_line(text: &str) -> String {
    native::shown(text).replace(char::is_control, "?")
}

/// The layout, the directory of the application below `dir`, and the application.
type Layout = (String, Option<String>, Option<String>);

/// The application in the directory, or in one below it (`backend`, `src/mysite`); else pages without an
/// application.
fn in_directory(dir: &Path, chdir: Option<&String>) -> Result<Layout, String> {
    let at = match chdir {
        Some(chdir) => dir.join(native::path(chdir)),
        None => dir.to_owned(),
    };
    let looked_for = match discover(&at).map_err(|error| error.to_string())? {
        Discovery::Found(app) => {
            let found = app.found.clone().unwrap_or_default();
            return Ok((found, chdir.cloned(), Some(app.to_string())));
        }
        Discovery::Nothing(looked_for) => looked_for,
    };
    if chdir.is_none() {
        let children = directories_in(dir, "");
        let grandchildren = || children.iter().flat_map(|child| directories_in(dir, child));
        let below = match layouts(dir, &children) {
            near if near.is_empty() => layouts(dir, &grandchildren().collect::<Vec<_>>()),
            near => near,
        };
        if below.len() > 1 {
            let names = below.iter().filter_map(|(_, chdir, _)| chdir.as_deref());
            let names: Vec<_> = names.collect();
            return Err(format!(
                "several applications: in {} (choose one with --chdir, or name it with --app)",
                names.join(", ")
            ));
        }
        if let Some(layout) = below.into_iter().next() {
            return Ok(layout);
        }
    }
    let has_page = |name: &&str| at.join(name).join("index.html").is_file();
    match PAGES.into_iter().find(has_page) {
        Some(pages) => Ok((pages.to_owned(), chdir.cloned(), None)),
        None => {
            let passed_over = passed_over(dir);
            Err(format!(
                "no application found: looked for {looked_for}{passed_over} (name it with --app)"
            ))
        }
    }
}

/// The directories of `dir/below` that may have an application, as paths from `dir`, sorted.
fn directories_in(dir: &Path, below: &str) -> Vec<String> {
    let at = dir.join(below);
    let may_have_one = |name: &String| {
        let inside = at.join(name);
        !OTHER_CODE.contains(&&**name)
            && is_plain(name)
            && inside.is_dir()
            && !inside.join("pyvenv.cfg").exists()
    };
    let mut names: Vec<_> = names_in(&at)
        .filter(may_have_one)
        .map(|name| match below {
            "" => name,
            _ => format!("{below}/{name}"),
        })
        .collect();
    names.sort();
    names
}

/// Those of the directories that have an application.
fn layouts(dir: &Path, names: &[String]) -> Vec<Layout> {
    let layout = |name: &String| match discover(&dir.join(name)) {
        Ok(Discovery::Found(app)) => {
            let found = app.found.clone().unwrap_or_default();
            let found = format!("{found} in {name}");
            Some((found, Some(name.clone()), Some(app.to_string())))
        }
        _ => None,
    };
    names.iter().filter_map(layout).collect()
}

/// Says which directories were not looked into because of their names; nothing if there are none.
fn passed_over(dir: &Path) -> String {
    let is_other = |name: &String| !is_plain(name) && dir.join(name).is_dir();
    let mut names: Vec<_> = names_in(dir).filter(is_other).collect();
    names.sort();
    names.truncate(3);
    let names: Vec<_> = names
        .iter()
        .map(|name| format!("{:?}", one_line(name)))
        .collect();
    match names.is_empty() {
        true => String::new(),
        false => format!(
            "; not in {}: the name needs quotes (run `pyserve init` in there)",
            names.join(", ")
        ),
    }
}

/// True for names that need no quotes in any of the files.
fn is_plain(name: &str) -> bool {
    name.chars()
        .all(|char| char.is_alphanumeric() || "-_.".contains(char))
}

fn site(at: &Path, app: String, found: &str, packages: &Packages) -> Site {
    let is_django = found.starts_with("Django") || is_django_app(at, &app);
    if is_django {
        let settings = django_settings(at, &app);
        return Site::Django {
            app,
            has_manage: at.join("manage.py").is_file(),
            has_static_root: assigns(&settings, "STATIC_ROOT"),
            has_media_root: assigns(&settings, "MEDIA_ROOT"),
        };
    }
    let is_flask = found.starts_with("Flask") || packages.names.contains("flask");
    Site::Wsgi {
        static_folder: is_flask.then(|| static_folder(at)).flatten(),
        app,
        is_flask,
    }
}

/// The package of a module: `mysite` of `mysite.wsgi:application`.
fn package(app: &str) -> &str {
    let module = app.split(':').next().unwrap_or(app);
    module
        .rsplit_once('.')
        .map_or(module, |(package, _)| package)
}

fn is_django_app(at: &Path, app: &str) -> bool {
    let file = format!("{}/wsgi.py", package(app).replace('.', "/"));
    read(&at.join(file)).is_some_and(|text| text.contains("django"))
}

/// The text of the settings: `settings.py` or all files of `settings/`, beside the module of the application or
/// in a package of the directory.
fn django_settings(at: &Path, app: &str) -> String {
    let own = at.join(package(app).replace('.', "/"));
    let mut packages: Vec<_> = names_in(at).map(|name| at.join(name)).collect();
    packages.sort();
    let places = [own].into_iter().chain(packages);
    for place in places {
        let mut files = vec![place.join("settings.py")];
        let parts = names_in(&place.join("settings"));
        let parts = parts.filter(|name| name.ends_with(".py"));
        files.extend(parts.map(|name| place.join("settings").join(name)));
        let texts: Vec<_> = files.iter().filter_map(|file| read(file)).collect();
        if !texts.is_empty() {
            return texts.join("\n");
        }
    }
    String::new()
}

/// True if a line of Python assigns something else than nothing to this name.
fn assigns(text: &str, name: &str) -> bool {
    text.lines().any(|line| {
        let value = line.trim_start().strip_prefix(name);
        let value = value.and_then(|rest| rest.trim_start().strip_prefix('='));
        value.is_some_and(|value| {
            let value = value.split('#').next().unwrap_or_default().trim();
            !["", "None", "''", "\"\""].contains(&value) && !value.starts_with('=')
        })
    })
}

/// `myapp/static`, the folder of a Flask application in a package; `static` itself is served by its name.
fn static_folder(at: &Path) -> Option<String> {
    if at.join("static").is_dir() {
        return None;
    }
    let has_both = |name: &String| {
        is_plain(name)
            && at.join(name).join("__init__.py").is_file()
            && at.join(name).join("static").is_dir()
    };
    let mut packages: Vec<_> = names_in(at).filter(has_both).collect();
    match packages.len() {
        1 => packages.pop().map(|name| format!("{name}/static")),
        _ => None,
    }
}

/// The module behind `celery -A`: the package with a `celery.py` in it.
fn celery(at: &Path, packages: &Packages) -> Option<String> {
    if packages.list != List::Missing && !packages.names.contains("celery") {
        return None;
    }
    let mut names: Vec<_> = names_in(at)
        .filter(|name| {
            let text = read(&at.join(name).join("celery.py"));
            is_plain(name) && text.is_some_and(|text| text.contains("Celery("))
        })
        .collect();
    names.sort();
    names.into_iter().next()
}

impl Project {
    /// Facts that neither file can settle, for people.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for (file, server) in &self.servers {
            notes.push(format!(
                "note: {file} is a file of {server}; `pyserve explain {file}` shows its settings for pyserve.toml"
            ));
        }
        if let (Some(list), replaced) = (self.packages.file(), self.packages.replaced())
            && !replaced.is_empty()
        {
            notes.push(format!(
                "note: {list} lists {}, whose place pyserve takes",
                replaced.join(", ")
            ));
        }
        if let Site::Django {
            has_static_root: false,
            ..
        } = self.site
        {
            notes.push(
                "note: the settings of Django have no STATIC_ROOT, so `collectstatic` has no place to write to"
                    .to_owned(),
            );
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::app::tests::project;

    const MANAGE: &str = "os.environ.setdefault(\"DJANGO_SETTINGS_MODULE\", \"mysite.settings\")";

    fn looked_at(files: &[(&str, &str)]) -> Result<Project, String> {
        let dir = project(files);
        look(dir.path(), &Layer::default(), Vec::new())
    }

    #[test]
    fn settings_of_django_say_where_files_go() {
        let check = |settings: (&str, &str), expected: (bool, bool)| {
            let files = [
                ("manage.py", MANAGE),
                ("mysite/wsgi.py", "django"),
                settings,
            ];
            let Site::Django {
                has_static_root,
                has_media_root,
                app,
                has_manage: true,
            } = looked_at(&files).unwrap().site
            else {
                panic!("no Django project: {settings:?}");
            };
            assert_eq!(app, "mysite.wsgi");
            assert_eq!((has_static_root, has_media_root), expected, "{settings:?}");
        };
        let root = "STATIC_ROOT = BASE_DIR / 'static'\n";
        check(("mysite/settings.py", ""), (false, false));
        check(("mysite/settings.py", root), (true, false));
        check(("mysite/settings/base.py", root), (true, false));
        check(("other/settings.py", "MEDIA_ROOT='m'"), (false, true));
        for nothing in [
            "# STATIC_ROOT = 1",
            "STATIC_ROOT = None",
            "STATIC_ROOTS = 1",
            "STATIC_ROOT == 1",
        ] {
            check(("mysite/settings.py", nothing), (false, false));
        }
    }

    #[test]
    fn directories_whose_names_need_quotes_are_named() {
        let problem = looked_at(&[("my app/app.py", "app = 1")]).unwrap_err();
        assert!(
            problem.contains("not in \"my app\": the name needs quotes"),
            "{problem}"
        );
    }

    #[test]
    fn an_application_in_a_directory_below_is_found() {
        let found = looked_at(&[(
            "backend/app.py",
            "import flask\napp = flask.Flask(__name__)",
        )]);
        let found = found.unwrap();
        assert_eq!(found.chdir.as_deref(), Some("backend"));
        assert_eq!(found.found, "Flask application (app.py) in backend");
        let deeper = ("src/shop/app.py", "app = 1");
        let found = looked_at(&[deeper, ("src/tests/app.py", "app = 1")]).unwrap();
        assert_eq!(found.chdir.as_deref(), Some("src/shop"));
        let nearer = looked_at(&[deeper, ("web/app.py", "app = 1")]).unwrap();
        assert_eq!(nearer.chdir.as_deref(), Some("web"));
        let two = looked_at(&[deeper, ("src/blog/app.py", "app = 1")]);
        assert!(two.unwrap_err().contains("in src/blog, src/shop ("));
        let two = looked_at(&[("a/app.py", "app = 1"), ("b/app.py", "app = 1")]);
        assert!(
            two.unwrap_err()
                .starts_with("several applications: in a, b")
        );
        let tests = looked_at(&[("tests/app.py", "app = 1")]);
        assert!(tests.unwrap_err().starts_with("no application found"));
    }

    #[test]
    fn pages_need_no_application() {
        let found = looked_at(&[("public/index.html", "")]).unwrap();
        assert_eq!(found.site, Site::Files("public".to_owned()));
    }

    #[test]
    fn the_folder_of_a_package_of_flask_is_found() {
        let check = |files: &[(&str, &str)], expected: Option<&str>| {
            let app = [("wsgi.py", "from flask import Flask\napp = Flask('shop')")];
            let found = looked_at(&[&app, files].concat()).unwrap();
            let Site::Wsgi { static_folder, .. } = found.site else {
                panic!("{found:?}");
            };
            assert_eq!(static_folder.as_deref(), expected, "{files:?}");
        };
        let package = [("shop/__init__.py", ""), ("shop/static/a.css", "")];
        check(&package, Some("shop/static"));
        check(&[&package[..], &[("static/a.css", "")]].concat(), None);
        check(&[("shop/static/a.css", "")], None);
    }
}
