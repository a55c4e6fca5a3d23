//! The man page and the shell completions, generated from the command line that `cli` makes of
//! the table of settings.

use std::io;

use clap_complete::aot::{Bash, Fish, Zsh, generate};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::cli::{self, Shell};
use crate::manual::TOPICS;

/// The script that a shell reads.
pub fn completions(shell: Shell) -> Vec<u8> {
    let (mut command, mut out) = (cli::command(), Vec::new());
    match shell {
        Shell::Bash => generate(Bash, &mut command, "pyserve", &mut out),
        Shell::Zsh => generate(Zsh, &mut command, "pyserve", &mut out),
        Shell::Fish => generate(Fish, &mut command, "pyserve", &mut out),
    }
    out
}

/// The man page, in roff.
///
/// # Errors
/// None in practice: a vector takes everything.
pub fn man_page() -> io::Result<Vec<u8>> {
    let command = cli::command();
    let verbs: Vec<_> = command
        .get_subcommands()
        .map(|verb| {
            let about = verb.get_about().map(ToString::to_string);
            (verb.get_name().to_owned(), about.unwrap_or_default())
        })
        .collect();
    let man = Man::new(command).section("1").manual("pyserve manual");
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    let verbs = verbs.iter().map(|(name, about)| (&**name, &**about));
    list("VERBS", verbs).to_writer(&mut out)?;
    man.render_options_section(&mut out)?;
    man.render_extra_section(&mut out)?;
    let topics = TOPICS.iter().map(|topic| (topic.name, topic.summary));
    list("TOPICS OF THE MANUAL", topics).to_writer(&mut out)?;
    let mut end = Roff::new();
    end.text([roman("pyserve help TOPIC prints one of them.")]);
    end.to_writer(&mut out)?;
    Ok(out)
}

fn list<'a>(heading: &str, items: impl Iterator<Item = (&'a str, &'a str)>) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [heading]);
    for (name, text) in items {
        roff.control("TP", []);
        roff.text([bold(name)]);
        roff.text([roman(text)]);
    }
    roff.control("PP", []);
    roff
}
