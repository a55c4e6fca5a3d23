//! The places in the image to which the `COPY` lines of a Dockerfile put the files of its directory.

use super::instructions::{Instruction, instructions};
use crate::config::foreign::shell;

/// The places of files in an image.
#[derive(Debug, Default)]
pub struct Placement {
    /// The directory of the Dockerfile, empty or with a slash at its end.
    directory: String,
    /// Source and destination of each copy, in order.
    copies: Vec<(String, String)>,
    /// Names of the variables that its ENV lines set.
    variables: Vec<String>,
    /// True if the image runs nginx.
    pub runs_nginx: bool,
    /// True if there is an image, of this Dockerfile or another.
    pub is_known: bool,
}

/// The names of an ENV line's variables.
fn names_of(instruction: &Instruction<'_>) -> Vec<String> {
    let words = instruction.words();
    let is_pair = words.first().is_some_and(|word| word.contains('='));
    let named = if is_pair { words.len() } else { 1 };
    let names = words.iter().take(named);
    names
        .map(|word| word.split('=').next().unwrap_or(word).to_owned())
        .collect()
}

/// The positions of the instructions of the last stage, behind those of the stages on which it is built.
pub fn final_stage(all: &[Instruction<'_>]) -> Vec<usize> {
    let starts: Vec<_> = (0..all.len())
        .filter(|index| all[*index].keyword == "FROM")
        .collect();
    let Some(mut stage) = starts.len().checked_sub(1) else {
        return (0..all.len()).collect();
    };
    let mut found = Vec::new();
    loop {
        let end = starts.get(stage + 1).copied().unwrap_or(all.len());
        found.splice(0..0, starts[stage]..end);
        let words: Vec<_> = all[starts[stage]]
            .arguments
            .split_whitespace()
            .filter(|word| !word.starts_with("--"))
            .collect();
        let base = words.first().copied().unwrap_or_default();
        let is_named = |index: &usize| {
            let words: Vec<_> = all[starts[*index]].arguments.split_whitespace().collect();
            matches!(words[..], [.., keyword, name]
                if keyword.eq_ignore_ascii_case("as") && name.eq_ignore_ascii_case(base))
        };
        match (0..stage).rev().find(is_named) {
            Some(parent) => stage = parent,
            None => return found,
        }
    }
}

/// Names of directories of projects in which Dockerfiles lie alone, and which are not copied into images.
const BESIDE_PROJECTS: &[&str] = &[
    "build",
    "container",
    "containers",
    "deploy",
    "deployment",
    "docker",
    "dockerfiles",
    "infra",
    "ops",
];

/// A path without its last segment, with a slash at its end, and that segment.
fn split(path: &str) -> (&str, &str) {
    path.split_at(path.rfind('/').map_or(0, |at| at + 1))
}

/// The directory of a file as it is named: empty, or with a slash at its end.
pub fn directory(name: &str) -> &str {
    &name[..name.rfind('/').map_or(0, |at| at + 1)]
}

impl Placement {
    /// The directory of the Dockerfile: empty, or with a slash at its end.
    pub fn directory(&self) -> &str {
        &self.directory
    }

    /// The places in an image of which nothing is known, and which runs no nginx.
    pub fn of_unknown_image() -> Self {
        Self {
            is_known: true,
            ..Self::default()
        }
    }

    /// The same placement with this directory of the build, empty or with a slash at its end.
    pub fn in_context(self, directory: String) -> Self {
        Self { directory, ..self }
    }

    /// True if the image sets a variable of such a name.
    pub fn sets(&self, is_such: impl Fn(&str) -> bool) -> bool {
        self.variables.iter().any(|name| is_such(name))
    }

    /// True if a copy names this path, so that it is there, whatever its source.
    pub fn names(&self, path: &str) -> bool {
        self.named().any(|named| named == path)
    }

    /// The paths that copies name: of the file, or of a file of the source's name in the directory.
    pub fn named(&self) -> impl Iterator<Item = String> {
        self.copies.iter().map(|(source, target)| {
            let base = source.rsplit('/').next().unwrap_or(source);
            match target.ends_with('/') {
                true => format!("{target}{base}"),
                false => target.clone(),
            }
        })
    }

    /// Reads the copies of the last stage, and of those on which it is built; `exists` tells whether a file of the
    /// Dockerfile's machine is there.
    pub fn of(name: &str, text: &str, exists: &dyn Fn(&str) -> bool) -> Self {
        let mut placement = Self {
            directory: directory(name).to_owned(),
            is_known: true,
            ..Self::default()
        };
        let mut workdir = "/".to_owned();
        let mut named = Vec::new();
        let all = instructions(text);
        let own = final_stage(&all);
        for instruction in own.iter().map(|index| &all[*index]) {
            match &*instruction.keyword {
                "FROM" => {
                    placement.runs_nginx |= instruction.arguments.contains("uwsgi-nginx");
                }
                "ENV" => placement.variables.extend(names_of(instruction)),
                "WORKDIR" => workdir = joined(&workdir, instruction.arguments.trim()),
                "COPY" | "ADD" => placement.add(instruction, &workdir),
                "RUN" | "CMD" | "ENTRYPOINT" => {
                    named.extend(placement.named_by(&instruction.words(), &workdir));
                    let mut words = instruction.arguments.split(|c: char| {
                        c.is_whitespace() || matches!(c, '"' | '\'' | ',' | '[' | ']' | ';' | '&')
                    });
                    placement.runs_nginx |= words.any(|word| {
                        let base = word.rsplit('/').next().unwrap_or(word);
                        base == "nginx" || base.starts_with("nginx-")
                    });
                }
                _ => {}
            }
        }
        placement.find_context(&named, exists);
        placement
    }

    /// Takes the directory above for that of the build if the files that the instructions name are there.
    fn find_context(&mut self, named: &[String], exists: &dyn Fn(&str) -> bool) {
        let copied = self.copies.iter().map(|(source, _)| source);
        let wanted: Vec<_> = copied
            .chain(named)
            .filter(|source| !matches!(&***source, "" | ".") && !source.contains(['*', '$', ':']))
            .collect();
        let found = |directory: &str| {
            let wanted = wanted.iter();
            let there = wanted
                .filter(|source| exists(&format!("{directory}{}", source.trim_start_matches('/'))));
            there.count()
        };
        let own = self.directory.clone();
        let mut most = found(&own);
        let mut above = own.trim_end_matches('/');
        while !matches!(above, "" | "." | "/") {
            above = &above[..above.rfind('/').map_or(0, |at| at + 1)];
            // The nearest of several.
            let count = found(above);
            if count > most {
                most = count;
                self.directory = above.to_owned();
            }
            above = above.trim_end_matches('/');
        }
        let (parent, name) = split(own.trim_end_matches('/'));
        let copies_all = self
            .copies
            .iter()
            .any(|(source, _)| matches!(&**source, "" | "."));
        if most == 0 && copies_all && BESIDE_PROJECTS.contains(&name) {
            self.directory = parent.to_owned();
        }
    }

    /// The files of the build's directory that words of a command name, if a copy of all of it brings them.
    fn named_by(&self, words: &[String], workdir: &str) -> Vec<String> {
        let whole = self
            .copies
            .iter()
            .filter(|(source, _)| matches!(&**source, "" | "."));
        let targets: Vec<_> = whole
            .map(|(_, target)| target.trim_end_matches('/'))
            .collect();
        let inner = words.iter().filter(|word| word.contains(' '));
        let inner = inner.filter_map(|word| shell::commands(word)).flatten();
        let inner: Vec<_> = inner.flat_map(|command| command.words).collect();
        let paths = words
            .iter()
            .chain(&inner)
            .filter(|word| word.contains(['.', '/']) && !word.starts_with('-'))
            .map(|word| joined(workdir, word));
        let inside = paths.filter_map(|path| {
            let mut targets = targets.iter();
            targets.find_map(|target| {
                path.strip_prefix(target)?
                    .strip_prefix('/')
                    .map(str::to_owned)
            })
        });
        // A step upwards may leave the directory of the build.
        let is_inside =
            |path: &String| !path.is_empty() && path.split('/').all(|part| part != "..");
        inside.filter(is_inside).collect()
    }

    fn add(&mut self, instruction: &Instruction<'_>, workdir: &str) {
        let words = instruction.words();
        let is_from_stage = words.iter().any(|word| word.starts_with("--from="));
        let paths: Vec<_> = words
            .iter()
            .filter(|word| !word.starts_with("--"))
            .collect();
        let Some((to, from)) = paths.split_last().filter(|_| !is_from_stage) else {
            return;
        };
        let is_directory = to.ends_with('/') || from.len() > 1 || matches!(&***to, "." | "./");
        self.runs_nginx |= to.starts_with("/etc/nginx/");
        for source in from {
            let source = source.trim_start_matches("./").trim_matches('/');
            let mut target = joined(workdir, to);
            if is_directory && !target.ends_with('/') {
                target.push('/');
            }
            self.copies.push((source.to_owned(), target));
        }
    }

    /// The place of the whole directory of the build.
    pub fn whole(&self) -> Option<String> {
        let mut copies = self.copies.iter().rev();
        let found = copies.find(|(source, _)| matches!(&**source, "" | "."));
        found.map(|(_, target)| match target.trim_end_matches('/') {
            "" => "/".to_owned(),
            target => target.to_owned(),
        })
    }

    /// The path in the image of a file that is named as the arguments name it.
    pub fn path_of(&self, name: &str) -> Option<String> {
        let inside = name.strip_prefix(&*self.directory)?;
        let inside = inside.trim_start_matches("./");
        // A later copy, and one of the file alone, come last.
        let found = self.copies.iter().rev().find_map(|(source, target)| {
            if source == inside {
                let base = inside.rsplit('/').next().unwrap_or(inside);
                return Some(match target.ends_with('/') {
                    true => format!("{target}{base}"),
                    false => target.clone(),
                });
            }
            let rest = match &**source {
                "" | "." => inside,
                dir => inside.strip_prefix(dir)?.strip_prefix('/')?,
            };
            Some(format!("{}/{rest}", target.trim_end_matches('/')))
        });
        found.filter(|path| !path.contains('$'))
    }
}

impl Placement {
    /// The names, as the arguments have them, of files that a copy would put at this path of the image; the
    /// last copy first.
    pub fn sources_of(&self, path: &str) -> Vec<String> {
        let found = self.copies.iter().rev().filter_map(|(source, target)| {
            let rest = path.strip_prefix(target.trim_end_matches('/'))?;
            let rest = match rest.strip_prefix('/') {
                Some(rest) => rest,
                None if rest.is_empty() => "",
                None => return None,
            };
            let base = source.rsplit('/').next().unwrap_or(source);
            let inside = match (&**source, rest) {
                // A file that has this name in the image, or keeps its own.
                (source, "") => source.to_owned(),
                (source, rest) if target.ends_with('/') && rest == base && !rest.is_empty() => {
                    source.to_owned()
                }
                ("" | ".", rest) => rest.to_owned(),
                (source, rest) => format!("{source}/{rest}"),
            };
            Some(format!("{}{inside}", self.directory))
        });
        found.collect()
    }
}

fn joined(base: &str, path: &str) -> String {
    let path = path.trim_matches('"');
    match path.trim_start_matches("./") {
        _ if path.starts_with('/') => path.to_owned(),
        "" | "." => base.to_owned(),
        path => format!("{}/{path}", base.trim_end_matches('/')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_where_the_copies_put_them() {
        let text = "FROM a AS b\nCOPY x /wrong/\nFROM python:3.12\nWORKDIR /app\nCOPY . .\n\
                    COPY conf/uwsgi.ini /etc/uwsgi.ini\nCOPY [\"a.conf\", \"b.conf\", \"/etc/nginx/conf.d/\"]\n\
                    COPY deploy conf\nRUN apt-get install -y nginx\n";
        let placement = Placement::of("site/Dockerfile", text, &|_| false);
        let check = |name: &str, expected: Option<&str>| {
            assert_eq!(placement.path_of(name).as_deref(), expected, "{name}");
        };
        check("site/conf/uwsgi.ini", Some("/etc/uwsgi.ini"));
        check("site/b.conf", Some("/etc/nginx/conf.d/b.conf"));
        check("site/other.ini", Some("/app/other.ini"));
        check("site/deploy/x.ini", Some("/app/conf/x.ini"));
        check("elsewhere/x.ini", None);
        assert!(placement.runs_nginx);
        let check = |command: &str, files: &[&str], expected: &str| {
            let text = format!("FROM a\nWORKDIR /app\nCOPY . .\nCMD {command}\n");
            let placement =
                Placement::of("a/docker/Dockerfile", &text, &|name| files.contains(&name));
            assert_eq!(placement.directory(), expected, "{command}");
        };
        check("uwsgi uwsgi.ini", &["a/uwsgi.ini"], "a/");
        check(
            "[\"uwsgi\", \"/app/x/uwsgi.ini\"]",
            &["a/x/uwsgi.ini"],
            "a/",
        );
        check(
            "uwsgi uwsgi.ini",
            &["a/docker/uwsgi.ini", "a/uwsgi.ini"],
            "a/docker/",
        );
        check("uwsgi --http :80", &[], "a/");
        check("uwsgi ../x.ini", &["a/docker/../x.ini"], "a/");
        check(
            "bash -c 'cd x && uwsgi uwsgi.ini'",
            &["a/docker/uwsgi.ini"],
            "a/docker/",
        );
        let check = |path: &str, expected: &[&str]| {
            assert_eq!(placement.sources_of(path), expected, "{path}");
        };
        check("/etc/uwsgi.ini", &["site/conf/uwsgi.ini"]);
        check(
            "/etc/nginx/conf.d/b.conf",
            &["site/b.conf", "site/a.conf/b.conf"],
        );
        check("/app/conf/x.ini", &["site/deploy/x.ini", "site/conf/x.ini"]);
        check("/srv/x", &[]);
    }
}
