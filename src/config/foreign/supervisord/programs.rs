//! The command of a program: which server it starts, and how a companion runs it.

use std::path::Path;

use super::Server;
use crate::config::foreign::shell;
use crate::config::native;

/// A command that starts a server.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// The program or its interpreter, as it is written.
    pub program: String,
    /// The words behind it.
    pub words: Vec<String>,
    /// Variables that the command sets for it.
    pub variables: Vec<(String, String)>,
    /// The directory to which a shell changes before it.
    pub directory: Option<String>,
    /// The virtual environment that a shell activates before it.
    pub venv: Option<String>,
}

/// What the words of a program start.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// A server, whose command line is clear.
    Server(Server, Start),
    /// A server, in a script for the shell that does more than start it.
    Hidden(&'static str),
    /// Anything else.
    Other,
}

/// What these words start: a server by its name, by the script of `sh -c`, or by that of a file. A shell has these
/// variables, and files have these texts.
pub fn command(words: &[String], variable: Variable<'_>, text: ReadText<'_>) -> Command {
    if let Some((server, start)) = started(words) {
        return Command::Server(server, start);
    }
    let at = shell::program(words);
    let script = match shell::script(words) {
        Some(at) => Some(words[at].clone()),
        None => script_file(&words[at..]).and_then(text),
    };
    let Some(script) = script else {
        return Command::Other;
    };
    let variables = shell::variables(words, at);
    of_script(&script, variables, variable).unwrap_or(Command::Other)
}

/// The value of a variable.
pub type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;
/// The text of a script for the shell, `None` for any other file.
pub type ReadText<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The file of a script: `./start.sh`, `bash -e start.sh`.
fn script_file(words: &[String]) -> Option<&str> {
    let program = words.first()?;
    let mut rest = words[1..].iter().filter(|word| !word.starts_with('-'));
    match matches!(base(program), "sh" | "bash" | "dash" | "ash") {
        true => rest.next().map(String::as_str),
        false => program.contains('/').then_some(&**program),
    }
}

/// The server that a script starts, `None` if it starts none.
fn of_script(
    script: &str,
    variables: Vec<(String, String)>,
    variable: Variable<'_>,
) -> Option<Command> {
    let commands = shell::commands(script)?;
    let mut start = Start {
        variables,
        ..Start::default()
    };
    let mut own: Vec<(String, String)> = Vec::new();
    let mut is_clear = true;
    let mut servers = Vec::new();
    for (index, command) in commands.iter().enumerate() {
        let value_of = |name: &str| {
            let mut known = start.variables.iter().chain(&own).rev();
            let known = known.find(|(own, _)| own == name);
            known
                .map(|(_, value)| value.clone())
                .or_else(|| variable(name))
        };
        let words = shell::filled_in(&command.words, &value_of);
        let assigned = shell::variables(&words, words.len());
        match started(&words) {
            Some(found) => servers.push((index, found)),
            None if assigned.len() == words.len() => own.extend(assigned),
            None => is_clear &= start.prepared(&words),
        }
        let is_last = index + 1 == commands.len();
        is_clear &= match &*command.operator {
            "&&" | ";" | "\n" => true,
            "" => is_last,
            _ => false,
        };
    }
    let ((index, (server, found)), others) = {
        let last = servers.pop()?;
        (last, servers)
    };
    let is_end = others.is_empty() && index + 1 == commands.len();
    if !(is_clear && is_end) {
        return Some(Command::Hidden(server.name()));
    }
    start.variables.extend(found.variables);
    let start = Start {
        program: found.program,
        words: found.words,
        ..start
    };
    Some(Command::Server(server, start))
}

/// The server that these words start, with the words behind its name; `None` for another program.
pub fn server_of(words: &[String]) -> Option<(Server, Vec<String>)> {
    started(words).map(|(server, start)| (server, start.words))
}

fn started(words: &[String]) -> Option<(Server, Start)> {
    let at = shell::program(words);
    let program = words.get(at)?;
    let server = match base(program) {
        "nginx" => Server::Nginx,
        "gunicorn" | "gunicorn3" => Server::Gunicorn,
        name if name == "uwsgi" || name.starts_with("uwsgi_python") => Server::Uwsgi,
        _ => return None,
    };
    // `/venv/bin/python -m gunicorn` names its interpreter.
    let mut named = words[..=at].iter().rev();
    let named = named.find(|word| {
        word.starts_with('/') && (*word == program || base(word).starts_with("python"))
    });
    let start = Start {
        program: named.unwrap_or(program).clone(),
        words: words[at + 1..].to_vec(),
        variables: shell::variables(words, at),
        ..Start::default()
    };
    Some((server, start))
}

impl Start {
    /// Takes what a command before the server prepares; false for a command that is not understood.
    fn prepared(&mut self, words: &[String]) -> bool {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match &words[..] {
            ["cd", directory] => {
                let before = self.directory.take().unwrap_or_default();
                let directory = Path::new(&before).join(native::path(directory));
                self.directory = Some(native::text(directory.as_os_str()));
                true
            }
            ["source" | ".", script] => match script.strip_suffix("/bin/activate") {
                Some(venv) => {
                    self.venv = Some(venv.to_owned());
                    true
                }
                None => false,
            },
            ["export", pairs @ ..] => pairs.iter().all(|pair| match pair.split_once('=') {
                Some((name, value)) => {
                    self.variables.push((name.to_owned(), value.to_owned()));
                    true
                }
                None => false,
            }),
            ["set", options] => options.starts_with('-'),
            ["echo", ..] | ["true" | ":"] => true,
            _ => false,
        }
    }

    /// The directory above `bin` of a program that is named by its whole path, which may be a virtual
    /// environment.
    pub fn prefix(&self) -> Option<&str> {
        prefix_of(&self.program)
    }
}

/// The directory above `bin` of a program that is named by its whole path, unless it is one of the system.
pub fn prefix_of(program: &str) -> Option<&str> {
    let (prefix, _) = program.rsplit_once("/bin/")?;
    // `pip install --user` makes no environment.
    let is_own = !matches!(prefix, "" | "/usr" | "/usr/local") && !prefix.ends_with("/.local");
    (prefix.starts_with('/') && is_own).then_some(prefix)
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

/// The main file of nginx where its packages have it.
pub const NGINX_FILE: &str = "/etc/nginx/nginx.conf";

/// The file that `nginx -c FILE` names, or the usual one.
pub fn nginx_file(words: &[String]) -> String {
    let at = words.iter().position(|word| word == "-c");
    let given = at.and_then(|at| words.get(at + 1));
    given.map_or(NGINX_FILE.to_owned(), String::clone)
}

/// The surroundings of a companion.
#[derive(Debug, Default)]
pub struct Place<'a> {
    /// Its directory.
    pub directory: Option<&'a str>,
    /// Its variables.
    pub variables: &'a [(String, String)],
    /// Variables of the server that it does not get.
    pub without: &'a [String],
    /// Its mask.
    pub umask: Option<&'a str>,
}

/// The words of a companion that runs so.
pub fn companion(words: &[String], place: &Place<'_>) -> Vec<String> {
    let Place {
        directory, umask, ..
    } = place;
    let without = place.without.iter();
    let without = without.flat_map(|name| ["-u".to_owned(), name.clone()]);
    let variables = place.variables.iter();
    let variables = variables.map(|(name, value)| format!("{name}={value}"));
    let variables: Vec<String> = without.chain(variables).collect();
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
            all.push((*directory).to_owned());
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

    const START: &str = "#!/bin/bash\n# the site\nNAME=\"site\"\ncd /srv\nsource venv/bin/activate\nexport DEBUG=0\nexec gunicorn app \\\n  --name $NAME\n";

    #[test]
    fn a_command_may_start_a_server_through_a_shell() {
        let value_of = |name: &str| (name == "PORT").then(|| "8001".to_owned());
        let check = |line: &str, expected: &str| {
            let words = shell::words(line).unwrap();
            let text = |name: &str| (name == "./start").then(|| START.to_owned());
            let shown = match command(&words, &value_of, &text) {
                Command::Server(server, start) => {
                    let pairs = start.variables.iter();
                    let pairs: Vec<_> = pairs
                        .map(|(name, value)| format!("{name}={value}"))
                        .collect();
                    let more = [
                        start.directory.map(|directory| format!(" in {directory}")),
                        start.venv.map(|venv| format!(" with {venv}")),
                    ];
                    format!(
                        "{server:?} {} [{}]{}",
                        start.words.join(" "),
                        pairs.join(" "),
                        more.into_iter().flatten().collect::<String>()
                    )
                }
                Command::Hidden(name) => format!("hidden {name}"),
                Command::Other => "other".to_owned(),
            };
            assert_eq!(shown, expected, "{line}");
        };
        check("env A=1 gunicorn app", "Gunicorn app [A=1]");
        check("poetry run gunicorn app", "Gunicorn app []");
        check(
            "/bin/bash -c 'cd /srv && . venv/bin/activate && export A=1; exec gunicorn app -b :$PORT'",
            "Gunicorn app -b :8001 [A=1] in /srv with venv",
        );
        check(
            "A=1 sh -c 'set -e; cd /a; cd b; uwsgi x.ini'",
            "Uwsgi x.ini [A=1] in /a/b",
        );
        check(
            "sh -c 'python manage.py migrate && gunicorn app'",
            "hidden gunicorn",
        );
        check("sh -c 'gunicorn app | tee log'", "hidden gunicorn");
        check("sh -c 'gunicorn app & nginx'", "hidden nginx");
        check("sh -c 'celery -A x worker'", "other");
        check(
            "./start",
            "Gunicorn app --name site [DEBUG=0] in /srv with venv",
        );
        check(
            "bash ./start",
            "Gunicorn app --name site [DEBUG=0] in /srv with venv",
        );
        check("./other", "other");
        check("celery -A x worker", "other");
    }

    #[test]
    fn a_program_named_by_its_path_may_be_of_a_virtual_environment() {
        let check = |line: &str, expected: Option<&str>| {
            let words = shell::words(line).unwrap();
            let (_, start) = started(&words).unwrap();
            assert_eq!(start.prefix(), expected, "{line}");
        };
        check("/srv/venv/bin/gunicorn app", Some("/srv/venv"));
        check("/srv/venv/bin/python -m gunicorn app", Some("/srv/venv"));
        check("/usr/local/bin/gunicorn app", None);
        check("venv/bin/gunicorn app", None);
        check("gunicorn app", None);
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
            let place = Place {
                directory,
                variables: &variables,
                without: &[],
                umask,
            };
            assert_eq!(companion(&["celery".to_owned()], &place), expected);
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
        let place = Place {
            without: &["API_TOKEN".to_owned()],
            ..Place::default()
        };
        let words = companion(&["celery".to_owned()], &place);
        assert_eq!(words, ["env", "-u", "API_TOKEN", "celery"]);
    }
}
