//! The reference to an application as the settings give it.
//!
//! A reference is `MODULE` or `FILE`, with `:CALLABLE`, `:FACTORY()` or `:FACTORY(ARGUMENTS)` behind it. Nothing
//! is imported or executed here.

use std::fmt;
use std::path::{Path, PathBuf};

use super::error::{Invalid, invalid};
use super::{native, suggest};

/// The application to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppRef {
    /// The module to import.
    pub target: AppTarget,
    /// The attribute to call; without one `application`, then `app`.
    pub callable: Option<String>,
    /// True if the attribute is a factory to be called.
    pub factory: bool,
    /// The arguments of the factory, literals of Python: `"production", debug=False`; empty for none.
    pub arguments: String,
    /// The layout by which it was found, `Django project (manage.py, mysite/wsgi.py)`; `None` if
    /// given.
    pub found: Option<String>,
}

/// The module to import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppTarget {
    /// A dotted module name.
    Module(String),
    /// A file of Python code, whatever its name ends in; absolute.
    File(PathBuf),
}

impl fmt::Display for AppRef {
    /// As one would write it behind `--app`. Arguments may have secrets in them, and are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            AppTarget::Module(name) => f.write_str(name)?,
            AppTarget::File(path) => write!(f, "{}", path.display())?,
        }
        if let Some(callable) = &self.callable {
            let call = match (self.factory, self.arguments.is_empty()) {
                (false, _) => "",
                (true, true) => "()",
                (true, false) => "(…)",
            };
            write!(f, ":{callable}{call}")?;
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
        if !text.is_empty() && chdir.join(native::path(text)).is_file() {
            return Ok(Self::given(file(text, chdir), None));
        }
        let (target, callable) = match call_in(text).or_else(|| text.rsplit_once(':')) {
            Some((target, callable)) => (target, Some(callable_of(callable)?)),
            None => (text, None),
        };
        Ok(Self::given(target_of(target, chdir)?, callable))
    }

    /// True if `text` may stand behind the colon of a reference.
    pub fn has_callable(text: &str) -> bool {
        callable_of(text).is_ok()
    }

    fn given(target: AppTarget, callable: Option<Callable>) -> Self {
        let is_call = callable.as_ref().is_some_and(|it| it.arguments.is_some());
        let (callable, arguments) = match callable {
            Some(callable) => (Some(callable.name), callable.arguments),
            None => (None, None),
        };
        Self {
            target,
            callable,
            factory: is_call,
            arguments: arguments.unwrap_or_default(),
            found: None,
        }
    }
}

/// The attribute of a reference.
struct Callable {
    name: String,
    /// The text between its parentheses, if it has some.
    arguments: Option<String>,
}

/// The target and the call of `TARGET:FACTORY(ARGUMENTS)`; arguments may have colons in them.
fn call_in(text: &str) -> Option<(&str, &str)> {
    let colons = text.match_indices(':').map(|(at, _)| at);
    let mut splits = colons.map(|at| (&text[..at], &text[at + 1..]));
    splits.find(|(_, call)| {
        let name = call.strip_suffix(')').and_then(|call| call.split_once('('));
        name.is_some_and(|(name, _)| is_dotted_name(name))
    })
}

/// Most packages that are looked at; a directory with more is no project.
const MOST_PACKAGES: usize = 1000;

fn callable_of(text: &str) -> Result<Callable, Invalid> {
    let (name, arguments) = match text.split_once('(') {
        None => (text, None),
        Some((name, rest)) => match rest.strip_suffix(')') {
            Some(arguments) => (name, Some(arguments.trim())),
            None => {
                return Err(invalid(
                    "the call of the factory has no end",
                    "give `MODULE:FACTORY()`, or `MODULE:FACTORY(\"argument\", name=1)`",
                ));
            }
        },
    };
    match is_dotted_name(name) {
        true => Ok(Callable {
            name: name.to_owned(),
            arguments: arguments.map(str::to_owned),
        }),
        false => Err(invalid(
            format!("`{name}` is no name of a callable"),
            "give `MODULE:NAME`, or `MODULE:FACTORY()`",
        )),
    }
}

fn target_of(text: &str, chdir: &Path) -> Result<AppTarget, Invalid> {
    let path = chdir.join(native::path(text));
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
    AppTarget::File(chdir.join(native::path(text)).components().collect())
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
    if chdir.join(native::path(&with_suffix)).is_file() {
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
pub(super) fn is_dotted_name(text: &str) -> bool {
    text.split('.').all(|part| {
        let mut chars = part.chars();
        chars
            .next()
            .is_some_and(|first| first.is_alphabetic() || first == '_')
            && chars.all(|c| c.is_alphanumeric() || c == '_')
    })
}

/// The names in a directory, without those that start with a dot; none if unreadable.
pub fn names_in(directory: &Path) -> impl Iterator<Item = String> + use<> {
    std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .take(MOST_PACKAGES)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use tempfile::TempDir;

    /// A directory with these files.
    pub(crate) fn project(files: &[(&str, &str)]) -> TempDir {
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
        check("x.py:app(1)", "file x.py:app(…)");
        check("x.py:app( )", "file x.py:app()");
        check(
            "pkg.mod:make({'a': ':b()'}, c=\"d:e\")",
            "module pkg.mod:make(…)",
        );
        check(
            "x.py:app(1",
            "the call of the factory has no end: give `MODULE:FACTORY()`, or `MODULE:FACTORY(\"argument\", name=1)`",
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
    }
}
