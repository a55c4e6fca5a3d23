//! From options of supervisord to settings: a verdict for each, and a layer.

use std::collections::BTreeMap;

use super::programs::{Command, Place, Start, companion, is_pyserve, nginx_file};
use super::reader::{Item, Options, expand, pairs};
use super::{Call, ReadServer, Server, programs};
use crate::config::companions::COMPANION_SETTINGS;
use crate::config::foreign::drafting::{self, Draft, table};
use crate::config::foreign::{self, Line, Reading, Surroundings, Verdict, gunicorn, secrets};
use crate::config::layers::Layer;
use crate::config::{native, settings, suggest};
use crate::os::child::StopSignal;

/// Most processes of one program.
const MOST_PROCESSES: usize = 50;
/// Longest script that is looked into.
const LONGEST_SCRIPT: usize = 64 << 10;

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
        application: None,
        of_application: Vec::new(),
    };
    meaning.overridden();
    meaning.find_application();
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

    /// The sections: supervisord's own, then programs in the order of their priority.
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

    /// The variables of a section, as far as they can be read.
    fn pairs_of(&self, section: &str) -> Vec<(String, String)> {
        let value = self
            .find(section, "environment")
            .and_then(|at| self.expanded(at, 0).ok());
        value
            .and_then(|value| pairs(&value).ok())
            .unwrap_or_default()
    }

    /// Chooses the program whose application is served: the first that is a server for one.
    fn find_application(&mut self) {
        let is_it = |section: &String| {
            let is_program = section.starts_with("program:");
            let started = self.find(section, "autostart").map(|at| &self.items[at]);
            let is_started = started.is_none_or(|item| !is_false(&item.value));
            let command = self.command(section).map(|(_, command)| command);
            is_program
                && is_started
                && matches!(
                    command,
                    Some(Command::Server(Server::Uwsgi | Server::Gunicorn, _))
                )
        };
        let Some(section) = self.sections().into_iter().find(is_it) else {
            return;
        };
        let shared = self.pairs_of("supervisord");
        // An explanation shows nothing of the environment.
        let is_start = !self.around.is_explained;
        let of_others = |name: &str| {
            let mut shared = shared.iter().rev();
            let shared = shared.find(|(shared, _)| shared == name);
            let value = shared.map(|(_, value)| value.clone());
            value.or_else(|| self.around.environment.raw(name).filter(|_| is_start))
        };
        let own = self.pairs_of(&section).into_iter();
        let own = own.map(|(name, value)| {
            let others = of_others(&name);
            (name, value, others)
        });
        self.of_application = own
            .filter(|(_, value, others)| others.as_ref() != Some(value))
            .map(|(name, _, others)| (name, others))
            .collect();
        self.application = Some(section);
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

    /// The value of an item with its expansions, for the process of this index.
    fn expanded(&self, at: usize, index: usize) -> Result<String, String> {
        let item = &self.items[at];
        let section = &*item.section;
        let program = section.split_once(':').map_or("", |(_, name)| name);
        let plain = |key: &str| self.find(section, key).map(|at| &*self.items[at].value);
        let known = |name: &str| match name {
            "here" => Some(item.here.clone()),
            "program_name" | "group_name" => Some(program.to_owned()),
            "process_num" => Some((self.first_number(section) + index).to_string()),
            "numprocs" => Some(plain("numprocs").unwrap_or("1").to_owned()),
            "host_node_name" => Some(self.around.hostname.clone()),
            name => self.around.environment.raw(name.strip_prefix("ENV_")?),
        };
        expand(&item.value, &known).map(|value| value.trim().to_owned())
    }

    /// The number of the first process of a program.
    fn first_number(&self, section: &str) -> usize {
        let given = self.find(section, "numprocs_start");
        given
            .and_then(|at| self.items[at].value.parse().ok())
            .unwrap_or_default()
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
                self.set(section, "user", "uid", user);
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
    fn server(&mut self, section: &str, at: usize, server: Server, start: &Start) {
        let is_app = server != Server::Nginx;
        let directory = self.value(section, "directory", 0);
        let directory = match (directory, &start.directory) {
            (directory, None) => directory,
            (None, Some(own)) => Some(own.clone()),
            (Some(directory), Some(own)) => {
                let path = native::path(&directory).join(native::path(own));
                Some(native::text(path.as_os_str()))
            }
        };
        let place = self.items[at].place.clone();
        let mut known = self.draft.layer.clone();
        let environment = self.interpreter(start, directory.as_deref());
        if let Some((name, value)) = environment.clone().filter(|_| is_app)
            && let Some(setting) = settings::named(name)
        {
            let origin = foreign::origin(&place, &self.items[at].text);
            known.insert(setting, vec![value], origin);
        }
        let reading = (self.server)(&Call {
            server,
            words: &start.words,
            directory: directory.as_deref(),
            layer: &known,
        });
        let text = match server {
            Server::Nginx => {
                let file = nginx_file(&start.words);
                format!("pyserve itself, with the sites of {file}")
            }
            server => format!("pyserve itself, with these options of {}", server.name()),
        };
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
        let has_own = |name: &str| reading.layer.entry(name).is_some();
        let names_interpreter = has_own("venv") || has_own("python");
        let names_directory = has_own("chdir");
        self.merge(reading.layer);
        if is_app {
            let environment = environment.filter(|_| !names_interpreter);
            self.place_of_application(
                section,
                at,
                start,
                (directory, names_directory),
                environment,
            );
        }
        let one = "one server takes all requests: `workers` is the number of its processes";
        self.say(
            self.find(section, "numprocs"),
            Verdict::NoEffect(one.to_owned()),
        );
        let why = "the program is pyserve itself, which starts and watches its processes";
        self.rest(section, &Verdict::AlreadySo(why.to_owned()));
    }

    /// The setting that names the interpreter of a server which was started so.
    fn interpreter(
        &self,
        start: &Start,
        directory: Option<&str>,
    ) -> Option<(&'static str, String)> {
        let current = self
            .around
            .current_dir
            .join(native::path(directory.unwrap_or_default()));
        if let Some(venv) = &start.venv {
            let path = current.join(native::path(venv));
            return Some(("venv", native::text(path.as_os_str())));
        }
        let prefix = start.prefix()?;
        let has = |inside: &str| {
            let path = native::path(prefix).join(inside);
            (self.around.files.kind)(&path).is_some_and(|kind| kind.is_file)
        };
        let is_elsewhere = self.around.is_explained && !native::path(prefix).is_dir();
        match (has("pyvenv.cfg") || is_elsewhere, has("bin/python3")) {
            (true, _) => Some(("venv", prefix.to_owned())),
            (false, true) => Some(("python", format!("{prefix}/bin/python3"))),
            (false, false) => None,
        }
    }

    /// The directory, the user and the variables of the program whose application is served.
    fn place_of_application(
        &mut self,
        section: &str,
        at: usize,
        start: &Start,
        (directory, names_directory): (Option<String>, bool),
        environment: Option<(&'static str, String)>,
    ) {
        let (place, text) = (self.items[at].place.clone(), self.items[at].text.clone());
        if let Some((name, value)) = environment
            && let Some(setting) = settings::named(name)
        {
            let origin = foreign::origin(&place, &text);
            self.draft.layer.insert(setting, vec![value], origin);
        }
        match directory.filter(|_| !names_directory) {
            Some(directory) if self.find(section, "directory").is_some() => {
                self.set(section, "directory", "chdir", directory);
            }
            Some(directory) => {
                self.draft.set(&place, &text, "chdir", vec![directory]);
            }
            None => {}
        }
        if let Some(user) = self.value(section, "user", 0).filter(|user| user != "root")
            && self.draft.layer.entry("uid").is_none()
            && self.around.is_root
        {
            self.set(section, "user", "uid", user);
        }
        if let Some(umask) = self.value(section, "umask", 0) {
            self.set(section, "umask", "umask", umask);
        }
        if let Some(at) = self.find(section, "environment") {
            self.environment(section, at);
        }
        if !start.variables.is_empty() {
            let secret = start.variables.iter();
            let secret = secret.filter(|(name, _)| secrets::is_secret(name));
            self.secrets.extend(secret.map(|(_, value)| value.clone()));
            let pairs = start.variables.iter();
            let pairs: Vec<_> = pairs
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            self.draft.append(&place, &text, "env", &pairs);
        }
        if let Some(time) = self.value(section, "stopwaitsecs", 0)
            && self.draft.layer.entry("graceful_timeout").is_none()
        {
            self.set(section, "stopwaitsecs", "graceful_timeout", time);
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

    /// Takes the settings of a program, where none before has set them.
    fn merge(&mut self, layer: Layer) {
        self.secrets.extend(layer.secrets.iter().cloned());
        self.draft.layer.add(layer);
    }

    /// Any other program: a companion, or several.
    fn companion(&mut self, section: &str, name: &str, command_at: usize) {
        let count = self.value(section, "numprocs", 0);
        let count = count
            .and_then(|count| count.parse::<usize>().ok())
            .unwrap_or(1);
        let count = count.clamp(1, MOST_PROCESSES);
        for number in 0..count {
            let own = if count == 1 {
                name.to_owned()
            } else {
                format!("{name}-{}", self.first_number(section) + number)
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
        self.restarts(section);
        self.companion_options(section);
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
        let mut without = Vec::new();
        let mut all = Vec::new();
        for (name, others) in &self.of_application {
            match others {
                _ if variables.iter().any(|(own, _)| own == name) => {}
                Some(value) => all.push((name.clone(), value.clone())),
                None => without.push(name.clone()),
            }
        }
        all.extend(variables);
        let place = Place {
            directory: directory.as_deref(),
            variables: &all,
            without: &without,
            umask: umask.as_deref(),
        };
        let command = companion(&words, &place);
        let mut given = vec![("name", vec![name.to_owned()]), ("command", command)];
        let restart = self.restart(section);
        if restart != "always" {
            given.push(("restart", vec![restart.to_owned()]));
        }
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

    /// The value of `restart` that stands for `autorestart` and `exitcodes`.
    fn restart(&mut self, section: &str) -> &'static str {
        let given = self.value(section, "autorestart", 0);
        let codes = self.value(section, "exitcodes", 0);
        let codes = codes.unwrap_or_else(|| "0".to_owned());
        let expects_success = codes.split(',').any(|code| code.trim() == "0");
        match given.as_deref() {
            Some(value) if is_true(value) => "always",
            Some(value) if is_false(value) => "never",
            // `unexpected`, the default.
            _ if expects_success => "on-failure",
            _ => "always",
        }
    }

    /// The verdicts on `autorestart` and `exitcodes` of a companion.
    fn restarts(&mut self, section: &str) {
        let restart = self.restart(section);
        let honoured = format!("restart = {restart:?} of the [[companion]]");
        let verdict = match restart {
            "always" => Verdict::AlreadySo("a companion that ends is started again".to_owned()),
            _ => Verdict::Honoured(honoured.clone()),
        };
        self.say(self.find(section, "autorestart"), verdict);
        let codes = self.value(section, "exitcodes", 0).unwrap_or_default();
        let others = codes.split(',').any(|code| code.trim() != "0");
        let verdict = match (restart, others) {
            ("on-failure", false) => Verdict::Honoured(honoured),
            ("on-failure", true) => Verdict::Noted(
                "every exit code but 0 is a failure here, after which the program is started again"
                    .to_owned(),
            ),
            ("never", _) => Verdict::NoEffect("the program is not started again".to_owned()),
            _ => Verdict::NoEffect(
                "the program is started again whatever its exit code is".to_owned(),
            ),
        };
        self.say(self.find(section, "exitcodes"), verdict);
        if self.find(section, "autorestart").is_none() && restart == "on-failure" {
            let text = (
                "restart = \"on-failure\"".to_owned(),
                "without `autorestart`, supervisord does not restart a program that ended with exit code 0"
                    .to_owned(),
            );
            if !self.draft.implied.contains(&text) {
                self.draft.implied.push(text);
            }
        }
    }

    /// Options of a companion whose form differs.
    fn companion_options(&mut self, section: &str) {
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
