//! The packages of a project: the file that lists them, and the instructions of a Dockerfile that install them.

use std::collections::BTreeSet;
use std::path::Path;

use super::source::read;

/// The packages of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packages {
    /// The list, and the tool that reads it.
    pub list: List,
    /// The directory of the list with a slash behind it, relative to the project; mostly empty.
    pub folder: String,
    /// Names in lower case with hyphens, as far as the list has them directly.
    pub names: BTreeSet<String>,
}

/// A list of packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// `uv.lock`.
    Uv,
    /// `poetry.lock`.
    Poetry,
    /// `Pipfile.lock`.
    Pipenv,
    /// A file for `pip install -r`, by its path.
    Requirements(&'static str),
    /// `[project]` of `pyproject.toml`.
    Pyproject,
    /// `setup.py`.
    Setup,
    /// There is none.
    Missing,
}

/// Files for `pip install -r`; those for production first.
const REQUIREMENTS: [&str; 6] = [
    "requirements/production.txt",
    "requirements/prod.txt",
    "requirements-prod.txt",
    "requirements.txt",
    "requirements/base.txt",
    "requirements/requirements.txt",
];

/// Distributions that are compiled during their installation, with Debian's packages for that.
const COMPILED: [(&str, &str); 4] = [
    ("psycopg2", "gcc libc6-dev libpq-dev"),
    (
        "mysqlclient",
        "gcc libc6-dev pkg-config default-libmysqlclient-dev",
    ),
    ("python-ldap", "gcc libc6-dev libldap-dev libsasl2-dev"),
    ("uwsgi", "gcc libc6-dev"),
];

/// Distributions whose place pyserve takes.
const REPLACED: [&str; 5] = ["bjoern", "gunicorn", "supervisor", "uwsgi", "waitress"];

/// The packages of the project in `dir`, whose application is in `chdir` below it.
pub fn packages(dir: &Path, chdir: Option<&str>) -> Packages {
    let folders = [String::new()].into_iter();
    // COPY takes other names in another form only.
    let is_plain = |chdir: &&str| {
        let mut chars = chdir.chars();
        chars.all(|char| char.is_alphanumeric() || "-_./".contains(char))
    };
    let chdir = chdir.filter(is_plain);
    let folders = folders.chain(chdir.map(|chdir| format!("{chdir}/")));
    for folder in folders {
        let at = dir.join(&folder);
        if let Some(list) = list(&at) {
            let names = names(&at, list);
            return Packages {
                list,
                folder,
                names,
            };
        }
    }
    Packages {
        list: List::Missing,
        folder: String::new(),
        names: BTreeSet::new(),
    }
}

fn list(dir: &Path) -> Option<List> {
    let has = |name: &str| dir.join(name).is_file();
    let is_project = has("pyproject.toml");
    if is_project && has("uv.lock") {
        return Some(List::Uv);
    }
    if is_project && has("poetry.lock") {
        return Some(List::Poetry);
    }
    if has("Pipfile") && has("Pipfile.lock") {
        return Some(List::Pipenv);
    }
    if let Some(file) = REQUIREMENTS.into_iter().find(|file| has(file)) {
        return Some(List::Requirements(file));
    }
    let table = read(&dir.join("pyproject.toml")).and_then(|text| text.parse::<toml::Table>().ok());
    if table.is_some_and(|table| table.contains_key("project")) {
        return Some(List::Pyproject);
    }
    has("setup.py").then_some(List::Setup)
}

fn names(dir: &Path, list: List) -> BTreeSet<String> {
    if let List::Requirements(file) = list {
        let text = read(&dir.join(file)).unwrap_or_default();
        return text.lines().filter_map(distribution).collect();
    }
    let file = match list {
        List::Pipenv => "Pipfile",
        _ => "pyproject.toml",
    };
    let text = read(&dir.join(file)).unwrap_or_default();
    let Ok(table) = text.parse::<toml::Table>() else {
        return BTreeSet::new();
    };
    let project = table
        .get("project")
        .and_then(|project| project.get("dependencies"));
    let listed = project
        .and_then(toml::Value::as_array)
        .into_iter()
        .flatten();
    let listed = listed.filter_map(|value| distribution(value.as_str()?));
    let poetry = table.get("tool").and_then(|tool| tool.get("poetry"));
    let poetry = poetry.and_then(|poetry| poetry.get("dependencies"));
    let tables = [poetry, table.get("packages")].into_iter().flatten();
    let keys = tables
        .filter_map(toml::Value::as_table)
        .flat_map(|table| table.keys());
    listed
        .chain(keys.filter_map(|key| distribution(key)))
        .collect()
}

/// The name at the beginning of a requirement: `Django>=5`, `psycopg[binary]==3.2`.
fn distribution(line: &str) -> Option<String> {
    let line = line.trim();
    let end = line.find(|char: char| !char.is_ascii_alphanumeric() && !"-_.".contains(char));
    let name = &line[..end.unwrap_or(line.len())];
    let starts_well = name.starts_with(|char: char| char.is_ascii_alphanumeric());
    starts_well.then(|| name.to_ascii_lowercase().replace(['_', '.'], "-"))
}

impl Packages {
    /// The file that lists them, for people.
    pub fn file(&self) -> Option<String> {
        let name = match self.list {
            List::Uv => "uv.lock",
            List::Poetry => "poetry.lock",
            List::Pipenv => "Pipfile.lock",
            List::Requirements(file) => file,
            List::Pyproject => "pyproject.toml",
            List::Setup => "setup.py",
            List::Missing => return None,
        };
        Some(format!("{}{name}", self.folder))
    }

    /// Listed servers whose place pyserve takes.
    pub fn replaced(&self) -> Vec<&'static str> {
        let is_listed = |name: &&str| self.names.contains(*name);
        REPLACED.into_iter().filter(is_listed).collect()
    }

    /// Debian's packages that the installation needs.
    pub fn debian(&self) -> Vec<&'static str> {
        let needed = COMPILED.into_iter();
        let needed = needed.filter(|(name, _)| self.names.contains(*name));
        let all: BTreeSet<_> = needed.flat_map(|(_, debian)| debian.split(' ')).collect();
        all.into_iter().collect()
    }

    /// The instructions that install them. They come before the code, so that a change of code does not
    /// install packages again.
    pub fn instructions(&self, otherwise: Option<&str>) -> String {
        let Self { folder, .. } = self;
        match self.list {
            List::Uv => format!(
                "COPY {folder}pyproject.toml {folder}uv.lock ./\n\
                 RUN pip install --no-cache-dir uv && \\\n    \
                 UV_PYTHON_DOWNLOADS=never uv sync --frozen --no-dev --no-install-project --no-cache\n\
                 ENV VIRTUAL_ENV=/app/.venv PATH=/app/.venv/bin:$PATH\n"
            ),
            List::Poetry => format!(
                "COPY {folder}pyproject.toml {folder}poetry.lock ./\n\
                 RUN pip install --no-cache-dir poetry && \\\n    \
                 POETRY_VIRTUALENVS_CREATE=false poetry install --only main --no-root --no-interaction --no-cache\n"
            ),
            List::Pipenv => format!(
                "COPY {folder}Pipfile {folder}Pipfile.lock ./\n\
                 RUN pip install --no-cache-dir pipenv && pipenv sync --system\n"
            ),
            // Such a file may include others beside it.
            List::Requirements(file) => match file.split_once('/') {
                Some((directory, _)) => format!(
                    "COPY {folder}{directory} {directory}\n\
                     RUN pip install --no-cache-dir -r {file}\n"
                ),
                None => format!(
                    "COPY {folder}requirements*.txt ./\n\
                     RUN pip install --no-cache-dir -r {file}\n"
                ),
            },
            List::Pyproject => format!(
                "COPY {folder}pyproject.toml ./\n\
                 RUN pip install --no-cache-dir uv && uv pip install --system --no-cache -r pyproject.toml\n"
            ),
            // It may read any file beside it.
            List::Setup => format!("COPY . .\nRUN pip install --no-cache-dir ./{folder}\n"),
            List::Missing => match otherwise {
                Some(name) => format!(
                    "# No list of packages was found: put them into requirements.txt, and install that.\n\
                     RUN pip install --no-cache-dir {name}\n"
                ),
                None => String::new(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::app::tests::project;

    fn check(files: &[(&str, &str)], expected: Option<&str>, names: &[&str]) {
        let dir = project(files);
        let found = packages(dir.path(), Some("backend"));
        assert_eq!(found.file().as_deref(), expected, "{files:?}");
        let expected: BTreeSet<_> = names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(found.names, expected, "{files:?}");
    }

    #[test]
    fn locked_lists_come_before_others() {
        check(&[], None, &[]);
        let requirements = (
            "requirements.txt",
            "Django>=5 # x\n-r x.txt\npsycopg[c]\nA_b.c\n",
        );
        check(
            &[requirements],
            Some("requirements.txt"),
            &["django", "psycopg", "a-b-c"],
        );
        check(
            &[requirements, ("requirements/production.txt", "gunicorn\n")],
            Some("requirements/production.txt"),
            &["gunicorn"],
        );
        let pyproject = (
            "pyproject.toml",
            "[project]\nname = \"x\"\ndependencies = [\"flask>=3\", \"celery[redis]\"]",
        );
        check(&[pyproject], Some("pyproject.toml"), &["flask", "celery"]);
        check(
            &[pyproject, ("uv.lock", ""), requirements],
            Some("uv.lock"),
            &["flask", "celery"],
        );
        let poetry = (
            "pyproject.toml",
            "[tool.poetry.dependencies]\npython = \"^3.11\"\nDjango = \"^5\"",
        );
        check(
            &[poetry, ("poetry.lock", "")],
            Some("poetry.lock"),
            &["django", "python"],
        );
        check(
            &[
                ("Pipfile", "[packages]\nflask = \"*\""),
                ("Pipfile.lock", "{}"),
            ],
            Some("Pipfile.lock"),
            &["flask"],
        );
        // A tool's settings only.
        check(&[("pyproject.toml", "[tool.black]\n")], None, &[]);
        check(
            &[("backend/requirements.txt", "flask")],
            Some("backend/requirements.txt"),
            &["flask"],
        );
        check(&[("setup.py", "")], Some("setup.py"), &[]);
    }

    #[test]
    fn packages_that_are_compiled_name_what_they_need() {
        let dir = project(&[("requirements.txt", "psycopg2==2.9\nuWSGI\ngunicorn\n")]);
        let found = packages(dir.path(), None);
        assert_eq!(found.debian(), ["gcc", "libc6-dev", "libpq-dev"]);
        assert_eq!(found.replaced(), ["gunicorn", "uwsgi"]);
        let dir = project(&[("requirements.txt", "psycopg2-binary\n")]);
        assert!(packages(dir.path(), None).debian().is_empty());
    }
}
