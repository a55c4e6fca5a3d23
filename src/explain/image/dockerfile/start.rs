//! The start of an image: its entry point and its command, which may make one command line.

use crate::config::foreign::Verdict;
use crate::config::foreign::shell;
use crate::explain::image::commands::{Became, Conversion};
use crate::explain::image::instructions::Instruction;
use crate::explain::image::{base, script};

/// The start of the last stage.
pub struct Start<'a> {
    conversion: &'a Conversion<'a>,
    /// The replacement of entry point and command, if they make one command line of a server.
    whole: Option<Became>,
    /// What entry point or command becomes, if either starts a server by itself.
    became: Option<Became>,
    has_command: bool,
    /// True if the base image starts its servers, and nothing else is said.
    pub is_inherited: bool,
    /// The port that the image has without an address: that of EXPOSE.
    port: Option<String>,
}

impl<'a> Start<'a> {
    /// The start of these instructions, those of the last stage.
    pub fn of(own: &[Instruction<'_>], conversion: &'a Conversion<'a>) -> Self {
        let last = |keyword: &str| own.iter().rfind(|one| one.keyword == keyword);
        let (entry, command) = (last("ENTRYPOINT"), last("CMD"));
        let words = |found: Option<&Instruction<'_>>| found.and_then(Instruction::exec_form);
        let is_server =
            |words: &Vec<String>| !matches!(conversion.convert(words), Became::Stays(_));
        let whole = words(entry).filter(is_server).map(|mut whole| {
            whole.extend(words(command).unwrap_or_default());
            conversion.convert(&whole)
        });
        let base = own.first().filter(|one| one.keyword == "FROM");
        let is_inherited =
            base.is_some_and(|base| base::starts_itself(&base.arguments)) && !names_command(own);
        let alone = || match words(command) {
            Some(words) => match shell::script(&words) {
                Some(at) => Some(script::converted(&words[at], conversion)?.became),
                None => Some(conversion.convert(&words)),
            },
            None => Some(script::converted(&command?.arguments, conversion)?.became),
        };
        let became = whole.clone().or_else(alone);
        let needs_port = match &became {
            Some(Became::Pyserve(words)) => !conversion.listens(words),
            // A script of the image's directory starts the server.
            None | Some(Became::Stays(_)) if entry.or(command).is_some() => {
                let mut scripts = conversion.scripts().iter();
                scripts.any(|text| script::needs_port(text, conversion))
            }
            _ => false,
        };
        let port = (needs_port && !sets_port(own)).then(|| exposed(last("EXPOSE")));
        Self {
            conversion,
            whole,
            became,
            has_command: command.is_some(),
            is_inherited,
            port,
        }
    }

    /// The words of the command of pyserve that starts the image, or the file of nginx beside a linked one.
    pub fn words(&self) -> Option<Vec<String>> {
        match self.became.as_ref()? {
            Became::Pyserve(words) => Some(words.clone()),
            _ => None,
        }
    }

    /// Lines that the image needs behind its base.
    pub fn lines_behind_base(&self) -> Option<String> {
        self.port.as_ref().map(|port| format!("ENV PORT={port}"))
    }

    /// The verdict of `CMD` or `ENTRYPOINT`, and its new lines.
    pub fn verdict(&self, instruction: &Instruction<'_>) -> (Verdict, Option<Vec<String>>) {
        let keyword = &instruction.keyword;
        if let Some(whole) = &self.whole {
            let is_entry = keyword == "ENTRYPOINT";
            let after = match whole {
                Became::Pyserve(words) => match (is_entry, self.has_command) {
                    (true, true) => format!("ENTRYPOINT {}", json(&[])),
                    (true, false) => format!("ENTRYPOINT {}", json(words)),
                    (false, _) => format!("CMD {}", array(words.iter().map(String::as_str))),
                },
                _ => {
                    return (
                        self.conversion.verdict(whole),
                        self.linked(whole, instruction),
                    );
                }
            };
            return (self.conversion.verdict(whole), Some(vec![after]));
        }
        let Some(words) = instruction.exec_form() else {
            return self.shell_form(instruction);
        };
        if words.first().is_some_and(|word| word.ends_with(".sh")) {
            let became = Became::Stays("the script has verdicts of its own");
            return (self.conversion.verdict(&became), None);
        }
        if let Some(at) = shell::script(&words) {
            return self.inner_script(instruction, words, at);
        }
        let became = self.conversion.convert(&words);
        let after = match &became {
            Became::Pyserve(words) => Some(vec![format!("{keyword} {}", json(words))]),
            Became::Dropped(_) => Some(vec![format!("{keyword} {}", json(&[]))]),
            _ => self.linked(&became, instruction),
        };
        (self.conversion.verdict(&became), after)
    }

    /// `["sh", "-c", SCRIPT]`.
    fn inner_script(
        &self,
        instruction: &Instruction<'_>,
        mut words: Vec<String>,
        at: usize,
    ) -> (Verdict, Option<Vec<String>>) {
        let Some(converted) = script::converted(&words[at], self.conversion) else {
            return (Verdict::Wrong("a quote is not closed".to_owned()), None);
        };
        words[at] = script::executed(&converted.text);
        let after = match &converted.became {
            Became::Pyserve(_) => {
                let words = array(words.iter().map(String::as_str));
                Some(vec![format!("{} {words}", instruction.keyword)])
            }
            became => self.linked(became, instruction),
        };
        (self.conversion.verdict(&converted.became), after)
    }

    /// The lines of a command that stays, through a link.
    fn linked(&self, became: &Became, instruction: &Instruction<'_>) -> Option<Vec<String>> {
        let Became::Linked(program, nginx) = became else {
            return None;
        };
        let mut after = vec![format!("RUN ln -s pyserve /usr/local/bin/{program}")];
        after.extend(
            nginx
                .as_ref()
                .map(|file| format!("ENV PYSERVE_NGINX={file}")),
        );
        after.extend(instruction.lines.iter().map(|line| (*line).to_owned()));
        Some(after)
    }

    fn shell_form(&self, instruction: &Instruction<'_>) -> (Verdict, Option<Vec<String>>) {
        let Some(converted) = script::converted(&instruction.arguments, self.conversion) else {
            return (Verdict::Wrong("a quote is not closed".to_owned()), None);
        };
        let text = script::executed(&converted.text);
        let after = match &converted.became {
            Became::Pyserve(_) => Some(vec![format!("{} {text}", instruction.keyword)]),
            became => self.linked(became, instruction),
        };
        (self.conversion.verdict(&converted.became), after)
    }
}

/// True if these instructions, those of one stage, set PORT.
pub fn sets_port(own: &[Instruction<'_>]) -> bool {
    let mut variables = own.iter().filter(|one| one.keyword == "ENV");
    variables.any(|one| {
        let words = one.words();
        let is_pair = words.first().is_some_and(|word| word.contains('='));
        let named = if is_pair { words.len() } else { 1 };
        let mut names = words.iter().take(named);
        names.any(|word| word.split('=').next() == Some("PORT"))
    })
}

/// The first port of EXPOSE, else the one that platforms expect.
fn exposed(expose: Option<&Instruction<'_>>) -> String {
    let digits = expose.map(|one| {
        let digits = one.arguments.chars().take_while(char::is_ascii_digit);
        digits.collect::<String>()
    });
    let port = digits.filter(|port| !port.is_empty());
    port.unwrap_or("8080".to_owned())
}

/// True if these instructions, those of one stage, say what starts.
pub fn names_command(own: &[Instruction<'_>]) -> bool {
    let mut own = own.iter();
    own.any(|one| matches!(&*one.keyword, "ENTRYPOINT" | "CMD"))
}

/// `["pyserve", "--ini", "x"]`.
pub fn json(words: &[String]) -> String {
    array(std::iter::once("pyserve").chain(words.iter().map(String::as_str)))
}

fn array<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words = words.map(|word| serde_json::to_string(word).unwrap_or_default());
    format!("[{}]", words.collect::<Vec<_>>().join(", "))
}
