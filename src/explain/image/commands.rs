//! The replacement of a command of an image: a server becomes pyserve, with the same settings.

use crate::config::foreign::shell;
use crate::config::foreign::supervisord::NGINX_FILE;
use crate::config::foreign::surroundings::FileKind;
use crate::config::foreign::{Verdict, equivalent, supervisord};
use crate::config::layers::{Layer, SettingOrigin};
use crate::config::{native, settings};
use crate::explain::image::Explained;
use crate::explain::image::doubts::{self, Doubt};
use crate::explain::image::placement::Placement;
use crate::explain::image::server_files::{is_included, is_main_of_supervisord};
use crate::explain::image::site::Site;
use crate::explain::readers::{self, Context, Reader, Source};
use crate::explain::subject::{ImageFile, Kind, Subject};

/// Longest entry script that is read, in bytes.
const LONGEST_SCRIPT: usize = 1 << 20;
/// The number of workers that gunicorn has without one, for the shell.
pub const WORKERS: &str = "${WEB_CONCURRENCY:-1}";

/// The replacement of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Became {
    /// pyserve, with these words behind its name.
    Pyserve(Vec<String>),
    /// It stays, and a link of this name or path to pyserve takes it; pyserve reads this file of nginx as well.
    Linked(String, Option<String>),
    /// It goes away, for this reason.
    Dropped(&'static str),
    /// It stays as it is; there may be something to know.
    Stays(&'static str),
    /// There is no counterpart; the text is the advice.
    Unsupported(String),
}

/// Turns commands into those of pyserve.
pub struct Conversion<'a> {
    /// Files with settings: their flag, their name, and their place in the image.
    files: Vec<(&'static Reader, &'a str, Option<String>)>,
    /// Files whose settings have an address.
    listening: Vec<(&'a str, &'a [String])>,
    /// Users and groups that files with settings name.
    users: Vec<&'a str>,
    /// The site of nginx before the application, which pyserve serves itself.
    site: Option<Site<'a>>,
    /// Entry scripts of the image's directory.
    scripts: Vec<&'a str>,
    /// The address of commands that name none, if there has to be one.
    address: Option<&'static str>,
    /// True if the shell reads the command lines, or may do so.
    is_in_shell: bool,
    /// True if the image runs nginx.
    runs_nginx: bool,
    placement: &'a Placement,
    around: &'a Context<'a>,
}

impl<'a> Conversion<'a> {
    /// Beside these subjects, in an image where files are so placed.
    pub fn new(
        all: &'a [Subject],
        read: &'a [Explained],
        placement: &'a Placement,
        around: &'a Context<'a>,
    ) -> Self {
        let files = all.iter().filter_map(|subject| match &subject.kind {
            Kind::Settings(reader, Source::File(name)) => {
                Some((*reader, &**name, placement.path_of(name)))
            }
            _ => None,
        });
        let listening = all.iter().zip(read).filter_map(|(subject, read)| {
            let layer = &read.reading.layer;
            let entry = layer.entry("bind")?;
            Some((&*subject.name, &entry.values[..]))
        });
        let scripts = all.iter().filter_map(|subject| match &subject.kind {
            Kind::Image(ImageFile::Script, text)
                if subject.name.starts_with(placement.directory()) =>
            {
                Some(&**text)
            }
            _ => None,
        });
        let scripts: Vec<_> = scripts.collect();
        let runs_nginx = placement.runs_nginx || scripts.iter().any(|text| names_nginx(text));
        Self {
            files: files.collect(),
            listening: listening.collect(),
            users: users_of(read),
            site: Site::of(all, read),
            scripts,
            runs_nginx: runs_nginx && placement.is_known,
            address: None,
            is_in_shell: false,
            placement,
            around,
        }
    }

    /// The flag with which pyserve reads a file of the image's directory, if it does.
    pub fn flag_of(&self, name: &str) -> Option<&'static str> {
        let mut files = self.files.iter();
        let found = files.find(|(_, file, _)| {
            *file == name
                || file
                    .strip_suffix(name)
                    .is_some_and(|start| start.ends_with('/'))
        });
        found.map(|(reader, _, _)| reader.flag)
    }

    /// True if a copy puts such a file at this path of the image.
    pub fn has(&self, path: &str, is_such: impl Fn(FileKind) -> bool) -> bool {
        let sources = self.placement.sources_of(path);
        let mut kinds = sources
            .iter()
            .filter_map(|name| super::kind(name, self.around.current_dir));
        kinds.any(is_such)
    }

    /// The path in the image of a file that is named as in its directory.
    pub fn path_of(&self, name: &str) -> Option<String> {
        let name = format!("{}{name}", self.placement.directory());
        self.placement.path_of(&name)
    }

    /// Gives this address to commands that name none.
    pub fn listen_at(&mut self, address: &'static str) {
        self.address = Some(address);
    }

    /// Lets command lines have what the shell replaces.
    pub fn in_shell(&mut self) {
        self.is_in_shell = true;
    }

    /// The text of an entry script of the image, by its name in the image.
    pub fn script_of(&self, name: &str) -> Option<String> {
        let own = name.trim_start_matches("./").trim_start_matches('/');
        let base = own.rsplit('/').next().unwrap_or(own);
        let names = [own, base].map(|name| format!("{}{name}", self.placement.directory()));
        let mut candidates = self.placement.sources_of(name);
        candidates.extend(names);
        candidates.iter().find_map(|name| {
            let path = self.around.current_dir.join(native::path(name));
            let bytes = (self.around.files.read)(&path, LONGEST_SCRIPT).ok()?;
            String::from_utf8(bytes).ok()
        })
    }

    /// True if the image sets a variable of such a name.
    pub fn sets(&self, is_such: impl Fn(&str) -> bool) -> bool {
        self.placement.sets(is_such)
    }

    /// True if a file with settings names this user or group.
    pub fn runs_as(&self, name: &str) -> bool {
        self.users.contains(&name)
    }

    /// True if a copy names this path of the image.
    pub fn names(&self, path: &str) -> bool {
        self.placement.names(path)
    }

    /// True if this command may find another program of the server's name before the link: in a virtual environment.
    pub fn hides_links(&self, words: &[String]) -> bool {
        let is_of_environment = |name: &str| matches!(name, "PATH" | "VIRTUAL_ENV");
        shell::runner(words).is_some()
            || self.placement.sets(is_of_environment)
            || self
                .scripts
                .iter()
                .any(|text| text.contains("bin/activate"))
    }

    /// Entry scripts of the image's directory.
    pub fn scripts(&self) -> &[&'a str] {
        &self.scripts
    }

    /// Takes the commands for those of a place without the site.
    pub fn forget_site(&mut self) {
        self.site = None;
    }

    /// True if the site has an address, so that no command needs one.
    pub fn site_listens(&self) -> bool {
        let site = self.site.as_ref();
        site.is_some_and(|site| site.layer.entry("bind").is_some())
    }

    /// The replacement of a command, by the words of the line.
    pub fn convert(&self, words: &[String]) -> Became {
        let at = shell::program(words);
        let Some(program) = words.get(at) else {
            return Became::Stays("");
        };
        let base = program.rsplit('/').next().unwrap_or(program);
        let arguments = &words[at + 1..];
        if let Some(reader) = readers::of_program(program) {
            return self.server(reader, words, at);
        }
        let names = |name: &str| arguments.iter().any(|word| word == name);
        match base {
            "supervisord" if names("-v") || names("--version") => {
                Became::Dropped("it shows a version")
            }
            "supervisord" => self.supervisor(arguments),
            "nginx" | "openresty" => self.nginx(),
            "service" | "systemctl" | "rc-service" if names("nginx") => self.nginx(),
            "service" | "systemctl" | "rc-service"
                if names("supervisor") || names("supervisord") =>
            {
                self.supervisor(&[])
            }
            "supervisorctl" => {
                Became::Dropped("`pyserve status`, `reload` and `stop` take its place")
            }
            "gunicorn" | "waitress-serve" | "chaussette" | "mod_wsgi-express" => {
                Became::Unsupported(format!(
                    "{base}: start pyserve with --app, --workers and --bind"
                ))
            }
            "uvicorn" | "daphne" | "hypercorn" => Became::Unsupported(format!(
                "{base} serves ASGI: keep it as a [[companion]], and forward to it with `upstream`"
            )),
            "flask" if names("run") => development(),
            _ if base.starts_with("python") && names("runserver") => development(),
            "honcho" | "foreman" | "hivemind" | "overmind" => {
                Became::Stays("the lines of the Procfile say what it starts")
            }
            "celery" | "cron" | "crond" | "redis-server" | "sshd" | "dramatiq" | "rq"
            | "huey_consumer" => {
                Became::Stays("it may also be a [[companion]], which pyserve watches and restarts")
            }
            _ if doubts::adds_options(words) => Became::Unsupported(
                "it gives options to the command of the image, which pyserve does not have: have the line start pyserve with the same settings"
                    .to_owned(),
            ),
            _ if changes_nginx(base, arguments) => Became::Unsupported(
                "it changes files of nginx, which is not in the image: have the site be a file of the image, and leave the line out"
                    .to_owned(),
            ),
            _ => match doubts::hidden_server(&words[at..]) {
                Some(server) => Became::Unsupported(format!(
                    "the line starts {server} in its own way: have it start pyserve with the same settings"
                )),
                None => Became::Stays(""),
            },
        }
    }

    /// A command line of a server, with its program at `at`: its files stay files, its options become flags.
    fn server(&self, reader: &'static Reader, words: &[String], at: usize) -> Became {
        let (program, arguments) = (&words[at], &words[at + 1..]);
        let (mut files, mut rest) = (reader.files_of)(arguments);
        let is_gunicorn = reader.flag == "--gunicorn";
        if is_gunicorn && files.is_empty() {
            // Its file is read beside the others, not for its values of this machine.
            rest.extend(["-c".to_owned(), String::new()]);
            files.extend(self.own_file());
        }
        match doubts::of_server(reader.flag, words, at, self.placement, !files.is_empty()) {
            Some(Doubt::Unsupported(advice)) => return Became::Unsupported(advice),
            Some(Doubt::Link) => return Became::Linked(program.clone(), self.proxy().pop()),
            None => {}
        }
        let (rest, variables) = without_variables(&rest);
        let reading = (reader.read)(&Source::Words(rest), &[], self.around);
        let wrong = reading.lines.iter().find(|line| {
            line.verdict.is_fatal() || matches!(line.verdict, Verdict::Unsupported(_))
        });
        if let Some(line) = wrong {
            return Became::Unsupported(with_variables(
                &format!("{}: {}", line.text, line.verdict.detail()),
                &variables,
            ));
        }
        let layer = &reading.layer;
        let mut words = self.proxy();
        // nginx may pass requests to the address of the command line, which is that of the
        // application only for the reader of this command line.
        let has_proxy = !words.is_empty() && layer.entry("bind").is_some();
        if has_proxy || !layer.locations.is_empty() || !layer.companions.is_empty() {
            return Became::Linked(program.clone(), words.pop());
        }
        for file in &files {
            words.extend([reader.flag.to_owned(), file.clone()]);
        }
        let implied: Vec<_> = reading.implied.iter().map(|(text, _)| text).collect();
        // Files that are named say the rest themselves.
        words.extend(flags(layer, |name, place, text| {
            let is_implied = implied.contains(&text);
            let is_of_site = self
                .site
                .as_ref()
                .is_some_and(|site| site.decides(name, is_implied));
            !is_of_site && (files.is_empty() || place == "command line" && !is_implied)
        }));
        // A file of uWSGI may name an environment itself.
        let is_named = ["venv", "python"]
            .iter()
            .any(|name| layer.entry(name).is_some());
        let prefix = supervisord::prefix_of(program);
        if let Some(prefix) =
            prefix.filter(|_| !is_named && (files.is_empty() || reader.flag == "--gunicorn"))
        {
            match prefix.contains("conda") {
                true => words.extend(["--python".to_owned(), format!("{prefix}/bin/python3")]),
                false => words.extend(["--venv".to_owned(), prefix.to_owned()]),
            }
        }
        let words = words.iter().map(|word| with_variables(word, &variables));
        let mut words: Vec<_> = words.collect();
        if is_gunicorn && self.is_in_shell && implies(&reading.implied, "workers") {
            let at = words.iter().position(|word| word == "--workers");
            if let Some(value) = at.and_then(|at| words.get_mut(at + 1)) {
                WORKERS.clone_into(value);
            }
        }
        // gunicorn without an address is for its own machine alone.
        let is_reachable = reader.flag == "--ini";
        let address = self.address.filter(|_| is_reachable);
        if let Some(address) = address.filter(|_| !self.listens(&words)) {
            words.extend(["--bind".to_owned(), address.to_owned()]);
        }
        Became::Pyserve(words)
    }

    /// The file of the image's directory that gunicorn reads without an option.
    fn own_file(&self) -> Option<String> {
        const NAME: &str = "gunicorn.conf.py";
        let name = format!("{}{NAME}", self.placement.directory());
        let is_file = super::kind(&name, self.around.current_dir).is_some_and(|kind| kind.is_file);
        is_file.then(|| NAME.to_owned())
    }

    /// True if these words of pyserve name an address, or a file that does.
    pub fn listens(&self, words: &[String]) -> bool {
        if self.site_listens() {
            return true;
        }
        let named = words.iter().zip(words.iter().skip(1));
        named.into_iter().any(|(flag, value)| match flag.as_str() {
            "--bind" => true,
            _ => self.files.iter().any(|(reader, name, path)| {
                let end = value.trim_start_matches(['.', '/']);
                let is_it = path.as_deref() == Some(value) || name.ends_with(end);
                let listens = self.listening.iter().any(|(file, _)| file == name);
                reader.flag == flag && is_it && listens
            }),
        })
    }

    /// The ports of the addresses of these words of pyserve, else of the site; `None` if there is one that is not known.
    pub fn ports(&self, words: &[String]) -> Option<Vec<u16>> {
        let named = words.iter().zip(words.iter().skip(1));
        let named = named.filter(|(flag, _)| *flag == "--bind");
        let mut addresses: Vec<&String> = named.map(|(_, address)| address).collect();
        if addresses.is_empty() {
            let names_file = words
                .iter()
                .zip(words.iter().skip(1))
                .find_map(|(_, value)| {
                    let mut files = self.files.iter();
                    files.find(|(_, name, path)| {
                        path.as_deref() == Some(value) || name.ends_with(&**value)
                    })
                });
            let file = names_file.map(|(_, name, _)| *name);
            let site = self.site.as_ref().map(|site| site.name);
            let mut listening = self.listening.iter();
            let found = listening.find(|(name, _)| Some(*name) == file || Some(*name) == site);
            addresses.extend(found.iter().flat_map(|(_, values)| values.iter()));
        }
        let ports = addresses
            .iter()
            .map(|address| address.rsplit(':').next()?.parse().ok());
        let ports: Option<Vec<u16>> = ports.collect();
        ports.filter(|ports| !ports.is_empty())
    }

    /// The verdict of a command that became this.
    pub fn verdict(&self, became: &Became) -> Verdict {
        match became {
            Became::Pyserve(words) => {
                let note = self.note(words);
                let words: Vec<_> = words.iter().map(|word| shell::quoted(word)).collect();
                Verdict::Honoured(format!("pyserve {}{note}", words.join(" ")))
            }
            Became::Linked(program, nginx) => {
                let nginx = nginx
                    .as_ref()
                    .map_or(String::new(), |file| format!(", with PYSERVE_NGINX={file}"));
                Verdict::Honoured(format!(
                    "the same command of pyserve, through the link `{}`{nginx}",
                    link(program)
                ))
            }
            Became::Dropped(why) => Verdict::NoEffect(format!("not needed: {why}")),
            Became::Stays("") => Verdict::Read("it stays".to_owned()),
            Became::Stays(note) => Verdict::Read(format!("it stays; {note}")),
            Became::Unsupported(advice) => Verdict::Unsupported(advice.clone()),
        }
    }

    /// The place of what these words do not say.
    fn note(&self, words: &[String]) -> String {
        let has = |flag: &str| words.iter().any(|word| word == flag);
        let has_proxy = has("--nginx") || has("--supervisord");
        let names_file = readers::READERS.iter().any(|reader| has(reader.flag));
        match &self.site {
            Some(site) if !has_proxy => format!(
                " (with the settings of {} as pyserve.toml: its address, limits and files)",
                site.name
            ),
            _ if has("--bind") || names_file => String::new(),
            _ => " (at $PORT, or 127.0.0.1:8000)".to_owned(),
        }
    }

    /// The place of nginx where it is all that starts.
    pub fn of_nginx_alone(&self) -> Became {
        match self.proxy() {
            words if words.is_empty() => self.nginx(),
            words => Became::Pyserve(words),
        }
    }

    /// nginx goes away, if its site is known.
    fn nginx(&self) -> Became {
        let files = self.files.iter();
        let mut sites = files
            .filter(|(reader, ..)| reader.flag == "--nginx")
            .peekable();
        if sites.peek().is_none() {
            return Became::Unsupported(
                "none of the files of nginx is here: explain them too, and give pyserve the site with --nginx"
                    .to_owned(),
            );
        }
        match !self.placement.is_known || sites.any(|(_, _, path)| path.is_some()) {
            true => Became::Dropped("pyserve serves HTTP and files itself"),
            false => Became::Unsupported(
                "no COPY line brings the file of nginx into this image: COPY it, and give it to pyserve with --nginx"
                    .to_owned(),
            ),
        }
    }

    /// supervisord's place: pyserve with all files that the image has.
    fn supervisor(&self, arguments: &[String]) -> Became {
        let named = arguments.iter().enumerate().find_map(|(index, word)| {
            match (word.as_str(), word.strip_prefix("--configuration=")) {
                ("-c" | "--configuration", _) => arguments.get(index + 1).cloned(),
                (_, Some(path)) => Some(path.to_owned()),
                _ => word
                    .strip_prefix("-c")
                    .filter(|path| path.starts_with('/'))
                    .map(str::to_owned),
            }
        });
        // Its own file names those of its programs.
        let own = self.files.iter().find_map(|(reader, name, path)| {
            let is_placed = path.is_some() || !self.placement.is_known;
            let path = path.clone().unwrap_or_else(|| (*name).to_owned());
            (reader.flag == "--supervisord" && is_placed).then_some(path)
        });
        if let Some(path) = named.or(own) {
            let path = match self.of_package(&path) {
                Ok(found) => found.unwrap_or(path),
                Err(advice) => return Became::Unsupported(advice),
            };
            return match self.lacks_site() {
                true => Became::Unsupported(format!(
                    "no file of nginx is copied to a place where pyserve looks for sites: COPY the site to /etc/nginx/conf.d/, and start `pyserve --supervisord {path}`"
                )),
                false => Became::Pyserve(vec!["--supervisord".to_owned(), path]),
            };
        }
        let mut words = self.proxy();
        for (reader, name, path) in &self.files {
            let is_application = reader.flag != "--nginx";
            if is_application && (path.is_some() || !self.placement.is_known) {
                let path = path.clone().unwrap_or_else(|| (*name).to_owned());
                words.extend([reader.flag.to_owned(), path]);
            }
        }
        match words.is_empty() {
            true => Became::Unsupported(
                "the file of supervisord is not here: explain it too, or start pyserve with the settings of its programs"
                    .to_owned(),
            ),
            false => Became::Pyserve(words),
        }
    }

    /// The one file that takes the place of a main file which no copy brings, but the package of supervisord, whose
    /// work is not needed; `None` for any other file.
    fn of_package(&self, main: &str) -> Result<Option<String>, String> {
        let is_brought = self.names(main) || self.has(main, |kind| kind.is_file);
        if !self.placement.is_known || is_brought || !is_main_of_supervisord(main) {
            return Ok(None);
        }
        let known = self.files.iter();
        let known = known.filter_map(|(reader, _, path)| {
            path.clone().filter(|_| reader.flag == "--supervisord")
        });
        let mut included: Vec<_> = self.placement.named().chain(known).collect();
        included.retain(|path| is_included(path, main));
        included.sort();
        included.dedup();
        match included.len() {
            1 => Ok(included.pop()),
            count => Err(format!(
                "no COPY line brings {main}, that of the package supervisor is left out, and {count} files are copied to where it includes them: COPY one file with all programs, and start `pyserve --supervisord FILE`"
            )),
        }
    }

    /// True if the image runs nginx, and none of its files is where the start of supervisord's programs finds it.
    fn lacks_site(&self) -> bool {
        let is_found = |path: &str| {
            path == NGINX_FILE
                || path.starts_with("/etc/nginx/sites-enabled/")
                || path.starts_with("/etc/nginx/conf.d/") && path.ends_with(".conf")
        };
        let files = self.files.iter();
        let mut sites = files.filter(|(reader, ..)| reader.flag == "--nginx");
        let is_there = sites.any(|(_, _, path)| path.as_deref().is_some_and(is_found));
        self.runs_nginx && !is_there
    }

    /// `--nginx FILE`, if the image runs nginx with a file that is known.
    fn proxy(&self) -> Vec<String> {
        let is_proxy = |reader: &Reader| reader.flag == "--nginx";
        let mut known: Vec<_> = self
            .files
            .iter()
            .filter(|(reader, ..)| is_proxy(reader))
            .collect();
        // The main file includes the others.
        known.sort_by_key(|(_, name, _)| !name.ends_with("nginx.conf"));
        let path = match self.placement.is_known && !self.runs_nginx {
            true => None,
            false => known
                .into_iter()
                .find_map(|(_, name, path)| match self.placement.is_known {
                    true => path.clone(),
                    false => Some((*name).to_owned()),
                }),
        };
        path.map_or(Vec::new(), |path| vec!["--nginx".to_owned(), path])
    }
}

/// True if a script starts nginx.
fn names_nginx(text: &str) -> bool {
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'));
    let mut words = lines.flat_map(str::split_whitespace);
    words.any(|word| {
        matches!(
            word.trim_matches([';', '"', '\'']),
            "nginx" | "/usr/sbin/nginx"
        )
    })
}

fn users_of(read: &[Explained]) -> Vec<&str> {
    let layers = read.iter().map(|read| &read.reading.layer);
    let entries = layers.flat_map(|layer| ["uid", "gid"].map(|name| layer.entry(name)));
    let values = entries.flatten().flat_map(|entry| &entry.values);
    values.map(String::as_str).collect()
}

/// True if something that is implied is about this setting.
fn implies(implied: &[(String, String)], name: &str) -> bool {
    let start = format!("{name} = ");
    implied.iter().any(|(text, _)| text.starts_with(&start))
}

/// True if a command changes files below /etc/nginx, so that it fails without nginx or is about the site.
fn changes_nginx(base: &str, arguments: &[String]) -> bool {
    let is_harmless = matches!(base, "rm" | "echo" | "ls" | "test" | "[" | "[[")
        && !arguments.iter().any(|word| word.starts_with('>'))
        || base == "mkdir"
            && arguments
                .iter()
                .any(|word| word == "-p" || word == "--parents");
    !is_harmless && arguments.iter().any(|word| word.contains("/etc/nginx/"))
}

/// The path of the link that takes a server's place.
pub fn linked(program: &str) -> String {
    match program.contains('/') {
        true => program.to_owned(),
        false => format!("/usr/local/bin/{program}"),
    }
}

/// The command that links a server's name, or its path, to pyserve.
pub fn link(program: &str) -> String {
    match program.contains('/') {
        true => format!("ln -sf /usr/local/bin/pyserve {program}"),
        false => format!("ln -sf pyserve /usr/local/bin/{program}"),
    }
}

fn development() -> Became {
    Became::Unsupported(
        "a development server: start pyserve, which finds the application, or `pyserve --dev`"
            .to_owned(),
    )
}

/// The flags that set what the command line says.
fn flags(layer: &Layer, is_wanted: impl Fn(&str, &str, &String) -> bool) -> Vec<String> {
    let mut words = Vec::new();
    for setting in settings::all() {
        let Some(entry) = layer.entry(setting.name) else {
            continue;
        };
        let SettingOrigin::Foreign { place, .. } = &entry.origin else {
            continue;
        };
        let text = equivalent::assignment(setting, &entry.values);
        if !is_wanted(setting.name, place, &text) {
            continue;
        }
        for value in &entry.values {
            let flag = format!("--{}", setting.flag());
            match value.starts_with('-') {
                // As a word of its own it would be an option.
                true => words.push(format!("{flag}={value}")),
                false => words.extend([flag, value.clone()]),
            }
        }
    }
    words
}

/// The words with a number in the place of each `$NAME` and `${NAME}`: readers know no shell.
fn without_variables(words: &[String]) -> (Vec<String>, Vec<String>) {
    let mut variables: Vec<String> = Vec::new();
    let mut number_of = |variable: &str| {
        let known = variables.iter().position(|known| known == variable);
        let index = known.unwrap_or_else(|| {
            variables.push(variable.to_owned());
            variables.len() - 1
        });
        (shell::VARIABLES.start + index).to_string()
    };
    let words = words.iter().map(|word| {
        let mut text = String::new();
        let mut rest = word.as_str();
        while let Some(at) = rest.find('$') {
            text.push_str(&rest[..at]);
            let behind = &rest[at + 1..];
            let length = match behind.strip_prefix('{') {
                Some(inside) => inside.find('}').map_or(0, |end| end + 2),
                None => behind
                    .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .unwrap_or(behind.len()),
            };
            match length {
                0 => text.push('$'),
                length => text.push_str(&number_of(&rest[at..=at + length])),
            }
            rest = &behind[length..];
        }
        text.push_str(rest);
        text
    });
    let words = words.collect();
    (words, variables)
}

/// The text with the variables again.
fn with_variables(text: &str, variables: &[String]) -> String {
    let numbered = variables.iter().enumerate();
    numbered.fold(text.to_owned(), |text, (index, variable)| {
        text.replace(&(shell::VARIABLES.start + index).to_string(), variable)
    })
}

/// True if the program is a server whose settings are read.
pub fn is_server(words: &[String]) -> bool {
    let program = words.get(shell::program(words));
    program.is_some_and(|program| readers::of_program(program).is_some())
}

/// The layer that a command gives as it stands, if it is that of a server.
pub fn layer_of(words: &[String], around: &Context<'_>) -> Option<Layer> {
    let at = shell::program(words);
    let reader = readers::of_program(words.get(at)?)?;
    let (_, rest) = (reader.files_of)(&words[at + 1..]);
    let (rest, _) = without_variables(&rest);
    Some((reader.read)(&Source::Words(rest), &[], around).layer)
}
