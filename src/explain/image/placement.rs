//! The places in the image to which the `COPY` lines of a Dockerfile put the files of its directory.

use super::instructions::{Instruction, instructions};

/// The places of files in an image.
#[derive(Debug, Default)]
pub struct Placement {
    /// The directory of the Dockerfile, empty or with a slash at its end.
    directory: String,
    /// Source and destination of each copy, in order.
    copies: Vec<(String, String)>,
    /// True if the image runs nginx.
    pub runs_nginx: bool,
    /// True if there is an image, of this Dockerfile or another.
    pub is_known: bool,
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

    /// Reads the copies of the last stage.
    pub fn of(name: &str, text: &str) -> Self {
        let mut placement = Self {
            directory: directory(name).to_owned(),
            is_known: true,
            ..Self::default()
        };
        let mut workdir = "/".to_owned();
        for instruction in instructions(text) {
            match &*instruction.keyword {
                "FROM" => {
                    placement.copies.clear();
                    placement.runs_nginx = instruction.arguments.contains("uwsgi-nginx");
                    "/".clone_into(&mut workdir);
                }
                "WORKDIR" => workdir = joined(&workdir, instruction.arguments.trim()),
                "COPY" | "ADD" => placement.add(&instruction, &workdir),
                "RUN" | "CMD" | "ENTRYPOINT" => {
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
        placement
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
        for source in from {
            let source = source.trim_start_matches("./").trim_end_matches('/');
            let mut target = joined(workdir, to);
            if is_directory && !target.ends_with('/') {
                target.push('/');
            }
            self.copies.push((source.to_owned(), target));
        }
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
        let placement = Placement::of("site/Dockerfile", text);
        let check = |name: &str, expected: Option<&str>| {
            assert_eq!(placement.path_of(name).as_deref(), expected, "{name}");
        };
        check("site/conf/uwsgi.ini", Some("/etc/uwsgi.ini"));
        check("site/b.conf", Some("/etc/nginx/conf.d/b.conf"));
        check("site/other.ini", Some("/app/other.ini"));
        check("site/deploy/x.ini", Some("/app/conf/x.ini"));
        check("elsewhere/x.ini", None);
        assert!(placement.runs_nginx);
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
