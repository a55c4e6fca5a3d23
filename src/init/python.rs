//! The version of Python that a project asks for, as the tag of an image: `3.13`.

use std::path::Path;

use super::source::read;

/// A version, and the file that asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PythonVersion {
    /// The minor version, behind `3.`.
    pub minor: u32,
    /// The file, `None` for the default.
    pub origin: Option<&'static str>,
}

/// The version of projects that ask for none, or allow it.
const USUAL: u32 = 13;
/// The versions that pyserve serves and images exist for.
const KNOWN: std::ops::RangeInclusive<u32> = 9..=15;

/// The version that the files of a directory ask for. Exact ones come before ranges.
pub fn version(dir: &Path) -> PythonVersion {
    let exact = [".python-version", "runtime.txt", ".tool-versions"];
    for file in exact {
        let text = read(&dir.join(file)).unwrap_or_default();
        let wanted = text.lines().find_map(|line| exact_version(file, line));
        if let Some(minor) = wanted {
            let origin = Some(file);
            return PythonVersion { minor, origin };
        }
    }
    for (file, path) in [
        ("Pipfile", &["requires", "python_version"][..]),
        ("pyproject.toml", &["project", "requires-python"]),
        (
            "pyproject.toml",
            &["tool", "poetry", "dependencies", "python"],
        ),
    ] {
        let Some(text) = read(&dir.join(file)) else {
            continue;
        };
        let Ok(table) = text.parse::<toml::Table>() else {
            continue;
        };
        let wanted = string_at(&table, path);
        if let Some(minor) = wanted.as_deref().and_then(best) {
            let origin = Some(file);
            return PythonVersion { minor, origin };
        }
    }
    PythonVersion {
        minor: USUAL,
        origin: None,
    }
}

/// The string below these keys.
fn string_at(table: &toml::Table, path: &[&str]) -> Option<String> {
    let (last, tables) = path.split_last()?;
    let mut table = table;
    for name in tables {
        table = table.get(*name)?.as_table()?;
    }
    Some(table.get(*last)?.as_str()?.to_owned())
}

/// `3.12.4`, `python-3.12.4` in runtime.txt, `python 3.12.4` in .tool-versions.
fn exact_version(file: &str, line: &str) -> Option<u32> {
    let line = line.split('#').next().unwrap_or_default().trim();
    let text = match file {
        ".tool-versions" => line.strip_prefix("python ")?.trim(),
        _ => line.strip_prefix("python-").unwrap_or(line),
    };
    let text = text.strip_prefix("cpython-").unwrap_or(text);
    minor(text).filter(|minor| KNOWN.contains(minor))
}

/// The minor version of `3.12` or `3.12.4`.
fn minor(text: &str) -> Option<u32> {
    let mut parts = text.split('.');
    let major = parts.next()?.trim();
    let minor = parts.next().unwrap_or("0").trim_end_matches('*');
    (major == "3").then(|| minor.parse().ok()).flatten()
}

/// The usual version if the specifiers allow it, else the next newer one, else the newest older one.
fn best(specifiers: &str) -> Option<u32> {
    let newer = USUAL..=*KNOWN.end();
    let older = (*KNOWN.start()..USUAL).rev();
    newer.chain(older).find(|minor| {
        specifiers.split("||").any(|set| {
            let mut all = set.split(',').map(str::trim).filter(|one| !one.is_empty());
            all.all(|one| allows(one, *minor))
        })
    })
}

/// True if a specifier of PEP 440, or poetry's `^3.10`, allows releases of `3.MINOR`.
fn allows(specifier: &str, candidate: u32) -> bool {
    let operators = ["===", "==", "~=", ">=", "<=", "!=", ">", "<", "^", "~"];
    let found = operators
        .iter()
        .find(|operator| specifier.starts_with(**operator));
    let operator = found.copied().unwrap_or("==");
    let text = specifier.trim_start_matches(operator).trim();
    if text == "*" {
        return true;
    }
    if text.starts_with('4') {
        return matches!(operator, "<" | "<=" | "!=");
    }
    let has_patch = text.split('.').filter(|part| *part != "*").count() > 2;
    let Some(named) = minor(text) else {
        return true;
    };
    match operator {
        ">=" | "^" => candidate >= named,
        // A later patch release of the same minor version.
        ">" => candidate > named || (has_patch && candidate == named),
        "<=" => candidate <= named,
        "<" => candidate < named || (has_patch && !text.ends_with(".0") && candidate == named),
        "!=" => candidate != named || has_patch,
        "~=" if !has_patch => candidate >= named,
        // `==3` of poetry means any.
        _ if !text.contains('.') => true,
        _ => candidate == named,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::app::tests::project;
    use proptest::prelude::*;

    #[test]
    fn the_version_comes_from_the_files_that_name_one() {
        let check = |files: &[(&str, &str)], expected: u32, origin: Option<&str>| {
            let dir = project(files);
            let found = version(dir.path());
            assert_eq!((found.minor, found.origin), (expected, origin), "{files:?}");
        };
        check(&[], 13, None);
        check(
            &[(".python-version", "3.11.9\n")],
            11,
            Some(".python-version"),
        );
        check(&[("runtime.txt", "python-3.12.4")], 12, Some("runtime.txt"));
        check(
            &[(".tool-versions", "nodejs 20\npython 3.10.2\n")],
            10,
            Some(".tool-versions"),
        );
        check(
            &[("Pipfile", "[requires]\npython_version = \"3.9\"")],
            9,
            Some("Pipfile"),
        );
        let requires = |text: &str, expected| {
            let text = format!("[project]\nname = \"a\"\nrequires-python = \"{text}\"");
            check(
                &[("pyproject.toml", &text)],
                expected,
                Some("pyproject.toml"),
            );
        };
        requires(">=3.9", 13);
        requires(">=3.14", 14);
        requires(">=3.10,<3.13", 12);
        requires(">=3.10, <3.13.0", 12);
        requires("==3.11.*", 11);
        requires("~=3.11", 13);
        requires("~=3.11.2", 11);
        requires("<4,>=3.12,!=3.13.*", 14);
        let poetry = "[tool.poetry.dependencies]\npython = \"^3.14\"";
        check(&[("pyproject.toml", poetry)], 14, Some("pyproject.toml"));
        // Without a meaning: the default.
        check(&[("pyproject.toml", "not toml")], 13, None);
        check(&[(".python-version", "system")], 13, None);
        check(&[(".python-version", "2.7")], 13, None);
    }

    proptest! {
        #[test]
        fn any_specifiers_are_read_without_a_panic(text in "[<>=!~^*,. 0-9|]{0,24}|\\PC{0,24}") {
            let _ = best(&text);
            let _ = exact_version("runtime.txt", &text);
        }
    }
}
