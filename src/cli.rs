//! The command line: generated from the table of settings, parsed into a layer of them.
//!
//! `pyserve [serve|check|status|..] [OPTIONS]`. The values are not interpreted here;
//! [`crate::config`] resolves them with the other sources. clap prints help, version and usage
//! errors, with exit codes 0 and 2.

mod arguments;
mod hints;
mod verbs;

use std::ffi::OsString;

use clap::Command;

use crate::config::layers::Layer;
use crate::config::settings;
use crate::explain;
use crate::init;
use crate::manual::Page;
use crate::project;
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
        command = arguments::shortened(command);
    }
    let matches = command
        .try_get_matches_from(arguments)
        .map_err(hints::with_hint)?;
    // Both levels accept flags: `pyserve --workers 2 check` is the same as `pyserve check --workers
    // 2`, and the matches of the verb contain all of them.
    let of_verb = matches
        .subcommand()
        .map_or(&matches, |(_, of_verb)| of_verb);
    Ok(Invocation {
        verb: verbs::chosen(&matches)?,
        flags: arguments::flags(of_verb),
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
        .subcommands(verbs::all())
        .args(settings::all().map(arguments::argument))
        .after_help(AFTER_HELP)
        .disable_help_subcommand(true)
        .max_term_width(100)
}

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
                let expected = verbs::TARGET.contains(&setting.name);
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
