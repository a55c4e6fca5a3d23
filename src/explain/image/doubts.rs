//! Command lines of servers that cannot become flags: what the shell or the environment says stays with the link
//! of the server's name, and what has no counterpart is said.

use super::placement::Placement;
use crate::config::foreign::shell;
use crate::explain::readers;

/// Why a command line does not become flags.
#[derive(Debug, PartialEq, Eq)]
pub enum Doubt {
    /// Its words or variables are known at the start only: a link of the server's name to pyserve reads them.
    Link,
    /// There is no counterpart; the text is the advice.
    Unsupported(String),
}

/// Options of uWSGI and gunicorn that put the server into the background.
const BACKGROUND: &[&str] = &["--daemon", "-D", "--daemonize", "--daemonize2", "-d"];
/// Options with which they start no server.
const NO_START: &[&str] = &[
    "--version",
    "--help",
    "--stop",
    "--reload",
    "--check-config",
    "--connect-and-read",
];
/// Options of uWSGI alone; `--reload` of gunicorn watches files.
const OF_UWSGI: &[&str] = &["--stop", "--reload", "-d", "--daemonize", "--daemonize2"];

/// The doubt about a server's command line, whose program stands at `at`.
pub fn of_server(
    flag: &str,
    words: &[String],
    at: usize,
    placement: &Placement,
    names_files: bool,
) -> Option<Doubt> {
    let is_uwsgi = flag == "--ini";
    let arguments = &words[at + 1..];
    let has = |options: &[&str]| {
        let names = arguments
            .iter()
            .map(|word| word.split('=').next().unwrap_or(word));
        let mut known = names.filter(|name| is_uwsgi || !OF_UWSGI.contains(name));
        known.find(|name| options.contains(name)).map(str::to_owned)
    };
    if let Some(option) = has(NO_START) {
        return Some(Doubt::Unsupported(format!(
            "{option} starts no server: leave the command out, or use `pyserve status`, `reload` and `stop`"
        )));
    }
    let background = has(BACKGROUND).filter(|option| !is_uwsgi || option != "-D");
    if let Some(option) = background {
        return Some(Doubt::Unsupported(format!(
            "{option}: pyserve stays in the foreground, so what follows would not run: leave the option out, and have the command be the last one, or end it with `&`"
        )));
    }
    let is_of_shell = |text: &String| text.contains("$(") || text.contains('`');
    let sets = |start: &str| placement.sets(|name| name.starts_with(start));
    let from_environment = match is_uwsgi {
        true => !names_files && sets("UWSGI_"),
        false => sets("GUNICORN_CMD_ARGS") || !names_files && sets("WEB_CONCURRENCY"),
    };
    let is_linked =
        arguments.iter().any(is_of_shell) || has_unknown_options(arguments) || from_environment;
    if !is_linked {
        return None;
    }
    let by_python = words[..at].iter().any(|word| is_python(word));
    match by_python {
        true => Some(Doubt::Unsupported(
            "Python runs the server's own module here, so that no link takes its place: start it by its name"
                .to_owned(),
        )),
        false => Some(Doubt::Link),
    }
}

/// True for a program that runs the one behind it, and passes signals on.
pub fn is_init(word: &str) -> bool {
    let base = word.rsplit('/').next().unwrap_or(word);
    matches!(base, "tini" | "dumb-init" | "catatonit" | "sh" | "bash")
}

fn is_python(word: &str) -> bool {
    let base = word.rsplit('/').next().unwrap_or(word);
    base.starts_with("python")
}

/// True if a variable stands where options may: `gunicorn app $OPTIONS "$@"`.
fn has_unknown_options(arguments: &[String]) -> bool {
    let is_variable = |word: &str| {
        let name = word.strip_prefix('$').unwrap_or_default();
        let is_part = |c: char| c.is_ascii_alphanumeric() || "_{}@*:-".contains(c);
        !name.is_empty() && name.chars().all(is_part)
    };
    arguments.iter().enumerate().any(|(index, word)| {
        let before = index.checked_sub(1).map(|before| &*arguments[before]);
        let is_value =
            before.is_some_and(|before| before.starts_with('-') && !before.contains('='));
        let is_all = matches!(&**word, "$@" | "$*" | "${@}");
        is_variable(word) && (is_all || !is_value)
    })
}

/// Programs that start none of the servers that their words name.
const NAMES_ONLY: &[&str] = &[
    "[",
    "[[",
    "addgroup",
    "adduser",
    "ansible",
    "ansible-playbook",
    "apk",
    "apt",
    "apt-get",
    "apt-mark",
    "brew",
    "case",
    "cat",
    "cd",
    "certbot",
    "chgrp",
    "chmod",
    "chown",
    "chpst",
    "command",
    "conda",
    "cp",
    "curl",
    "cut",
    "deluser",
    "dig",
    "dnf",
    "docker",
    "docker-compose",
    "export",
    "file",
    "find",
    "for",
    "fuser",
    "getent",
    "git",
    "grep",
    "groupadd",
    "hash",
    "head",
    "helm",
    "host",
    "id",
    "install",
    "journalctl",
    "kill",
    "killall",
    "kubectl",
    "ln",
    "ls",
    "make",
    "microdnf",
    "mkdir",
    "mv",
    "nc",
    "ncat",
    "npm",
    "nslookup",
    "pgrep",
    "pidof",
    "ping",
    "pip",
    "pip3",
    "pipenv",
    "pipx",
    "pkill",
    "podman",
    "poetry",
    "ps",
    "rc-update",
    "rm",
    "rsync",
    "scp",
    "sed",
    "select",
    "setfacl",
    "snap",
    "ssh",
    "su",
    "sudo",
    "systemctl",
    "tail",
    "tee",
    "telnet",
    "test",
    "touch",
    "trap",
    "type",
    "unset",
    "update-rc.d",
    "useradd",
    "usermod",
    "uv",
    "wget",
    "whereis",
    "which",
    "yum",
];

/// A server that a program which is not known starts, as far as the words show: `$(which uwsgi) -p 4`,
/// `su web -c "gunicorn app"`.
pub fn hidden_server(words: &[String]) -> Option<String> {
    let plain = |word: &'_ String| -> String {
        word.trim_matches(['$', '(', ')', '`', '"', '\''])
            .to_owned()
    };
    let mut pairs = words.iter().zip(words.iter().skip(1));
    let found = pairs.find(|(word, next)| {
        readers::of_program(&plain(word)).is_some()
            && (next.starts_with('-') || next.ends_with(".ini"))
    });
    if let Some((word, _)) = found {
        return Some(plain(word));
    }
    let base = words.first()?.rsplit('/').next()?;
    if matches!(base, "echo" | "printf") {
        return None;
    }
    // `set -- gunicorn app`, `timeout 5 nginx`.
    let is_server = |word: &&String| {
        let base = word.rsplit('/').next().unwrap_or(word);
        let is_path = word.contains('/') && !word.contains("/bin/") && !word.contains("/sbin/");
        !is_path && (readers::of_program(word).is_some() || matches!(base, "nginx" | "supervisord"))
    };
    let names_only = ["pip", "python", "wait-for"]
        .iter()
        .any(|start| base.starts_with(start));
    let is_runner =
        !names_only && !NAMES_ONLY.contains(&base) && !words[0].contains(['=', '$', ')']);
    if let Some(word) = words[1..].iter().find(is_server).filter(|_| is_runner) {
        return Some(word.clone());
    }
    // A command line in one word.
    let inner = words.iter().filter(|word| word.contains(' '));
    let mut commands = inner.filter_map(|word| shell::commands(word)).flatten();
    commands.find_map(|command| {
        let program = command.words.get(shell::program(&command.words))?;
        let is_server = readers::of_program(program).is_some() && command.words.len() > 1;
        is_server.then(|| program.clone())
    })
}

/// The options that an entry script adds to the command of the image: `exec "$@" --master`.
pub fn adds_options(words: &[String]) -> bool {
    let at = shell::program(words);
    let is_command = words
        .get(at)
        .is_some_and(|word| matches!(&**word, "$@" | "$*" | "${@}"));
    is_command && words[at + 1..].iter().any(|word| word.starts_with('-'))
}

/// True if an entry script looks at the command of the image, which starts this program, before it runs it.
pub fn looks_at_command(script: &str, program: &str) -> bool {
    let base = program.rsplit('/').next().unwrap_or(program);
    let is_word = |line: &str| {
        let mut words =
            line.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-' | '.'));
        words.any(|word| word == base)
    };
    let lines = script
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'));
    let mut lines = lines.filter(|line| {
        let tests = ["if ", "elif ", "case ", "[ ", "[[ ", "test "];
        tests.iter().any(|test| line.starts_with(test)) || line.contains(')')
    });
    let has_first = ["$1", "${1", "$@", "$*", "$0"]
        .iter()
        .any(|first| script.contains(first));
    has_first
        && lines.any(|line| {
            is_word(line)
                || ["$1", "${1}"]
                    .iter()
                    .any(|first| line.contains(first) && line.contains('='))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_variables_of_the_start_need_the_link() {
        let check = |line: &str, environment: &str, expected: &str| {
            let text = format!("FROM python:3.12\nENV {environment}\n");
            let placement = Placement::of("Dockerfile", &text, &|_| false);
            let words = shell::words(line).unwrap();
            let at = shell::program(&words);
            let reader = readers::of_program(&words[at]).unwrap();
            let (files, _) = (reader.files_of)(&words[at + 1..]);
            let found = of_server(reader.flag, &words, at, &placement, !files.is_empty());
            let found = match &found {
                None => "",
                Some(Doubt::Link) => "link",
                Some(Doubt::Unsupported(_)) => "unsupported",
            };
            assert_eq!(found, expected, "{line} with {environment}");
        };
        check("gunicorn app -w $N --bind=:$PORT", "A=1", "");
        check("gunicorn app $OPTIONS", "A=1", "link");
        check("gunicorn app \"$@\"", "A=1", "link");
        check("gunicorn app -w $(nproc)", "A=1", "link");
        check("gunicorn app", "GUNICORN_CMD_ARGS=-w4", "link");
        check("gunicorn app", "A=1 WEB_CONCURRENCY=3", "link");
        check("python -m gunicorn app", "WEB_CONCURRENCY=3", "unsupported");
        check("gunicorn app --reload", "UWSGI_UID=1", "");
        check("gunicorn app --daemon", "A=1", "unsupported");
        check("uwsgi --http :80", "UWSGI_UID=1", "link");
        check("uwsgi --ini x.ini", "UWSGI_UID=1", "");
        check("uwsgi --ini x.ini -D", "A=1", "");
        check("uwsgi --stop x.pid", "A=1", "unsupported");
        check("uwsgi -d x.log", "A=1", "unsupported");
    }

    #[test]
    fn a_script_may_look_at_the_command_that_it_gets() {
        let check = |script: &str, expected: bool| {
            assert_eq!(
                looks_at_command(script, "/usr/bin/uwsgi"),
                expected,
                "{script}"
            );
        };
        check(
            "if [ \"$1\" = 'uwsgi' ]; then\n  migrate\nfi\nexec \"$@\"",
            true,
        );
        check(
            "case $1 in\n  uwsgi)\n    migrate ;;\nesac\nexec \"$@\"",
            true,
        );
        check("# uwsgi)\nmigrate\nexec \"$@\"", false);
        check(
            "if [ \"$A\" = on ]; then\n  migrate\nfi\nexec \"$@\"",
            false,
        );
        let hidden = |line: &str| hidden_server(&shell::words(line).unwrap());
        assert_eq!(
            hidden("su web -c 'cd /a && exec uwsgi --http :80'").as_deref(),
            Some("uwsgi")
        );
        assert_eq!(hidden("$(which uwsgi) -p 4").as_deref(), Some("uwsgi"));
        assert_eq!(hidden("echo 'uwsgi starts'"), None);
        assert_eq!(hidden("set -- gunicorn app").as_deref(), Some("gunicorn"));
        assert_eq!(hidden("timeout 5 nginx").as_deref(), Some("nginx"));
        assert_eq!(hidden("mkdir -p /var/run/gunicorn"), None);
        assert_eq!(hidden("docker compose restart nginx"), None);
        assert_eq!(hidden("pip3 install gunicorn"), None);
        let adds = |line: &str| adds_options(&shell::words(line).unwrap());
        assert!(adds("exec $@ --master"));
        assert!(!adds("exec \"$@\""));
    }
}
