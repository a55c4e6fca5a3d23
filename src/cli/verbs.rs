//! The verbs of the command line: their arguments, their help, and which one was chosen.

use std::ffi::{OsStr, OsString};

use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::arguments::{self, argument};
use super::{AFTER_HELP, Shell, Verb, command};
use crate::config::settings::{self, Setting};
use crate::config::{native, values};
use crate::explain;
use crate::init;
use crate::manual::{self, Page};
use crate::project;
use crate::supervisor::control::protocol::MaintenanceOrder;
use crate::verbs::ControlCommand;

/// All verbs, in the order of the help.
pub(super) fn all() -> impl Iterator<Item = Command> {
    let server = server_verbs().into_iter().chain(project_verbs());
    let others = [explain_verb(), init_verb()].into_iter();
    server
        .chain(control_verbs())
        .chain(others)
        .chain(document_verbs())
}

/// The verb that these matches have.
///
/// # Errors
/// clap's error for a value that no verb has, and the help of a verb.
pub(super) fn chosen(matches: &ArgMatches) -> Result<Verb, clap::Error> {
    let Some((name, matches)) = matches.subcommand() else {
        return Ok(Verb::Serve);
    };
    let path = |id: &str| matches.get_one::<OsString>(id);
    let text = |id: &str| matches.get_one::<String>(id).map(String::as_str);
    Ok(match name {
        "check" => Verb::Check,
        "status" => Verb::Control(ControlCommand::Status {
            json: matches.get_flag(JSON),
        }),
        "health" => Verb::Control(ControlCommand::Health),
        "reload" => Verb::Control(ControlCommand::Reload),
        "scale" => {
            let workers = matches.get_one::<u32>(COUNT).copied();
            Verb::Control(ControlCommand::Scale(workers.unwrap_or_default()))
        }
        "maintenance" => Verb::Control(ControlCommand::Maintenance(maintenance_order(matches)?)),
        "stacks" => Verb::Control(ControlCommand::Stacks),
        "upgrade" => Verb::Control(ControlCommand::Upgrade {
            to: path(TO).map(|path| absolute(path)),
        }),
        "stop" => Verb::Control(ControlCommand::Stop),
        "explain" => {
            let subjects = matches.get_many::<String>(SUBJECT);
            Verb::Explain(explain::Request {
                subjects: subjects.into_iter().flatten().cloned().collect(),
                flags: arguments::flags(matches),
                json: matches.get_flag(JSON),
                write: matches.get_flag(WRITE),
            })
        }
        "init" => Verb::Init(init::Request {
            directory: path(DIRECTORY).map_or_else(|| ".".into(), Into::into),
            flags: arguments::flags(matches),
            dry_run: matches.get_flag(DRY_RUN),
        }),
        "man" => Verb::Man,
        "schema" => Verb::Schema,
        "completions" => {
            Verb::Completions(text(SHELL).and_then(Shell::named).unwrap_or(Shell::Bash))
        }
        "help" => Verb::Help(page(text(TOPIC))?),
        name => project_verb(name, matches),
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
pub(super) const TARGET: &[&str] = &["config", "chdir", "temp_dir", "control"];

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
