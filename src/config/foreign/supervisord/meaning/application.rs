//! Programs that pyserve itself takes over: nginx, and the server of one application.

use super::{Meaning, is_false, program_of};
use crate::config::foreign::supervisord::programs::{Command, Start, nginx_file};
use crate::config::foreign::supervisord::{Call, Server};
use crate::config::foreign::{self, Line, Verdict, secrets};
use crate::config::layers::Layer;
use crate::config::{native, settings};

impl Meaning<'_> {
    /// Chooses the program whose application is served: the first that is a server for one.
    pub(super) fn find_application(&mut self) {
        let is_it = |section: &String| {
            let is_program = program_of(section).is_some();
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
        // No program is found without PATH, whose value at the start is not known here.
        let is_kept =
            |name: &str, others: &Option<String>| name == "PATH" && others.is_none() && !is_start;
        self.of_application = own
            .filter(|(name, value, others)| {
                others.as_ref() != Some(value) && !is_kept(name, others)
            })
            .map(|(name, _, others)| (name, others))
            .collect();
        self.application = Some(section);
    }

    /// A program that is a server: its command line becomes settings.
    pub(super) fn server(&mut self, section: &str, at: usize, server: Server, start: &Start) {
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
        if !is_app {
            self.yield_to_site(&reading.layer);
        }
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
        match is_app {
            true => self.merge(reading.layer),
            false => self.merge_site(reading.layer),
        }
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
        self.options_of_server(section, is_app);
    }

    /// The options that say how supervisord runs a program which is pyserve itself.
    fn options_of_server(&mut self, section: &str, is_app: bool) {
        let one = "one server takes all requests: `workers` is the number of its processes";
        self.say(
            self.find(section, "numprocs"),
            Verdict::NoEffect(one.to_owned()),
        );
        self.log_files(
            section,
            "requests are logged on standard output, all else on standard error",
        );
        self.user_of_server(section, is_app);
        let so = "the program is pyserve itself, which starts with the server";
        self.say(
            self.find(section, "autostart"),
            Verdict::AlreadySo(so.to_owned()),
        );
        let why = "the program is pyserve itself, which starts, watches and stops its processes; systemd or a container starts it, and restarts it if it ends";
        self.rest(section, &Verdict::NoEffect(why.to_owned()));
    }

    /// The user of a program that is the server, where its own options name none.
    fn user_of_server(&mut self, section: &str, is_app: bool) {
        if let Some(user) = self.find(section, "user").filter(|_| is_app) {
            let verdict = match &*self.items[user].value {
                "root" => {
                    Verdict::AlreadySo("the server runs as the user who starts it".to_owned())
                }
                _ if !self.around.is_root => {
                    Verdict::NoEffect("only root can become another user".to_owned())
                }
                _ => Verdict::NoEffect("another line names the user of the server".to_owned()),
            };
            self.say(Some(user), verdict);
        }
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
            self.set_user(section, user);
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

    /// Takes the settings of a program, where none before has set them.
    fn merge(&mut self, layer: Layer) {
        self.secrets.extend(layer.secrets.iter().cloned());
        self.draft.layer.add(layer);
    }

    /// Takes the settings of a site, which override those of the application behind it, as nginx is what clients
    /// meet.
    fn merge_site(&mut self, site: Layer) {
        let application = std::mem::replace(&mut self.draft.layer, site.clone());
        self.merge(application);
        self.secrets.extend(site.secrets);
    }

    /// Says of the lines of the application that a site sets the same.
    fn yield_to_site(&mut self, site: &Layer) {
        let verdict_of = |text: &str| {
            let name = text.split_once(" = ").map(|(name, _)| name)?;
            let own = self.draft.layer.entry(name)?;
            let entry = site.entry(name)?;
            let why = format!("nginx, which clients meet, sets {name} ({})", entry.origin);
            (own.values != entry.values).then_some(match name {
                "bind" => Verdict::NoEffect(why),
                // The stricter of two limits counts where there are two servers.
                _ => Verdict::Differs(why),
            })
        };
        let lines = self.lines_of_servers.iter_mut();
        let lines = lines.map(|line| &mut line.verdict);
        let own = self.verdicts.iter_mut().flatten();
        for verdict in lines.chain(own) {
            if let Verdict::Honoured(text) = verdict
                && let Some(yielded) = verdict_of(text)
            {
                *verdict = yielded;
            }
        }
        let implied = &mut self.draft.implied;
        implied.retain(|(text, _)| verdict_of(text).is_none());
    }
}
