//! From options of supervisord to settings: a verdict for each, and a layer.

use std::collections::BTreeMap;

use super::programs::{companion, is_pyserve, nginx_file, server_of};
use super::reader::{Item, Options, expand, pairs};
use super::{Call, ReadServer, Server};
use crate::config::companions::COMPANION_SETTINGS;
use crate::config::foreign::drafting::{self, Draft, table};
use crate::config::foreign::{Line, Reading, Surroundings, Verdict, gunicorn, secrets};
use crate::config::layers::Layer;
use crate::config::{settings, suggest};
use crate::os::child::StopSignal;

/// Most processes of one program.
const MOST_PROCESSES: usize = 50;

/// The meaning of the options.
pub fn of(
    name: &str,
    options: Options,
    around: &Surroundings<'_>,
    server: &ReadServer<'_>,
) -> Reading {
    let mut meaning = Meaning {
        around,
        server,
        verdicts: vec![None; options.items.len()],
        items: options.items,
        draft: Draft::default(),
        lines: options.lines,
        lines_of_servers: Vec::new(),
        secrets: Vec::new(),
    };
    meaning.overridden();
    for section in meaning.sections() {
        match section.split_once(':') {
            Some(("program", program)) => meaning.program(&section, program),
            _ => meaning.section(&section),
        }
    }
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

struct Meaning<'a> {
    around: &'a Surroundings<'a>,
    server: &'a ReadServer<'a>,
    items: Vec<Item>,
    verdicts: Vec<Option<Verdict>>,
    draft: Draft,
    lines: Vec<Line>,
    /// The lines that the readers of servers have decided about.
    lines_of_servers: Vec<Line>,
    secrets: Vec<String>,
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
    (
        "exitcodes",
        "a companion is started again whatever its exit code is",
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
    ("numprocs_start", "it numbers processes"),
];
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
];

impl Meaning<'_> {
    /// Of equal names in a section the last counts.
    fn overridden(&mut self) {
        for at in 0..self.items.len() {
            let item = &self.items[at];
            let is_same = |other: &&Item| other.section == item.section && other.key == item.key;
            if let Some(other) = self.items[at + 1..].iter().find(is_same) {
                let why = format!("{} sets it again", other.place);
                self.verdicts[at] = Some(Verdict::NoEffect(why));
            }
        }
    }

    /// The sections, programs in the order of their priority.
    fn sections(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for item in &self.items {
            if !names.contains(&item.section) {
                names.push(item.section.clone());
            }
        }
        names.sort_by_key(|name| {
            let given = self
                .find(name, "priority")
                .map(|at| self.items[at].value.parse::<i64>());
            // Sites of nginx depend on the application behind it.
            let command = self.find(name, "command");
            let words = command.and_then(|at| gunicorn::split(&self.items[at].value));
            let server = words.and_then(|words| server_of(&words));
            let is_front = server.is_some_and(|(server, _)| server == Server::Nginx);
            (is_front, given.and_then(Result::ok).unwrap_or(999))
        });
        names
    }

    fn find(&self, section: &str, key: &str) -> Option<usize> {
        let is_it = |at: &usize| {
            let item = &self.items[*at];
            self.verdicts[*at].is_none() && item.section == section && item.key == key
        };
        (0..self.items.len()).find(is_it)
    }

    fn say(&mut self, at: Option<usize>, verdict: Verdict) {
        if let Some(at) = at {
            self.verdicts[at] = Some(verdict);
        }
    }

    /// Gives all options of a section that have none this verdict.
    fn rest(&mut self, section: &str, verdict: &Verdict) {
        for at in 0..self.items.len() {
            if self.items[at].section == section && self.verdicts[at].is_none() {
                self.verdicts[at] = Some(verdict.clone());
            }
        }
    }

    /// The value of an option with its expansions; one that fails has its verdict then.
    fn value(&mut self, section: &str, key: &str, number: usize) -> Option<String> {
        let at = self.find(section, key)?;
        let item = &self.items[at];
        let program = section.split_once(':').map_or("", |(_, name)| name);
        let around = self.around;
        let here = item.here.clone();
        let known = |name: &str| match name {
            "here" => Some(here.clone()),
            "program_name" | "group_name" => Some(program.to_owned()),
            "process_num" => Some(number.to_string()),
            "numprocs" => Some("1".to_owned()),
            "host_node_name" => Some(around.hostname.clone()),
            name => around.environment.raw(name.strip_prefix("ENV_")?),
        };
        match expand(&item.value, &known) {
            Ok(value) => Some(value.trim().to_owned()),
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

    /// Sections that are no programs.
    fn section(&mut self, section: &str) {
        let kind = section.split(':').next().unwrap_or_default();
        let verdict = match kind {
            "supervisord" => {
                if let Some(at) = self.find(section, "environment") {
                    self.environment(section, at);
                }
                let so = Verdict::AlreadySo("the server stays in the foreground".to_owned());
                self.say(self.find(section, "nodaemon"), so);
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
        let Some(command_at) = self.find(section, "command") else {
            let wrong = Verdict::Wrong(format!("program {name} has no command"));
            return self.rest(section, &wrong);
        };
        self.unknown(section);
        let Some(line) = self.value(section, "command", 0) else {
            return self.rest(
                section,
                &Verdict::NoEffect("the program cannot be started".to_owned()),
            );
        };
        let Some(words) = gunicorn::split(&line).filter(|words| !words.is_empty()) else {
            self.say(
                Some(command_at),
                Verdict::Wrong("no command, or a quote is open".to_owned()),
            );
            return self.rest(
                section,
                &Verdict::NoEffect("the program cannot be started".to_owned()),
            );
        };
        let autostart = self.value(section, "autostart", 0);
        if autostart.is_some_and(|value| is_false(&value)) {
            let why = "the program is not started by itself, and pyserve starts no program later";
            return self.rest(section, &Verdict::NoEffect(why.to_owned()));
        }
        match server_of(&words) {
            Some((server, words)) => self.server(section, command_at, server, &words),
            None if is_pyserve(&words) => {
                let text = "it is this server: start it without supervisord".to_owned();
                self.rest(section, &Verdict::AlreadySo(text));
            }
            None => self.companion(section, name, command_at),
        }
    }

    /// Options that are none.
    fn unknown(&mut self, section: &str) {
        for at in 0..self.items.len() {
            let item = &self.items[at];
            if item.section != section || self.verdicts[at].is_some() {
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

    /// A program that is a server: its command line becomes settings.
    fn server(&mut self, section: &str, at: usize, server: Server, words: &[String]) {
        let directory = self.value(section, "directory", 0);
        let reading = (self.server)(&Call {
            server,
            words,
            directory: directory.as_deref(),
            layer: &self.draft.layer,
        });
        let text = match server {
            Server::Nginx => format!("pyserve itself, with the sites of {}", nginx_file(words)),
            Server::Uwsgi => "pyserve itself, with these options of uWSGI".to_owned(),
            Server::Gunicorn => "pyserve itself, with these options of gunicorn".to_owned(),
        };
        let place = self.items[at].place.clone();
        self.say(Some(at), Verdict::Honoured(text));
        self.lines_of_servers
            .extend(reading.lines.into_iter().map(|line| match line.place.line {
                // A word of the command.
                0 if &*line.place.source == "command line" => Line {
                    place: place.clone(),
                    ..line
                },
                _ => line,
            }));
        self.draft.implied.extend(reading.implied);
        self.merge(reading.layer);
        let is_app = server != Server::Nginx;
        if let Some(directory) = directory.filter(|_| is_app)
            && self.draft.layer.entry("chdir").is_none()
        {
            self.set(section, "directory", "chdir", directory);
        }
        if let Some(user) = self
            .value(section, "user", 0)
            .filter(|user| is_app && user != "root")
            && self.draft.layer.entry("uid").is_none()
            && self.around.is_root
        {
            self.set(section, "user", "uid", user);
        }
        if let Some(at) = self.find(section, "environment").filter(|_| is_app) {
            self.environment(section, at);
        }
        if let Some(time) = self.value(section, "stopwaitsecs", 0).filter(|_| is_app)
            && self.draft.layer.entry("graceful_timeout").is_none()
        {
            self.set(section, "stopwaitsecs", "graceful_timeout", time);
        }
        let why = "the program is pyserve itself, which starts and watches its processes";
        self.rest(section, &Verdict::AlreadySo(why.to_owned()));
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

    /// Takes the settings of a program, where none before has set them.
    fn merge(&mut self, layer: Layer) {
        for setting in settings::all() {
            if let Some(entry) = layer.entry(setting.name)
                && self.draft.layer.entry(setting.name).is_none()
            {
                let (values, origin) = (entry.values.clone(), entry.origin.clone());
                self.draft.layer.insert(setting, values, origin);
            }
        }
        self.draft.layer.locations.extend(layer.locations);
        self.draft.layer.companions.extend(layer.companions);
        self.secrets.extend(layer.secrets);
    }

    /// Any other program: a companion, or several.
    fn companion(&mut self, section: &str, name: &str, command_at: usize) {
        let restart = self.value(section, "autorestart", 0);
        if restart.as_deref().is_some_and(is_false) {
            let why = "a program that ends and is not started again: run it with `before_start`, or at times as a [[companion]] with `schedule`";
            self.say(Some(command_at), Verdict::Unsupported(why.to_owned()));
            let reason = "the program is not started".to_owned();
            return self.rest(section, &Verdict::NoEffect(reason));
        }
        let count = self.value(section, "numprocs", 0);
        let count = count
            .and_then(|count| count.parse::<usize>().ok())
            .unwrap_or(1);
        let count = count.clamp(1, MOST_PROCESSES);
        for number in 0..count {
            let own = if count == 1 {
                name.to_owned()
            } else {
                format!("{name}-{number}")
            };
            if !self.one_companion(section, &own, number, command_at) {
                return self.rest(
                    section,
                    &Verdict::NoEffect("the program cannot be started".to_owned()),
                );
            }
        }
        let name_text = format!("[[companion]] {name:?}");
        self.say(Some(command_at), Verdict::Honoured(name_text));
        self.companion_options(section, restart.as_deref());
        for (key, why) in NO_EFFECT {
            self.say(
                self.find(section, key),
                Verdict::NoEffect((*why).to_owned()),
            );
        }
        self.rest(
            section,
            &Verdict::Honoured("part of the [[companion]]".to_owned()),
        );
    }

    /// Adds one process; false if an option of it cannot be used.
    fn one_companion(&mut self, section: &str, name: &str, number: usize, at: usize) -> bool {
        let line = self.value(section, "command", number).unwrap_or_default();
        let words = gunicorn::split(&line).unwrap_or_default();
        let directory = self.value(section, "directory", number);
        let umask = self.value(section, "umask", number);
        let umask =
            umask.filter(|mask| !mask.is_empty() && mask.bytes().all(|byte| byte.is_ascii_digit()));
        let environment = self
            .value(section, "environment", number)
            .unwrap_or_default();
        let variables = match self.variables(&environment) {
            Ok(variables) => variables,
            Err(problem) => {
                self.say(self.find(section, "environment"), Verdict::Wrong(problem));
                return false;
            }
        };
        if self.find(section, "command").is_none() {
            return false;
        }
        let command = companion(&words, directory.as_deref(), &variables, umask.as_deref());
        let mut given = vec![("name", vec![name.to_owned()]), ("command", command)];
        let time = self.value(section, "stopwaitsecs", number);
        given.push((
            "stop_timeout",
            vec![time.unwrap_or_else(|| "10".to_owned())],
        ));
        let signal = self.value(section, "stopsignal", number);
        let signal = signal.as_deref().and_then(stop_signal);
        if let Some(name) = signal.filter(|name| *name != "TERM") {
            given.push(("stop_signal", vec![name.to_owned()]));
        }
        let user = self.value(section, "user", number);
        if let Some(user) = user.filter(|_| self.around.is_root) {
            given.push(("user", vec![user]));
        }
        let item = &self.items[at];
        let made = table(
            &item.place,
            &item.text,
            &mut COMPANION_SETTINGS.iter(),
            &given,
        );
        self.draft.layer.companions.push(made);
        true
    }

    /// Options of a companion whose form differs.
    fn companion_options(&mut self, section: &str, restart: Option<&str>) {
        let restarts = match restart {
            Some(value) if is_true(value) => {
                Verdict::AlreadySo("a companion that ends is started again".to_owned())
            }
            _ => Verdict::NoEffect(
                "a companion that ends is started again whatever its exit code is".to_owned(),
            ),
        };
        self.say(self.find(section, "autorestart"), restarts);
        if let Some(signal) = self.value(section, "stopsignal", 0) {
            let verdict = match stop_signal(&signal) {
                Some("TERM") => Verdict::AlreadySo("companions get SIGTERM".to_owned()),
                Some(name) => {
                    Verdict::Honoured(format!("stop_signal = {name:?} of the [[companion]]"))
                }
                None => Verdict::Wrong("no signal that ends a program".to_owned()),
            };
            self.say(self.find(section, "stopsignal"), verdict);
        }
        for key in ["stopasgroup", "killasgroup"] {
            let so = "the main process gets SIGTERM, its children once it is gone, and the group SIGKILL at the end";
            self.say(self.find(section, key), Verdict::AlreadySo(so.to_owned()));
        }
        let starts =
            "companions start in the order of the priorities, and stop in the reverse order";
        self.say(
            self.find(section, "priority"),
            Verdict::Honoured(starts.to_owned()),
        );
        let so = "both outputs go to the log".to_owned();
        self.say(
            self.find(section, "redirect_stderr"),
            Verdict::AlreadySo(so),
        );
        self.say(
            self.find(section, "autostart"),
            Verdict::AlreadySo("it starts with the server".to_owned()),
        );
        for key in ["stdout_logfile", "stderr_logfile"] {
            let Some(file) = self.value(section, key, 0) else {
                continue;
            };
            let verdict = match file.starts_with("/dev/") || file.starts_with("/proc/") {
                true => Verdict::AlreadySo(ROTATION.to_owned()),
                false => Verdict::Noted(ROTATION.to_owned()),
            };
            self.say(self.find(section, key), verdict);
        }
        let user = self.find(section, "user");
        if user.is_some() && !self.around.is_root {
            let why = "only root can start programs as another user";
            self.say(user, Verdict::NoEffect(why.to_owned()));
        }
        if let Some(seconds) = self.value(section, "stopwaitsecs", 0) {
            let text = format!("stop_timeout = {seconds} of the [[companion]]");
            self.say(self.find(section, "stopwaitsecs"), Verdict::Honoured(text));
        } else {
            let text = (
                "stop_timeout = 10".to_owned(),
                "supervisord waits 10 s without `stopwaitsecs`".to_owned(),
            );
            if !self.draft.implied.contains(&text) {
                self.draft.implied.push(text);
            }
        }
    }
}

/// The name of a signal that supervisord sends, by its name or number (signal(7), x86 and ARM).
fn stop_signal(text: &str) -> Option<&'static str> {
    let name = text.trim().to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let number = match name {
        "1" => "HUP",
        "2" => "INT",
        "3" => "QUIT",
        "9" => "KILL",
        "10" => "USR1",
        "12" => "USR2",
        "15" => "TERM",
        name => name,
    };
    let mut all = StopSignal::ALL.iter();
    all.find(|(own, _)| *own == number).map(|(own, _)| *own)
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
