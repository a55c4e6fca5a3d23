//! From options of supervisord to settings: a verdict for each, and a layer.

mod application;
mod companion;
mod expansions;

use std::collections::BTreeMap;

use super::programs::{Command, is_pyserve};
use super::reader::{Item, Options, pairs};
use super::{ReadServer, Server, programs};
use crate::config::foreign::drafting::{self, Draft};
use crate::config::foreign::{Line, Reading, Surroundings, Verdict, gunicorn, secrets};
use crate::config::{native, suggest};

/// Longest script that is looked into.
const LONGEST_SCRIPT: usize = 64 << 10;

/// The meaning of the options.
pub fn of(
    name: &str,
    options: Options,
    around: &Surroundings<'_>,
    server: &ReadServer<'_>,
) -> Reading {
    let mut places: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut names = Vec::new();
    for (at, item) in options.items.iter().enumerate() {
        let of_section = places.entry(item.section.clone()).or_insert_with(|| {
            names.push(item.section.clone());
            Vec::new()
        });
        of_section.push(at);
    }
    let mut meaning = Meaning {
        around,
        server,
        places,
        names,
        verdicts: vec![None; options.items.len()],
        items: options.items,
        draft: Draft::default(),
        lines: options.lines,
        lines_of_servers: Vec::new(),
        secrets: Vec::new(),
        application: None,
        of_application: Vec::new(),
    };
    meaning.overridden();
    meaning.find_application();
    meaning.decide();
    meaning.say_path();
    let mut lines = meaning.lines;
    let decided = meaning.items.into_iter().zip(meaning.verdicts);
    let decided = decided.map(|(item, verdict)| (item.place, item.text, verdict));
    drafting::finish(&mut lines, decided, &meaning.secrets);
    // Their readers have hidden what they know.
    let secrets = &meaning.secrets;
    lines.extend(meaning.lines_of_servers.into_iter().map(|line| {
        Line {
            text: secrets::without_known(&line.text, secrets),
            verdict: line
                .verdict
                .map(|text| secrets::without_known(text, secrets)),
            ..line
        }
    }));
    let mut files: BTreeMap<String, usize> = BTreeMap::new();
    for line in &lines {
        let next = files.len();
        files.entry(line.place.source.to_string()).or_insert(next);
    }
    // The file first, then those that it includes, then those of its programs.
    lines.sort_by_key(|line| {
        let is_own = *line.place.source != *name;
        (
            is_own,
            files.get(&*line.place.source).copied(),
            line.place.line,
        )
    });
    let mut layer = meaning.draft.layer;
    layer.secrets.extend(meaning.secrets);
    Reading {
        layer,
        lines,
        implied: meaning.draft.implied,
    }
}

/// The program of `[program: NAME ]`.
fn program_of(section: &str) -> Option<&str> {
    let (kind, name) = section.split_once(':')?;
    (kind == "program").then(|| name.trim())
}

struct Meaning<'a> {
    around: &'a Surroundings<'a>,
    server: &'a ReadServer<'a>,
    /// The options of each section.
    places: BTreeMap<String, Vec<usize>>,
    /// The sections, in the order of the file.
    names: Vec<String>,
    items: Vec<Item>,
    verdicts: Vec<Option<Verdict>>,
    draft: Draft,
    lines: Vec<Line>,
    /// The lines that the readers of servers have decided about.
    lines_of_servers: Vec<Line>,
    secrets: Vec<String>,
    /// The section of the program whose application this server takes over.
    application: Option<String>,
    /// Its variables that no other program has, with the value that the others have, if any.
    of_application: Vec<(String, Option<String>)>,
}

/// Options of a program that change nothing here, with the reason.
const NO_EFFECT: &[(&str, &str)] = &[
    ("process_name", "a companion has the name of the program"),
    (
        "startsecs",
        "a companion that ends is started again after a pause that grows",
    ),
    (
        "startretries",
        "a companion that ends is started again after a pause that grows",
    ),
    ("stdout_logfile_maxbytes", ROTATION),
    ("stdout_logfile_backups", ROTATION),
    ("stdout_capture_maxbytes", ROTATION),
    ("stderr_logfile_maxbytes", ROTATION),
    ("stderr_logfile_backups", ROTATION),
    ("stderr_capture_maxbytes", ROTATION),
    ("stdout_events_enabled", "there are no event listeners"),
    ("stderr_events_enabled", "there are no event listeners"),
    ("stdout_syslog", "output goes to the log"),
    ("stderr_syslog", "output goes to the log"),
    (
        "serverurl",
        "`pyserve status`, `reload` and `stop` control the server",
    ),
];
/// The variables that change with the user.
const OF_THAT_USER: &str = "HOME, USER and LOGNAME follow, which supervisord leaves as they are";
const ROTATION: &str = "output goes to the log, with the name of the program";
/// Options that [`Meaning::program`] decides about.
const OWN: &[&str] = &[
    "command",
    "directory",
    "environment",
    "user",
    "umask",
    "priority",
    "autostart",
    "autorestart",
    "stopsignal",
    "stopwaitsecs",
    "stopasgroup",
    "killasgroup",
    "redirect_stderr",
    "stdout_logfile",
    "stderr_logfile",
    "numprocs",
    "numprocs_start",
    "exitcodes",
];

impl Meaning<'_> {
    /// Decides about all sections.
    fn decide(&mut self) {
        let mut started: BTreeMap<String, String> = BTreeMap::new();
        for section in self.sections() {
            let Some(program) = program_of(&section) else {
                self.section(&section);
                continue;
            };
            match started.get(program) {
                Some(other) => {
                    let why =
                        format!("supervisord starts one program of a name, that of [{other}]");
                    self.rest(&section, &Verdict::NoEffect(why));
                }
                None => {
                    started.insert(program.to_owned(), section.clone());
                    self.program(&section, program);
                }
            }
        }
    }

    /// Of equal names in a section the last counts.
    fn overridden(&mut self) {
        let mut last: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for (at, item) in self.items.iter().enumerate().rev() {
            if let Some(next) = last.insert((&item.section, &item.key), at) {
                let why = format!("{} sets it again", self.items[next].place);
                self.verdicts[at] = Some(Verdict::NoEffect(why));
            }
        }
    }

    /// The sections: supervisord's own, then programs in the order of their priority.
    fn sections(&self) -> Vec<String> {
        let mut names = self.names.clone();
        names.sort_by_cached_key(|name| {
            let given = self
                .find(name, "priority")
                .map(|at| self.items[at].value.parse::<i64>());
            // Sites of nginx depend on the application behind it.
            let command = self.command(name).map(|(_, command)| command);
            let is_front = matches!(command, Some(Command::Server(Server::Nginx, _)));
            (
                name != "supervisord",
                is_front,
                given.and_then(Result::ok).unwrap_or(999),
            )
        });
        names
    }

    /// The words of a program, and what they start; `None` if they cannot be read.
    fn command(&self, section: &str) -> Option<(Vec<String>, Command)> {
        let at = self.find(section, "command")?;
        let line = self.expanded(at, 0).ok()?;
        let words = gunicorn::split(&line).filter(|words| !words.is_empty())?;
        let variables = ["supervisord", section].map(|section| self.pairs_of(section));
        let value_of = |name: &str| {
            let mut own = variables.iter().flatten().rev();
            let own = own.find(|(own, _)| own == name);
            own.map(|(_, value)| value.clone())
                .or_else(|| self.around.environment.raw(name))
        };
        let text = |file: &str| {
            let path = self.around.current_dir.join(native::path(file));
            let bytes = (self.around.files.read)(&path, LONGEST_SCRIPT).ok()?;
            let text = String::from_utf8(bytes).ok()?;
            text.starts_with("#!").then_some(text)
        };
        let command = programs::command(&words, &value_of, &text);
        Some((words, command))
    }

    fn find(&self, section: &str, key: &str) -> Option<usize> {
        let is_it = |at: &usize| self.verdicts[*at].is_none() && self.items[*at].key == key;
        self.of_section(section).iter().copied().find(is_it)
    }

    /// The option that counts, also one that has its verdict.
    fn given(&self, section: &str, key: &str) -> Option<usize> {
        let mut all = self.of_section(section).iter().rev().copied();
        all.find(|at| self.items[*at].key == key)
    }

    fn of_section(&self, section: &str) -> &[usize] {
        self.places.get(section).map_or(&[], Vec::as_slice)
    }

    fn say(&mut self, at: Option<usize>, verdict: Verdict) {
        if let Some(at) = at {
            self.verdicts[at] = Some(verdict);
        }
    }

    /// Gives all options of a section that have none this verdict.
    fn rest(&mut self, section: &str, verdict: &Verdict) {
        for at in self.of_section(section).to_vec() {
            if self.verdicts[at].is_none() {
                self.verdicts[at] = Some(verdict.clone());
            }
        }
    }

    /// Files for the output of a program, which goes elsewhere.
    fn log_files(&mut self, section: &str, goes_to: &str) {
        for key in ["stdout_logfile", "stderr_logfile"] {
            let Some(file) = self.value(section, key, 0) else {
                continue;
            };
            if file == "/dev/null" || file.eq_ignore_ascii_case("none") {
                let text = format!("{goes_to}, where supervisord discards it");
                self.say(self.find(section, key), Verdict::Differs(text));
                continue;
            }
            let is_device = file.starts_with("/dev/") || file.starts_with("/proc/");
            let verdict = match is_device {
                true => Verdict::AlreadySo(goes_to.to_owned()),
                false => Verdict::Differs(goes_to.to_owned()),
            };
            self.say(self.find(section, key), verdict);
        }
    }

    /// The value of an option with its expansions; one that fails has its verdict then.
    fn value(&mut self, section: &str, key: &str, number: usize) -> Option<String> {
        let at = self.find(section, key)?;
        match self.expanded(at, number) {
            Ok(value) => Some(value),
            Err(problem) => {
                let is_variable = problem.ends_with("is not set");
                let verdict = match is_variable {
                    true => Verdict::AtStart(problem),
                    false => Verdict::Wrong(problem),
                };
                self.say(Some(at), verdict);
                None
            }
        }
    }

    fn set(&mut self, section: &str, key: &str, setting: &str, value: String) {
        if let Some(at) = self.find(section, key) {
            let item = &self.items[at];
            let verdict = self
                .draft
                .set(&item.place, &item.text, setting, vec![value]);
            self.say(Some(at), verdict);
        }
    }

    /// Sections that are no programs.
    fn section(&mut self, section: &str) {
        let kind = section.split(':').next().unwrap_or_default();
        let verdict = match kind {
            "supervisord" => {
                if let Some(at) = self.find(section, "environment") {
                    self.environment(section, at);
                }
                if let Some(at) = self.find(section, "nodaemon") {
                    let so = "the server stays in the foreground".to_owned();
                    let verdict = match is_true(&self.items[at].value) {
                        true => Verdict::AlreadySo(so),
                        false => Verdict::NoEffect(format!(
                            "{so}: let systemd, a container or the shell (`&`) run it"
                        )),
                    };
                    self.say(Some(at), verdict);
                }
                self.identity(section);
                Verdict::NoEffect("it is about supervisord itself: pyserve starts and watches all processes".to_owned())
            }
            "unix_http_server" | "inet_http_server" | "supervisorctl" | "rpcinterface" => {
                Verdict::NoEffect("`pyserve status`, `reload`, `scale` and `stop` control the server".to_owned())
            }
            "include" => Verdict::Read("the options of these files".to_owned()),
            "group" => Verdict::NoEffect("groups are for supervisorctl".to_owned()),
            "eventlistener" => Verdict::Unsupported("there are no events of processes: the log and the metrics at `admin` have the restarts".to_owned()),
            "fcgi-program" => Verdict::Unsupported("FastCGI programs are not started".to_owned()),
            _ => Verdict::Unknown(format!("supervisord has no section [{section}]")),
        };
        self.rest(section, &verdict);
    }

    /// The user, the mask and the directory of supervisord, which all programs have that name none.
    fn identity(&mut self, section: &str) {
        match self.value(section, "user", 0) {
            Some(user) if user != "root" && user != "0" && self.around.is_root => {
                self.set_user(section, user);
            }
            Some(_) => {
                let so = "the server runs as the user who starts it".to_owned();
                self.say(self.find(section, "user"), Verdict::AlreadySo(so));
            }
            None => {}
        }
        if let Some(umask) = self.value(section, "umask", 0) {
            self.set(section, "umask", "umask", umask);
        }
        if let Some(directory) = self.value(section, "directory", 0) {
            self.set(section, "directory", "chdir", directory);
        }
    }

    /// The user of the server, by this option.
    fn set_user(&mut self, section: &str, user: String) {
        let at = self.find(section, "user");
        self.set(section, "user", "uid", user);
        if let Some(Verdict::Honoured(text)) = at.and_then(|at| self.verdicts[at].as_mut()) {
            text.push_str(&format!(" ({OF_THAT_USER}; without supplementary groups)"));
        }
    }

    /// Variables for the whole server.
    fn environment(&mut self, section: &str, at: usize) {
        let Some(value) = self.value(section, "environment", 0) else {
            return;
        };
        match self.variables(&value) {
            Ok(found) => {
                let found: Vec<_> = found
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                let item = &self.items[at];
                if !found.is_empty() {
                    let verdict = self.draft.append(&item.place, &item.text, "env", &found);
                    self.say(Some(at), verdict);
                }
            }
            Err(problem) => self.say(Some(at), Verdict::Wrong(problem)),
        }
    }

    fn variables(&mut self, value: &str) -> Result<Vec<(String, String)>, String> {
        let found = pairs(value)?;
        let secret = found.iter().filter(|(name, _)| secrets::is_secret(name));
        self.secrets.extend(secret.map(|(_, value)| value.clone()));
        Ok(found)
    }

    fn program(&mut self, section: &str, name: &str) {
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || matches!(c, ':' | '/')) {
            let wrong = "the name of a program has no white space, colon or slash";
            return self.rest(section, &Verdict::Wrong(wrong.to_owned()));
        }
        let Some(command_at) = self.find(section, "command") else {
            let wrong = Verdict::Wrong(format!("program {name} has no command"));
            return self.rest(section, &wrong);
        };
        self.unknown(section);
        let not_started = Verdict::NoEffect("the program cannot be started".to_owned());
        let Some(line) = self.value(section, "command", 0) else {
            return self.rest(section, &not_started);
        };
        let Some((words, command)) = self.command(section).filter(|_| !line.contains('\0')) else {
            let why = "no command, a quote is open, or it has a NUL".to_owned();
            self.say(Some(command_at), Verdict::Wrong(why));
            return self.rest(section, &not_started);
        };
        let autostart = self.value(section, "autostart", 0);
        if autostart.is_some_and(|value| is_false(&value)) {
            let why = "the program is not started by itself, and pyserve starts no program later";
            return self.rest(section, &Verdict::NoEffect(why.to_owned()));
        }
        match command {
            Command::Server(Server::Uwsgi | Server::Gunicorn, _)
                if self.application.as_deref() != Some(section) =>
            {
                let served = self.application.as_deref().unwrap_or_default();
                let text = format!(
                    "[[companion]] {name:?}: it stays a server of its own, which has to be installed: pyserve serves the application of [{served}]"
                );
                self.companion(section, name, command_at);
                self.started_as(command_at, Verdict::Honoured(text));
            }
            Command::Server(server, start) => self.server(section, command_at, server, &start),
            Command::Hidden(server) => {
                let text = format!(
                    "it starts {server} in its own way, so it runs beside pyserve as [[companion]] {name:?}: have `command` start {server} itself"
                );
                self.companion(section, name, command_at);
                self.started_as(command_at, Verdict::Unsupported(text));
            }
            Command::Other if is_pyserve(&words) => {
                let text = "it is this server: start it without supervisord".to_owned();
                self.rest(section, &Verdict::AlreadySo(text));
            }
            Command::Other => self.companion(section, name, command_at),
        }
    }

    /// Says more about a command that became a companion.
    fn started_as(&mut self, at: usize, verdict: Verdict) {
        if matches!(self.verdicts[at], Some(Verdict::Honoured(_))) {
            self.verdicts[at] = Some(verdict);
        }
    }

    /// Options that are none.
    fn unknown(&mut self, section: &str) {
        for at in self.of_section(section).to_vec() {
            let item = &self.items[at];
            if self.verdicts[at].is_some() {
                continue;
            }
            let key = item.key.clone();
            if OWN.contains(&&*key) || NO_EFFECT.iter().any(|(name, _)| *name == key) {
                continue;
            }
            let names = OWN
                .iter()
                .chain(NO_EFFECT.iter().map(|(name, _)| name))
                .copied();
            let hint =
                suggest::closest(&key, names).map(|meant| format!(", did you mean {meant}?"));
            let text = format!("no option of a program{}", hint.unwrap_or_default());
            self.say(Some(at), Verdict::Unknown(text));
        }
    }
}

fn is_true(value: &str) -> bool {
    matches!(
        &*value.to_ascii_lowercase(),
        "true" | "yes" | "on" | "1" | "t" | "y"
    )
}

fn is_false(value: &str) -> bool {
    matches!(
        &*value.to_ascii_lowercase(),
        "false" | "no" | "off" | "0" | "f" | "n"
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::config::foreign::surroundings::Files;
    use crate::config::foreign::{equivalent, supervisord};
    use crate::config::{HostFacts, file};

    fn reading(text: &str) -> Reading {
        reading_with(text, &|_| Reading::default())
    }

    fn reading_with(text: &str, servers: &supervisord::ReadServer<'_>) -> Reading {
        let host = HostFacts::of_this_process();
        let read = |_: &Path, _: usize| Ok(text.as_bytes().to_vec());
        let files = Files {
            read: &read,
            kind: &|_| None,
            real: &|path| Some(path.to_owned()),
            stand_in: &|_| None,
        };
        let around = Surroundings::of(&host, &files);
        supervisord::read("/x/supervisord.conf", &around, servers)
    }

    #[test]
    fn only_what_is_said_of_a_directive_is_hidden_in_the_lines_of_servers() {
        let text = "[program:web]\ncommand=gunicorn site\nenvironment=A_TOKEN=\"hunter2\"\n";
        let reading = reading_with(text, &|_| {
            let line = |text: &str| Line {
                place: crate::config::foreign::Place {
                    source: "nginx.conf".into(),
                    line: 1,
                },
                text: text.to_owned(),
                verdict: Verdict::Honoured("pass = \"@app\"".to_owned()),
            };
            Reading {
                lines: vec![line("uwsgi_pass django"), line("return 200 hunter2")],
                ..Reading::default()
            }
        });
        let shown: Vec<_> = reading.lines.iter().map(Line::to_string).collect();
        let shown = shown.join("\n");
        assert!(
            shown.contains("uwsgi_pass django: honoured as pass = \"@app\""),
            "{shown}"
        );
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    /// The names of the companions, with the last word of their commands.
    fn companions(reading: &Reading) -> Vec<String> {
        let value = |table: &crate::config::layers::SettingsTable, name: &str| {
            table
                .entry(name)
                .and_then(|entry| entry.values.last().cloned())
        };
        let tables = reading.layer.companions.iter();
        tables
            .map(|table| {
                let [name, word] = ["name", "command"].map(|name| value(table, name).unwrap());
                format!("{name}: {word}")
            })
            .collect()
    }

    // As `supervisor.options.ServerOptions` of supervisor 4 gives them.
    #[test]
    fn names_and_expansions_of_programs_are_those_of_supervisord() {
        let check = |text: &str, expected: &[&str]| {
            let reading = reading(text);
            let shown: Vec<_> = reading.lines.iter().map(Line::to_string).collect();
            assert_eq!(companions(&reading), expected, "{text}: {shown:?}");
        };
        check("[program: a ]\ncommand=x %(program_name)s\n", &["a: a"]);
        check("[ program:a]\ncommand=x y\n", &[]);
        check("[program:a]b]\ncommand=x y\n", &["a]b: y"]);
        check(
            "[program:a]\ncommand=x y\n[program: a]\ncommand=x z\n",
            &["a: y"],
        );
        check(
            "[program:a]\ncommand=x y\n[program:a]\ncommand=x z\n",
            &["a: z"],
        );
        check(
            "[supervisord]\nenvironment=X=1\n[program:a]\ncommand=x %(ENV_X)s\n",
            &["a: 1"],
        );
        check(
            "[supervisord]\nenvironment=X=1\n[program:a]\nenvironment=X=\"%(ENV_X)s2\"\ncommand=x %(ENV_X)s\n",
            &["a: 12"],
        );
        check(
            "[program:a]\ncommand=x %(group_name)s\n[group:g]\nprograms=b, a\n",
            &["a: g"],
        );
        check("[program:a]\ncommand=x %(group_name)s\n", &["a: a"]);
        for name in ["a b", "a:b", "a/b", ""] {
            let text = format!("[program:{name}]\ncommand=x y\n");
            assert_eq!(reading(&text).exit_code(), 2, "{name:?}");
        }
    }

    #[test]
    fn as_many_programs_as_are_read_take_seconds_at_most() {
        let programs = (0..5000).map(|number| format!("[program:p{number}]\ncommand=x y\n"));
        let text = programs.collect::<String>();
        let begun = std::time::Instant::now();
        assert_eq!(reading(&text).layer.companions.len(), 5000);
        // It was minutes while each program went through the options of all.
        assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn any_file_is_read_without_a_panic_and_its_settings_read_back(
            text in "(\\PC|\n){0,60}|(\\[program:a\\]\n)?((\\[program:a\\]|\\[supervisord\\]|command|directory|environment|user|numprocs|stopsignal|stopwaitsecs|autorestart|priority|=|:|;|%\\(|ENV_|here|\\)s|\"|,|sleep|nginx|uwsgi|TERM|false|\n| |a|1){0,40})",
        ) {
            let read = reading(&text);
            let _code = read.exit_code();
            let written = equivalent::file(&read.layer, false);
            let (_, mistake) = file::layer(Path::new("x"), &written);
            prop_assert!(mistake.is_none(), "{written}: {mistake:?}");
        }
    }
}
