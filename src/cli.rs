//! The command line: generated from the table of settings, parsed into a layer of them.
//!
//! `pyserve [serve|check|status|..] [OPTIONS]`. The values are not interpreted here;
//! [`crate::config`] resolves them with the other sources. clap prints help, version and usage
//! errors, with exit codes 0 and 2.

use std::ffi::{OsStr, OsString};

use clap::builder::{OsStringValueParser, PossibleValuesParser, StyledStr, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::config::foreign::counterpart;
use crate::config::layers::{Layer, SettingOrigin};
use crate::config::settings::{self, Setting};
use crate::config::{native, suggest, values};
use crate::explain;
use crate::init;
use crate::manual::{self, Page};
use crate::project;
use crate::supervisor::control::protocol::MaintenanceOrder;
use crate::verbs::ControlCommand;

/// The parsed command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// The verb.
    pub verb: Verb,
    /// The settings given as flags.
    pub flags: Layer,
}

/// A verb of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// Run the server.
    Serve,
    /// Show the settings with their origins, and import the application.
    Check,
    /// Control a running server.
    Control(ControlCommand),
    /// Run a command of the project.
    Project(project::Request),
    /// Explain the files of other servers.
    Explain(explain::Request),
    /// Write settings and a Dockerfile for a directory.
    Init(init::Request),
    /// Show a page of the manual.
    Help(Page),
    /// Print the man page.
    Man,
    /// Print the completions of a shell.
    Completions(Shell),
    /// Print the JSON schema of `pyserve.toml`.
    Schema,
}

/// Parses the arguments; the first is the name of the program.
///
/// # Errors
/// clap's error, also for `--help` and `--version`; it prints itself and has the exit code.
pub fn parse<I, T>(arguments: I) -> Result<Invocation, clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let arguments = with_negative_values(arguments.into_iter().map(Into::into));
    let mut command = command();
    if arguments.iter().any(|argument| argument == "-h") {
        command = shortened(command);
    }
    let matches = command.try_get_matches_from(arguments).map_err(with_hint)?;
    // Both levels accept flags: `pyserve --workers 2 check` is the same as `pyserve check --workers
    // 2`, and the matches of the verb contain all of them.
    let (verb, matches) = match matches.subcommand() {
        Some(("check", matches)) => (Verb::Check, matches),
        Some(("status", matches)) => {
            let json = matches.get_flag(JSON);
            (Verb::Control(ControlCommand::Status { json }), matches)
        }
        Some(("health", matches)) => (Verb::Control(ControlCommand::Health), matches),
        Some(("reload", matches)) => (Verb::Control(ControlCommand::Reload), matches),
        Some(("scale", matches)) => {
            let workers = matches.get_one::<u32>(COUNT).copied().unwrap_or_default();
            (Verb::Control(ControlCommand::Scale(workers)), matches)
        }
        Some(("maintenance", matches)) => {
            let order = maintenance_order(matches)?;
            (Verb::Control(ControlCommand::Maintenance(order)), matches)
        }
        Some(("stacks", matches)) => (Verb::Control(ControlCommand::Stacks), matches),
        Some(("upgrade", matches)) => {
            let to = matches.get_one::<OsString>(TO).map(|path| absolute(path));
            (Verb::Control(ControlCommand::Upgrade { to }), matches)
        }
        Some(("stop", matches)) => (Verb::Control(ControlCommand::Stop), matches),
        Some(("explain", matches)) => {
            let subjects = matches.get_many::<String>(SUBJECT);
            let request = explain::Request {
                subjects: subjects.into_iter().flatten().cloned().collect(),
                flags: flags(matches),
                json: matches.get_flag(JSON),
                write: matches.get_flag(WRITE),
            };
            (Verb::Explain(request), matches)
        }
        Some(("init", matches)) => {
            let directory = matches.get_one::<OsString>(DIRECTORY);
            let request = init::Request {
                directory: directory.map_or_else(|| ".".into(), Into::into),
                flags: flags(matches),
                dry_run: matches.get_flag(DRY_RUN),
            };
            (Verb::Init(request), matches)
        }
        Some(("man", _)) => (Verb::Man, &matches),
        Some(("schema", _)) => (Verb::Schema, &matches),
        Some(("completions", shell)) => {
            let name = shell.get_one::<String>(SHELL).map(String::as_str);
            let shell = name.and_then(Shell::named).unwrap_or(Shell::Bash);
            (Verb::Completions(shell), &matches)
        }
        Some(("help", matches)) => {
            let word = matches.get_one::<String>(TOPIC).map(String::as_str);
            return Ok(Invocation {
                verb: Verb::Help(page(word)?),
                flags: Layer::default(),
            });
        }
        Some((name, matches)) => (project_verb(name, matches), matches),
        None => (Verb::Serve, &matches),
    };
    Ok(Invocation {
        verb,
        flags: flags(matches),
    })
}

/// The verb of this name that runs a command of the project; `serve` for all others.
fn project_verb(name: &str, matches: &ArgMatches) -> Verb {
    let Some(command) = project::Command::named(name) else {
        return Verb::Serve;
    };
    let words = matches.get_many::<OsString>(WORDS);
    Verb::Project(project::Request {
        command,
        words: words.into_iter().flatten().cloned().collect(),
    })
}

/// Joins `--workers -1` to `--workers=-1`: no flag begins with a digit, and the setting reports the
/// error in the value.
fn with_negative_values(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut all: Vec<OsString> = Vec::new();
    for argument in arguments {
        let bytes = argument.as_encoded_bytes();
        let is_negative =
            bytes.first() == Some(&b'-') && bytes.get(1).is_some_and(u8::is_ascii_digit);
        match all.last_mut().filter(|_| is_negative) {
            Some(flag) if is_bare_flag(flag) => {
                flag.push("=");
                flag.push(argument);
            }
            _ => all.push(argument),
        }
    }
    all
}

/// True for `--name` of a setting.
fn is_bare_flag(argument: &OsString) -> bool {
    let name = argument.to_str().and_then(|text| text.strip_prefix("--"));
    name.is_some_and(|name| settings::named(&name.replace('-', "_")).is_some())
}

/// The page for `pyserve help WORD`. The help of a verb is clap's own.
fn page(word: Option<&str>) -> Result<Page, clap::Error> {
    let Some(word) = word.filter(|word| *word != "help") else {
        return Ok(Page::Overview);
    };
    if command().find_subcommand(word).is_some() {
        return match command().try_get_matches_from(["pyserve", word, "--help"]) {
            Ok(_) => Ok(Page::Overview),
            Err(help) => Err(help),
        };
    }
    manual::find(word).map_err(|closest| {
        let hint = closest.map_or(String::new(), |closest| {
            format!("\n\n  tip: there is '{closest}'")
        });
        command().error(
            ErrorKind::InvalidValue,
            format!(
                "no topic, verb, option or message code '{word}'{hint}\n\nTopics:\n{}",
                manual::list()
            ),
        )
    })
}

/// The verbs, one line each, for the overview of the manual.
pub fn verbs() -> String {
    let line = |verb: &Command| {
        let about = verb.get_about().map(ToString::to_string);
        format!("  {:<16} {}\n", verb.get_name(), about.unwrap_or_default())
    };
    command().get_subcommands().map(line).collect()
}

/// The command line for clap.
pub fn command() -> Command {
    Command::new("pyserve")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Serves Django, Flask and other WSGI applications, and files from disk, over HTTP")
        .override_usage("pyserve [serve] [OPTIONS]\n       pyserve VERB [OPTIONS]")
        .subcommand_help_heading("Verbs")
        .subcommands(server_verbs())
        .subcommands(project_verbs())
        .subcommands(control_verbs())
        .subcommand(explain_verb())
        .subcommand(init_verb())
        .subcommands(document_verbs())
        .args(settings::all().map(argument))
        .after_help(AFTER_HELP)
        .disable_help_subcommand(true)
        .max_term_width(100)
}

/// The verbs that follow all settings.
fn server_verbs() -> [Command; 2] {
    let verb = |name: &'static str, about: &'static str| {
        Command::new(name).about(about).after_help(AFTER_HELP)
    };
    [
        verb("serve", "Run the server; the default without a verb"),
        verb(
            "check",
            "Show every setting with its origin, and import the application",
        ),
    ]
}

/// The verbs that run a command of the project in the environment of the application.
fn project_verbs() -> [Command; 4] {
    project::Command::ALL.map(|(name, _, about)| {
        let hidden = settings::all().map(|setting| argument(setting).hide(true));
        let words = Arg::new(WORDS)
            .value_name("ARGUMENTS")
            .help("Passed to the command as they stand")
            .value_parser(OsStringValueParser::new())
            .num_args(0..)
            .trailing_var_arg(true)
            .allow_hyphen_values(true);
        Command::new(name)
            .about(about)
            .args(hidden)
            .arg(words)
            .after_help(PROJECT_HELP)
    })
}

/// The verbs for a running server.
fn control_verbs() -> [Command; 8] {
    let control_verb = |name: &'static str, about: &'static str| {
        // Those that are not hidden come with those of the command above.
        let used = |setting: &&Setting| {
            TARGET.contains(&setting.name) || (name == "health" && setting.name == "admin")
        };
        let hidden = settings::all().filter(|setting| !used(setting));
        let codes = match name {
            "health" => HEALTH_CODES,
            _ => CONTROL_CODES,
        };
        Command::new(name)
            .about(about)
            .args(hidden.map(|setting| argument(setting).hide(true)))
            .after_help(format!("{CONTROL_HELP}\n{codes}"))
    };
    [
        control_verb(
            "status",
            "Show the workers of a running server and their requests",
        )
        .arg(
            Arg::new(JSON)
                .long(JSON)
                .help("As JSON, with all details")
                .action(ArgAction::SetTrue),
        ),
        control_verb(
            "health",
            "Exit with 0 if a running server serves requests, otherwise with 1",
        ),
        control_verb(
            "reload",
            "Load code and settings of a running server again, and wait for the outcome",
        ),
        control_verb(
            "scale",
            "Set the number of workers of each application of a running server",
        )
        .arg(
            Arg::new(COUNT)
                .value_name("N")
                .help("The number; a reload keeps it unless the setting has changed")
                .value_parser(clap::value_parser!(u32).range(1..))
                .required(true),
        ),
        maintenance_verb(control_verb(
            "maintenance",
            "Answer all requests of a running server with 503 and a page, or end that",
        )),
        control_verb(
            "stacks",
            "Show the Python stacks of all worker threads of a running server",
        ),
        control_verb(
            "upgrade",
            "Replace the binary of a running server without losing a request",
        )
        .arg(
            Arg::new(TO)
                .long(TO)
                .value_name("FILE")
                .help("The new binary; by default the file at the path of the running one")
                .value_parser(OsStringValueParser::new()),
        ),
        control_verb(
            "stop",
            "Stop a running server gracefully, and wait for its end",
        ),
    ]
}

/// The verb that reads the files of other servers.
fn explain_verb() -> Command {
    let hidden = settings::all().map(|setting| argument(setting).hide(true));
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .help(help)
            .action(ArgAction::SetTrue)
    };
    Command::new("explain")
        .about("Explain files of uWSGI, nginx, gunicorn, supervisord and images line by line")
        .override_usage("pyserve explain [OPTIONS] PATH...")
        .args(hidden)
        .arg(
            Arg::new(SUBJECT)
                .value_name("PATH")
                .help("A file, a directory, or a command line in quotes: \"uwsgi --http :8000 app.ini\"")
                .value_parser(OsStringValueParser::new().map(|value| native::text(&value)))
                .action(ArgAction::Append)
                .required(true),
        )
        .arg(switch(JSON, "Print JSON"))
        .arg(switch(WRITE, "Write pyserve.toml into the current directory, unless there is one"))
        .after_help(EXPLAIN_CODES)
}

/// The verb that writes the first files of a project.
fn init_verb() -> Command {
    let hidden = settings::all().map(|setting| argument(setting).hide(true));
    Command::new("init")
        .about("Write a commented pyserve.toml and a Dockerfile for the project in a directory")
        .override_usage("pyserve init [OPTIONS] [DIR]")
        .args(hidden)
        .arg(
            Arg::new(DIRECTORY)
                .value_name("DIR")
                .help("The directory [default: the current one]")
                .value_parser(OsStringValueParser::new()),
        )
        .arg(
            Arg::new(DRY_RUN)
                .long(DRY_RUN)
                .help("Print the files, and write none")
                .action(ArgAction::SetTrue),
        )
        .after_help(INIT_HELP)
}

fn maintenance_verb(verb: Command) -> Command {
    let option = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    verb.arg(
        Arg::new(SWITCH)
            .value_name("on|off|status")
            .help("Turn it on, turn it off, or show it")
            .value_parser(PossibleValuesParser::new(["on", "off", "status"]))
            .hide_possible_values(true)
            .required(true),
    )
    .arg(
        option(
            PAGE,
            "FILE",
            "With `on`: the page (.html, .txt or .json), read once",
        )
        .value_parser(OsStringValueParser::new()),
    )
    .arg(
        option(
            RETRY_AFTER,
            "TIME",
            "With `on`: when clients may ask again (Retry-After)",
        )
        .default_value("300"),
    )
    .arg(
        option(
            ALLOW,
            "NETWORK",
            "With `on`: clients that are served, as in `10.0.0.0/8,::1`; repeatable",
        )
        .action(ArgAction::Append)
        .value_delimiter(','),
    )
}

/// The order of `pyserve maintenance`.
fn maintenance_order(matches: &ArgMatches) -> Result<MaintenanceOrder, clap::Error> {
    let text = |id: &str| matches.get_one::<String>(id).map(String::as_str);
    match text(SWITCH) {
        Some("off") => return Ok(MaintenanceOrder::Off),
        Some("status") => return Ok(MaintenanceOrder::Status),
        _ => {}
    }
    let retry_after =
        values::duration(text(RETRY_AFTER).unwrap_or_default()).map_err(|invalid| {
            let text = format!("--{RETRY_AFTER}: {} ({})", invalid.problem, invalid.remedy);
            command().error(ErrorKind::InvalidValue, text)
        })?;
    let page = matches.get_one::<OsString>(PAGE).map(|page| absolute(page));
    let allow = matches.get_many::<String>(ALLOW).unwrap_or_default();
    Ok(MaintenanceOrder::On {
        page,
        retry_after: retry_after.as_secs().max(1),
        allow: allow.cloned().collect(),
    })
}

/// A path for the server, which has another current directory.
fn absolute(path: &OsStr) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
    native::text(path.as_os_str())
}

/// The verbs that print the manual and what is made of it.
fn document_verbs() -> [Command; 4] {
    let printing = |name: &'static str, about: &'static str| {
        let hidden = settings::all().map(|setting| argument(setting).hide(true));
        Command::new(name).about(about).args(hidden)
    };
    [
        printing(
            "help",
            "Show a topic of the manual, an option, or a message code",
        )
        .override_usage("pyserve help [VERB|TOPIC|OPTION|CODE]")
        .arg(
            Arg::new(TOPIC)
                .value_name("TOPIC")
                .help("One of the topics below, a verb, an option, or a code such as PS-101")
                .allow_hyphen_values(true),
        )
        .after_help(format!("Topics:\n{}", manual::list())),
        printing("man", "Print the man page: pyserve man | man -l -"),
        printing("schema", "Print the JSON schema of pyserve.toml"),
        printing("completions", "Print completions for a shell").arg(
            Arg::new(SHELL)
                .value_name("bash|zsh|fish")
                .help("The shell: source <(pyserve completions bash)")
                .value_parser(PossibleValuesParser::new(Shell::NAMES))
                .hide_possible_values(true)
                .required(true),
        ),
    ]
}

/// The id of `--json`.
const JSON: &str = "json";
/// The id of `--write`.
const WRITE: &str = "write";
/// The id of the paths of `pyserve explain`.
const SUBJECT: &str = "path";
/// The ids of the arguments of `pyserve init`.
const DIRECTORY: &str = "directory";
const DRY_RUN: &str = "dry-run";
/// The id of the shell of `pyserve completions`.
const SHELL: &str = "shell";
/// The id of the subject of `pyserve help`.
const TOPIC: &str = "topic";
/// The ids of the arguments of `pyserve maintenance`.
const SWITCH: &str = "switch";
const PAGE: &str = "page";
const RETRY_AFTER: &str = "retry-after";
const ALLOW: &str = "allow";
/// The id of the arguments of a command of the project.
const WORDS: &str = "arguments";
/// The id of the new binary of `pyserve upgrade`.
const TO: &str = "to";
/// The id of the number of workers.
const COUNT: &str = "count";

/// The settings that locate a running server ([`crate::config::load_reach`]).
const TARGET: &[&str] = &["config", "chdir", "temp_dir", "control"];

const PROJECT_HELP: &str = "\
The command runs in the directory of the application, with its interpreter, its variables and the user of the
server. All options of `pyserve serve` are accepted before the arguments. Lines `release:` and `test:` of a Procfile
take the place of the commands of deploy and test.

Exit codes:
  that of the command; 78 invalid settings, 128+n ended by signal n";

const CONTROL_HELP: &str = "\
The server is found by its settings, on the command line, in the environment and in
pyserve.toml; in its own directory no option is needed. All other options of `pyserve serve`
are accepted and ignored, so that the server's own command line finds it.
";

const CONTROL_CODES: &str = "\
Exit codes:
  0  done
  1  the server refused or failed; the reason is on stderr
  2  wrong usage
 69  no server, or several that match
 78  invalid settings";

const HEALTH_CODES: &str = "\
Exit codes:
  0  requests are served
  1  they are not, or there is no server; the reason is on stderr
  2  wrong usage
 78  invalid settings";

const EXPLAIN_CODES: &str = "\
Secrets are not printed; the file of --write has them.

Exit codes:
  0  every line is honoured, already so, or without effect
  1  a line is not supported, dangerous, or unknown
  2  a line or file cannot be read, or wrong usage";

const INIT_HELP: &str = "\
Files that exist are kept. Options of `pyserve serve` become lines of pyserve.toml.

Exit codes:
  0  a file was written, or all were printed
  1  all files exist, or one cannot be written
  2  wrong usage
 78  no application was found, or several";

const AFTER_SHORT_HELP: &str = "\
All options: pyserve --help. The manual: pyserve help.
Each option is also a variable, PYSERVE_MAX_BODY=1G, and a line of pyserve.toml, max_body = \"1G\".";

const AFTER_HELP: &str = "\
Every option can be set in three places: --max-body 1G on the command line,
PYSERVE_MAX_BODY=1G in the environment, max_body = \"1G\" in pyserve.toml. The command line
takes precedence over the environment, the environment over the file. A repeatable setting
takes several values: in a variable with commas or spaces between them, in the file as an
array. TIME is in seconds, or 500ms, 30s, 2m, 1h. Relative paths are relative to the chdir.
`pyserve help` lists the topics of the manual.

Examples:
  pyserve                                        the application in this directory
  pyserve --app hello.wsgi --bind 8000           a file, on every interface
  pyserve --chdir site --app mysite.wsgi         a Django project
  pyserve --app app:create_app() --workers 4     a Flask factory, in four processes
  pyserve --static /=public                      files only, no Python
  pyserve check --app mysite.wsgi                show settings, import the application
  pyserve status                                 workers of the server in this directory

Exit codes:
  0  stopped cleanly          4  the application cannot be imported
  2  wrong usage             69  cannot bind an address
  3  workers keep dying      78  invalid settings
  5  before_start failed, or an essential companion ended
  128+n  ended by signal n
status, reload, scale, stacks, upgrade, stop: 1 the server refused or failed, 69 no server;
health: 1 for both.";

/// Verbs that the short help omits.
const RARE_VERBS: [&str; 5] = ["completions", "manage", "man", "schema", "stacks"];

/// The command line for the help of `-h`: one screen, without headings. clap's own short help would
/// print each option over several lines.
fn shortened(command: Command) -> Command {
    let command = command.mut_args(|argument| {
        match settings::named(argument.get_id().as_str()).map(Setting::short_help) {
            Some(Some(help)) => argument.help(help).help_heading(None),
            Some(None) => argument.hide(true),
            None => argument,
        }
    });
    // In `--help` all the same.
    let command = RARE_VERBS.iter().fold(command, |command, verb| {
        command.mut_subcommand(verb, |verb| verb.hide(true))
    });
    let shorter = |verb: Command| verb.after_help(AFTER_SHORT_HELP);
    let command = shorter(command)
        .mut_subcommand("serve", shorter)
        .mut_subcommand("check", shorter);
    // Verbs that only print a document are in the long help.
    let printing = ["man", "schema", "completions"].into_iter();
    printing.fold(command, |command, name| {
        command.mut_subcommand(name, |verb| verb.hide(true))
    })
}

fn argument(setting: &'static Setting) -> Arg {
    let argument = Arg::new(setting.name)
        .long(setting.flag())
        .help(setting.full_help())
        .help_heading(setting.heading)
        .global(true);
    if setting.is_switch() {
        // `--dev=no` overrides `PYSERVE_DEV=yes`.
        return argument
            .value_name("yes|no")
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("yes");
    }
    let action = if setting.repeatable {
        ArgAction::Append
    } else {
        ArgAction::Set
    };
    argument
        .value_name(setting.value_name)
        .value_parser(OsStringValueParser::new().map(|value| native::text(&value)))
        .action(action)
}

fn flags(matches: &ArgMatches) -> Layer {
    let mut layer = Layer::default();
    for setting in settings::all() {
        if matches.value_source(setting.name) != Some(ValueSource::CommandLine) {
            continue;
        }
        let values: Vec<String> = matches
            .get_many::<String>(setting.name)
            .map(|values| values.cloned().collect())
            .unwrap_or_default();
        layer.insert(setting, values, SettingOrigin::Flag(setting.flag()));
    }
    layer
}

/// True for `hello.wsgi` and `site/app.py`, which are no misspelt verbs.
fn is_file_name(word: &str) -> bool {
    word.contains(['.', '/', ':'])
}

/// Adds a hint for common guesses: `pyserve hello.wsgi`, `runserver`, `-w 4`.
fn with_hint(mut error: clap::Error) -> clap::Error {
    let stray = match error.kind() {
        ErrorKind::InvalidSubcommand => error.get(ContextKind::InvalidSubcommand),
        ErrorKind::UnknownArgument => error.get(ContextKind::InvalidArg),
        _ => None,
    };
    let Some(ContextValue::String(stray)) = stray else {
        return error;
    };
    let hint = if let Some(option) = stray.strip_prefix('-') {
        let name = option.trim_start_matches('-');
        let name = name.split('=').next().unwrap_or(name);
        match counterpart(name) {
            Some(ours) => ours.to_owned(),
            None => return error,
        }
    } else if suggest::begins_with_dash(stray) {
        let name = stray.trim_start_matches(suggest::is_dash);
        format!("an option begins with two hyphens, as in '--{name}'")
    } else if error.get(ContextKind::SuggestedSubcommand).is_some() && !is_file_name(stray) {
        return error;
    } else if ["run", "start", "runserver"].contains(&&**stray) {
        "the server starts without a verb, or with 'serve'".to_owned()
    } else if is_address(stray) {
        format!("an address is given as '--bind {stray}'")
    } else {
        format!("an application is given as '--app {stray}'")
    };
    for nearest in [
        ContextKind::SuggestedArg,
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedValue,
    ] {
        error.remove(nearest);
    }
    error.insert(
        ContextKind::Suggested,
        ContextValue::StyledStrs(vec![StyledStr::from(hint)]),
    );
    error
}

/// `8000`, `:8000`, `0.0.0.0:8000`, as Django's `runserver` and others take it.
fn is_address(text: &str) -> bool {
    let port = text.rsplit(':').next().unwrap_or(text);
    !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
}

/// A shell with completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    /// GNU bash.
    Bash,
    /// zsh.
    Zsh,
    /// fish.
    Fish,
}

impl Shell {
    /// Their names on the command line.
    pub const NAMES: [&str; 3] = ["bash", "zsh", "fish"];

    /// The shell of this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "bash" => Some(Self::Bash),
            "zsh" => Some(Self::Zsh),
            "fish" => Some(Self::Fish),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Invocation, clap::Error> {
        parse(["pyserve"].iter().chain(arguments))
    }

    #[test]
    fn clap_finds_nothing_wrong_with_the_table() {
        command().debug_assert();
    }

    #[test]
    fn flags_become_settings_on_either_side_of_the_verb() {
        let check = |arguments: &[&str], verb: Verb, name: &str, expected: &str| {
            let invocation = read(arguments).unwrap();
            assert_eq!(invocation.verb, verb, "{arguments:?}");
            let entry = invocation.flags.entry(name).unwrap();
            assert_eq!(entry.values.join("|"), expected, "{arguments:?}");
        };
        check(&["--workers", "2"], Verb::Serve, "workers", "2");
        check(&["--workers=2", "serve"], Verb::Serve, "workers", "2");
        check(&["serve", "--workers", "2"], Verb::Serve, "workers", "2");
        check(&["--workers", "2", "check"], Verb::Check, "workers", "2");
        check(&["--bind", "1", "--bind", "2"], Verb::Serve, "bind", "1|2");
        // The setting reports the error.
        check(&["--workers", "-1"], Verb::Serve, "workers", "-1");
        check(
            &["check", "--max-body", "-5M"],
            Verb::Check,
            "max_body",
            "-5M",
        );
        check(&["--uid=-1"], Verb::Serve, "uid", "-1");
        check(&["--workers", "2", "--dev"], Verb::Serve, "workers", "2");
        check(
            &["check", "--max-body", "1G"],
            Verb::Check,
            "max_body",
            "1G",
        );
        check(&["--dev"], Verb::Serve, "dev", "yes");
        check(&["--dev=no"], Verb::Serve, "dev", "no");
        check(&["--dev", "check"], Verb::Check, "dev", "yes");
        let status = Verb::Control(ControlCommand::Status { json: true });
        check(&["status", "--json", "--dev"], status, "dev", "yes");
        let scale = Verb::Control(ControlCommand::Scale(3));
        check(&["scale", "3", "--dev"], scale, "dev", "yes");
        let nothing = read(&[]).unwrap();
        assert_eq!(
            nothing,
            Invocation {
                verb: Verb::Serve,
                flags: Layer::default()
            }
        );
        assert_eq!(
            read(&["--max-body", "1"])
                .unwrap()
                .flags
                .entry("max_body")
                .unwrap()
                .origin
                .to_string(),
            "--max-body"
        );
    }

    #[test]
    fn usage_errors_get_a_suggestion() {
        let check = |arguments: &[&str], expected: &str| {
            let error = read(arguments).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{arguments:?}");
            let text = error.to_string();
            assert!(text.contains(expected), "{arguments:?}: {text}");
        };
        check(&["--wrokers", "2"], "'--workers'");
        check(&["--max_body", "2"], "'--max-body'");
        check(&["chek"], "'check'");
        check(&["hello.wsgi"], "--app hello.wsgi");
        check(&["serve", "hello.wsgi"], "--app hello.wsgi");
        for (arguments, expected) in [
            (&["-w", "4"][..], "'--workers N'"),
            (&["-b", ":8000"], "'--bind ADDR'"),
            (&["-p", "4"], "'--workers N'"),
            (&["serve", "-w4"], "'--workers N'"),
            (&["--processes", "4"], "'--workers N'"),
            (&["--http=:80"], "'--bind ADDR'"),
            (&["--wsgi-file", "x.py"], "'--app MODULE"),
            (&["--module", "x"], "'--app MODULE"),
            (&["--error-logfile", "x"], "standard error"),
            (&["--reload"], "'--dev'"),
            (&["--harakiri", "3"], "'--request-timeout TIME'"),
            (&["check", "--master"], "omit it"),
            (&["runserver"], "'serve'"),
            (&["0.0.0.0:8000"], "'--bind 0.0.0.0:8000'"),
            (&["8000"], "'--bind 8000'"),
        ] {
            check(arguments, expected);
        }
        check(&["--workers"], "a value is required");
        check(
            &["--workers", "1", "--workers", "2"],
            "cannot be used multiple times",
        );
    }

    #[test]
    fn the_help_of_a_verb_shows_its_options_and_all_others_are_accepted() {
        for verb in ["status", "health", "reload", "scale", "stacks", "stop"] {
            let help = read(&[verb, "--help"]).unwrap_err().to_string();
            let shown = |flag: &str| help.contains(&format!("--{flag} "));
            for setting in settings::all() {
                let expected = TARGET.contains(&setting.name);
                let expected = expected || (verb == "health" && setting.name == "admin");
                assert_eq!(shown(&setting.flag()), expected, "{verb}: {}", setting.name);
            }
            assert!(help.contains("Exit codes:"), "{help}");
            assert!(help.lines().count() < 60, "{help}");
            for arguments in [
                &["--workers", "2", "--control", "/c", verb, "3"][..],
                &[verb, "3", "--control", "/c", "--workers", "2"][..],
            ] {
                let arguments = arguments.iter().copied();
                let arguments: Vec<_> =
                    arguments.filter(|a| verb == "scale" || *a != "3").collect();
                let flags = read(&arguments).unwrap().flags;
                assert_eq!(
                    flags.entry("control").unwrap().values,
                    ["/c"],
                    "{arguments:?}"
                );
                assert_eq!(
                    flags.entry("workers").unwrap().values,
                    ["2"],
                    "{arguments:?}"
                );
            }
        }
        let help = read(&["check", "--help"]).unwrap_err().to_string();
        assert!(help.contains("--workers "));
    }

    #[test]
    fn the_short_help_is_one_screen_of_twenty_options() {
        for arguments in [&["-h"][..], &["check", "-h"], &["--workers", "2", "-h"]] {
            let help = read(arguments).unwrap_err().to_string();
            let options = help.lines().filter(|line| line.starts_with("      --"));
            assert_eq!(options.count(), 20, "{help}");
            assert!(help.lines().count() <= 48, "{help}");
            assert!(help.lines().all(|line| line.len() <= 100), "{help}");
            assert!(help.contains("pyserve --help"), "{help}");
        }
    }

    #[test]
    fn help_shows_every_setting_and_version_the_version() {
        let help = read(&["--help"]).unwrap_err();
        assert_eq!(help.exit_code(), 0);
        let help = help.to_string();
        for setting in settings::all() {
            assert!(
                help.contains(&format!("--{}", setting.flag())),
                "{}",
                setting.name
            );
        }
        assert!(help.contains("Exit codes:"));
        let version = read(&["--version"]).unwrap_err().to_string();
        assert_eq!(version, format!("pyserve {}\n", env!("CARGO_PKG_VERSION")));
    }
}
