//! Programs that become companions: their command, their restarts and their other options.

use super::{Meaning, NO_EFFECT, OF_THAT_USER, ROTATION, is_false, is_true};
use crate::config::companions::COMPANION_SETTINGS;
use crate::config::foreign::drafting::table;
use crate::config::foreign::supervisord::programs::{Place, companion};
use crate::config::foreign::{Verdict, gunicorn};
use crate::config::native;
use crate::os::child::StopSignal;

/// Most processes of one program.
const MOST_PROCESSES: usize = 50;

impl Meaning<'_> {
    /// Any other program: a companion, or several.
    pub(super) fn companion(&mut self, section: &str, name: &str, command_at: usize) {
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
        let mut name_text = format!("[[companion]] {name:?}");
        if let Some(web) = self.becomes_another_user(section) {
            name_text.push_str(&format!(" (as the user of [{web}], not as root)"));
        }
        if let Some(web) = self.moves_along(section) {
            name_text.push_str(&format!(
                " (in the directory of [{web}]: give it a `directory` of its own)"
            ));
        }
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

    /// The section of the application, if its user is that of this program too, which names none: the server drops
    /// the rights of root for good.
    fn becomes_another_user(&self, section: &str) -> Option<&str> {
        let names = |section: &str| {
            let given = self.given(section, "user")?;
            let user = &*self.items[given].value;
            (!matches!(user, "root" | "0")).then_some(())
        };
        let web = self.application.as_deref()?;
        let is_shared = names("supervisord").is_some();
        let is_root = self.around.is_root && !is_shared && self.given(section, "user").is_none();
        names(web).filter(|()| is_root).map(|()| web)
    }

    /// Says of commands without a directory that the environment of the application comes first on their `PATH`.
    pub(super) fn say_path(&mut self) {
        if self.draft.layer.entry("venv").is_none() {
            return;
        }
        for section in self.sections() {
            let at = self.given(&section, "command").filter(|at| {
                let line = self.expanded(*at, 0).ok();
                let words = line
                    .and_then(|line| gunicorn::split(&line))
                    .unwrap_or_default();
                words.first().is_some_and(|word| !word.contains('/'))
            });
            if let Some(Verdict::Honoured(text)) = at.and_then(|at| self.verdicts[at].as_mut())
                && text.starts_with("[[companion]]")
            {
                text.push_str(" (PATH begins with the programs of the application's environment)");
            }
        }
    }

    /// The directory of a program, which is relative to that of supervisord, not to that of the application.
    fn directory(&mut self, section: &str, number: usize) -> Option<String> {
        let own = self.value(section, "directory", number);
        let shared = self.given("supervisord", "directory");
        let shared = shared.and_then(|at| self.expanded(at, 0).ok());
        // An explanation does not know where the server starts.
        let start = (!self.around.is_explained && self.application.is_some())
            .then(|| native::text(self.around.current_dir.as_os_str()));
        let base = match (shared, start) {
            (Some(shared), Some(start)) => {
                let path = native::path(&start).join(native::path(&shared));
                Some(native::text(path.as_os_str()))
            }
            (shared, start) => shared.or(start),
        };
        match (own, base) {
            (Some(own), Some(base)) => {
                let path = native::path(&base).join(native::path(&own));
                Some(native::text(path.as_os_str()))
            }
            (own, base) => own.or(base.filter(|_| self.application.is_some())),
        }
    }

    /// The section of the application, if its directory becomes that of this program too, which names none.
    fn moves_along(&self, section: &str) -> Option<&str> {
        let names = |section: &str| self.given(section, "directory").is_some();
        let web = self.application.as_deref()?;
        let is_known = names(section) || names("supervisord") || !self.around.is_explained;
        (!is_known && names(web)).then_some(web)
    }

    /// Adds one process; false if an option of it cannot be used.
    fn one_companion(&mut self, section: &str, name: &str, number: usize, at: usize) -> bool {
        let line = self.value(section, "command", number).unwrap_or_default();
        let words = gunicorn::split(&line).unwrap_or_default();
        let directory = self.directory(section, number);
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
            ("on-failure", true) => Verdict::Differs(
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
            let why = "the main process gets the signal, its children SIGTERM once it is gone, and the group SIGKILL at the end";
            self.say(self.find(section, key), Verdict::NoEffect(why.to_owned()));
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
        self.log_files(section, ROTATION);
        if let Some(user) = self.find(section, "user") {
            let verdict = match self.around.is_root {
                true => Verdict::Honoured(format!("user of the [[companion]] ({OF_THAT_USER})")),
                false => {
                    let why = "only root can start programs as another user";
                    Verdict::NoEffect(why.to_owned())
                }
            };
            self.say(Some(user), verdict);
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

/// The name of a signal that supervisord sends, by its name or number.
fn stop_signal(text: &str) -> Option<&'static str> {
    let name = text.trim().to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let mut all = StopSignal::ALL.iter();
    let named = all.find(|(own, _)| *own == name).map(|(own, _)| *own);
    named.or_else(|| StopSignal::name_of(name))
}
