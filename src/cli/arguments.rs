//! The settings as arguments of clap, their values in its matches, and the short help.

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::config::layers::{Layer, SettingOrigin};
use crate::config::native;
use crate::config::settings::{self, Setting};

/// The argument of a setting.
pub(super) fn argument(setting: &'static Setting) -> Arg {
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

/// The settings that were given as flags.
pub(super) fn flags(matches: &ArgMatches) -> Layer {
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

const AFTER_SHORT_HELP: &str = "\
All options: pyserve --help. The manual: pyserve help.
Each option is also a variable, PYSERVE_MAX_BODY=1G, and a line of pyserve.toml, max_body = \"1G\".";

/// Verbs that the short help omits.
const RARE_VERBS: [&str; 5] = ["completions", "manage", "man", "schema", "stacks"];

/// The command line for the help of `-h`: one screen, without headings. clap's own short help would
/// print each option over several lines.
pub(super) fn shortened(command: Command) -> Command {
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
