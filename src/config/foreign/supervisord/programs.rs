//! The command of a program: which server it starts, and how a companion runs it.

use super::Server;

/// The server that these words start, with the words behind its name; `None` for another program.
pub fn server_of(words: &[String]) -> Option<(Server, Vec<String>)> {
    let mut rest = words.iter();
    let mut program = rest.next()?;
    // `env A=b gunicorn`, `exec gunicorn`.
    while matches!(base(program), "env" | "exec" | "nice" | "ionice") || program.contains('=') {
        program = rest.next()?;
    }
    let mut words: Vec<String> = rest.cloned().collect();
    let mut name = base(program).to_owned();
    if name.starts_with("python") && words.first().is_some_and(|word| word == "-m") {
        name = words.get(1)?.clone();
        words.drain(..2);
    }
    let server = match &*name {
        "nginx" => Server::Nginx,
        "gunicorn" | "gunicorn3" => Server::Gunicorn,
        name if name == "uwsgi" || name.starts_with("uwsgi_python") => Server::Uwsgi,
        _ => return None,
    };
    Some((server, words))
}

/// True if the words start this server.
pub fn is_pyserve(words: &[String]) -> bool {
    words
        .first()
        .is_some_and(|program| base(program) == "pyserve")
}

fn base(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

/// The file that `nginx -c FILE` names, or the usual one.
pub fn nginx_file(words: &[String]) -> String {
    let at = words.iter().position(|word| word == "-c");
    let given = at.and_then(|at| words.get(at + 1));
    given.map_or("/etc/nginx/nginx.conf".to_owned(), String::clone)
}

/// The words of a companion that runs in this directory, with these variables and this mask.
pub fn companion(
    words: &[String],
    directory: Option<&str>,
    variables: &[(String, String)],
    umask: Option<&str>,
) -> Vec<String> {
    let variables = variables
        .iter()
        .map(|(name, value)| format!("{name}={value}"));
    let variables: Vec<String> = variables.collect();
    let mut all = Vec::new();
    let mask = umask.map(|mask| format!("umask {mask}; "));
    let shell = ["/bin/sh".to_owned(), "-c".to_owned()];
    match (directory, mask) {
        (None, None) if variables.is_empty() => {}
        (None, None) => all.push("env".to_owned()),
        (None, Some(mask)) => {
            all.extend(shell);
            all.push(format!("{mask}exec env \"$@\""));
            all.push("sh".to_owned());
        }
        (Some(directory), mask) => {
            all.extend(shell);
            let mask = mask.unwrap_or_default();
            all.push(format!("{mask}cd \"$0\" && exec env \"$@\""));
            all.push(directory.to_owned());
        }
    }
    all.extend(variables);
    all.extend_from_slice(words);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_recognised_by_their_command() {
        let check = |line: &str, expected: Option<(Server, &str)>| {
            let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
            let found = server_of(&words);
            let found = found.map(|(server, words)| (server, words.join(" ")));
            assert_eq!(
                found,
                expected.map(|(server, words)| (server, words.to_owned())),
                "{line}"
            );
        };
        check(
            "/usr/sbin/nginx -g daemon",
            Some((Server::Nginx, "-g daemon")),
        );
        check(
            "env A=b /venv/bin/gunicorn app:app",
            Some((Server::Gunicorn, "app:app")),
        );
        check(
            "/venv/bin/python3 -m gunicorn app",
            Some((Server::Gunicorn, "app")),
        );
        check("uwsgi --ini x.ini", Some((Server::Uwsgi, "--ini x.ini")));
        check("celery -A x worker", None);
        check("python3 manage.py run", None);
    }

    #[test]
    fn companions_run_in_their_directory_with_their_variables() {
        let check = |directory: Option<&str>,
                     variables: &[(&str, &str)],
                     umask: Option<&str>,
                     expected: &[&str]| {
            let variables: Vec<_> = variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            let words = companion(&["celery".to_owned()], directory, &variables, umask);
            assert_eq!(words, expected);
        };
        check(None, &[], None, &["celery"]);
        check(None, &[("A", "b c")], None, &["env", "A=b c", "celery"]);
        check(
            Some("/srv"),
            &[("A", "b")],
            None,
            &[
                "/bin/sh",
                "-c",
                "cd \"$0\" && exec env \"$@\"",
                "/srv",
                "A=b",
                "celery",
            ],
        );
        check(
            None,
            &[],
            Some("027"),
            &[
                "/bin/sh",
                "-c",
                "umask 027; exec env \"$@\"",
                "sh",
                "celery",
            ],
        );
    }
}
