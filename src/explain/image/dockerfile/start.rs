//! The start of an image: its entry point and its command, which may make one command line.

use crate::config::foreign::Verdict;
use crate::config::foreign::{shell, supervisord};
use crate::explain::image::commands::{self, Became, Conversion, WORKERS};
use crate::explain::image::doubts;
use crate::explain::image::instructions::Instruction;
use crate::explain::image::{base, script};

/// The start of the last stage.
pub struct Start<'a> {
    conversion: &'a Conversion<'a>,
    /// The replacement of entry point and command, if they make one command line of a server.
    whole: Option<Became>,
    /// The entry point or the command, converted, if either starts a server by itself.
    became: Option<Became>,
    has_command: bool,
    /// Words before the server of both together, such as `gosu web`.
    before: Vec<String>,
    /// A program that an entry script looks for in the command.
    awaited: Option<String>,
    /// The text of the script that is the entry point.
    entry_script: Option<String>,
    /// Servers that entry scripts start through a link.
    links: Vec<String>,
    /// True if the base image starts its servers, and nothing else is said.
    pub is_inherited: bool,
    /// The port that the image has without an address: that of EXPOSE.
    port: Option<String>,
    /// The user of the last USER line, unless it is root: links are made by root.
    user: Option<String>,
}

impl<'a> Start<'a> {
    /// The start of these instructions, those of the last stage.
    pub fn of(own: &[Instruction<'_>], conversion: &'a Conversion<'a>) -> Self {
        let last = |keyword: &str| own.iter().rfind(|one| one.keyword == keyword);
        let (entry, command) = (last("ENTRYPOINT"), last("CMD"));
        let words = |found: Option<&Instruction<'_>>| found.and_then(Instruction::exec_form);
        let is_server =
            |words: &Vec<String>| !matches!(conversion.convert(words), Became::Stays(_));
        let line = words(entry).filter(is_server).map(|mut line| {
            line.extend(words(command).unwrap_or_default());
            line
        });
        let before = line
            .as_ref()
            .map_or(Vec::new(), |line| script::before(line).to_vec());
        let whole = line.map(|line| conversion.convert(&line));
        let base = own.first().filter(|one| one.keyword == "FROM");
        let is_inherited =
            base.is_some_and(|base| base::starts_itself(&base.arguments)) && !names_command(own);
        let awaited = awaited(words(entry), words(command), conversion);
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
            before,
            awaited,
            entry_script: words(entry).and_then(|words| script_of(&words, conversion)),
            links: script::links(conversion),
            has_command: command.is_some(),
            is_inherited,
            port,
            user: last("USER")
                .map(|one| one.arguments.clone())
                .filter(|user| !matches!(user.split(':').next(), Some("root" | "0"))),
        }
    }

    /// The words of the command of pyserve that starts the image, or the file of nginx beside a linked one.
    pub fn words(&self) -> Option<Vec<String>> {
        match self.became.as_ref()? {
            Became::Pyserve(words) => Some(words.clone()),
            _ => None,
        }
    }

    /// True if a link of the server's name starts the image.
    pub fn is_linked(&self) -> bool {
        matches!(self.became, Some(Became::Linked(..)))
    }

    /// True if pyserve looks for sites where nginx did, or nothing is known of the start.
    pub fn reads_sites(&self) -> bool {
        let has_supervisor = self
            .conversion
            .scripts()
            .iter()
            .any(|text| text.contains("supervisord"));
        match &self.became {
            Some(Became::Pyserve(words)) => words.iter().any(|word| word == "--supervisord"),
            Some(Became::Linked(..)) => false,
            None | Some(Became::Stays(_)) => has_supervisor,
            Some(_) => true,
        }
    }

    /// The ports on which the image listens, as far as they are known.
    pub fn ports(&self) -> Option<Vec<u16>> {
        match &self.became {
            Some(Became::Pyserve(words)) => self.conversion.ports(words),
            _ => self.conversion.ports(&[]),
        }
    }

    /// True if a script or a program that stays starts the image.
    pub fn is_by_script(&self) -> bool {
        matches!(self.became, None | Some(Became::Stays(_)))
    }

    /// Lines that the image needs behind its base.
    pub fn lines_behind_base(&self) -> Option<String> {
        self.port.as_ref().map(|port| format!("ENV PORT={port}"))
    }

    /// The verdict of `CMD` or `ENTRYPOINT`, and its new lines.
    pub fn verdict(&self, instruction: &Instruction<'_>) -> (Verdict, Option<Vec<String>>) {
        let keyword = &instruction.keyword;
        if self.is_inherited {
            let why = "not needed: the command of the base image, too".to_owned();
            return (Verdict::NoEffect(why), Some(Vec::new()));
        }
        if let (Some(program), "CMD") = (&self.awaited, &**keyword) {
            let advice = format!(
                "the entry script looks for {program} in the command: keep the command, with `RUN {}` before it, and have the script's lines start pyserve",
                commands::link(program)
            );
            return (Verdict::Unsupported(advice), None);
        }
        if let Some(whole) = &self.whole {
            let is_entry = keyword == "ENTRYPOINT";
            let after = match whole {
                Became::Pyserve(words) => match (is_entry, self.has_command) {
                    (true, true) => format!("ENTRYPOINT {}", started(&self.before, &[])),
                    (true, false) => format!(
                        "ENTRYPOINT {}",
                        started(&self.before, &without_shell(words))
                    ),
                    (false, _) => {
                        let words = without_shell(words);
                        format!("CMD {}", array(words.iter().map(String::as_str)))
                    }
                },
                _ => {
                    return (
                        self.conversion.verdict(whole),
                        match keyword == "ENTRYPOINT" {
                            true => {
                                let words = instruction.words();
                                self.linked(whole, self.with_path(instruction, &words, whole))
                            }
                            false => None,
                        },
                    );
                }
            };
            return (self.conversion.verdict(whole), Some(vec![after]));
        }
        let Some(words) = instruction.exec_form() else {
            return self.shell_form(instruction);
        };
        if let Some(at) = shell::script(&words) {
            return self.inner_script(instruction, words, at);
        }
        let mut became = self.alone(self.conversion.convert(&words));
        if became == Became::Stays("") && self.is_script(&words) {
            became = Became::Stays(OF_SCRIPT);
        }
        let before = script::before(&words);
        let after = match &became {
            Became::Pyserve(words) if words.iter().any(|word| word == WORKERS) => {
                let all = [before, &["pyserve".to_owned()], words].concat();
                let all: Vec<_> = all.iter().map(|word| shell::quoted(word)).collect();
                Some(vec![format!("{keyword} exec {}", all.join(" "))])
            }
            Became::Pyserve(words) => Some(vec![format!("{keyword} {}", started(before, words))]),
            Became::Stays(_) => self.with_links(instruction),
            Became::Dropped(_) => None,
            _ => self.linked(&became, self.with_path(instruction, &words, &became)),
        };
        (self.conversion.verdict(&became), after)
    }

    /// A command of the image that would go away: something has to be there.
    fn alone(&self, became: Became) -> Became {
        if !matches!(became, Became::Dropped(_)) {
            return became;
        }
        let script = self.entry_script.as_ref();
        match script.is_some_and(|text| script::becomes_pyserve(text, self.conversion)) {
            true => Became::Unsupported(
                "an entry script starts the server beside it: leave this line out, and have the script end with the line of the server, behind `exec` and without `&`, in the place of `exec \"$@\"`"
                    .to_owned(),
            ),
            false => self.conversion.of_nginx_alone(),
        }
    }

    /// The instruction in exec form, with the path of the link where its name would find another program.
    fn with_path(
        &self,
        instruction: &Instruction<'_>,
        words: &[String],
        became: &Became,
    ) -> String {
        match became {
            Became::Linked(program, _) if self.conversion.hides_links(words) => {
                let words = words.iter().map(|word| match word == program {
                    true => commands::linked(program),
                    false => word.clone(),
                });
                let words: Vec<_> = words.collect();
                format!(
                    "{} {}",
                    instruction.keyword,
                    array(words.iter().map(String::as_str))
                )
            }
            _ => instruction.lines.join("\n"),
        }
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
        let line = format!(
            "{} {}",
            instruction.keyword,
            array(words.iter().map(String::as_str))
        );
        let after = match &converted.became {
            Became::Pyserve(_) => Some(vec![line]),
            became => self.linked(became, line),
        };
        (self.conversion.verdict(&converted.became), after)
    }

    /// The lines of a command that stays, through a link.
    fn linked(&self, became: &Became, line: String) -> Option<Vec<String>> {
        let Became::Linked(program, nginx) = became else {
            return None;
        };
        let mut after = self.run_links([program].into_iter());
        after.extend(self.environment_of(program));
        let is_named = line.contains("PYSERVE_NGINX=");
        let nginx = nginx.as_ref().filter(|_| !is_named);
        after.extend(nginx.map(|file| format!("ENV PYSERVE_NGINX={file}")));
        after.push(line);
        Some(after)
    }

    /// The lines that make these links.
    fn run_links<'l>(&self, programs: impl Iterator<Item = &'l String>) -> Vec<String> {
        let links = programs.map(|program| format!("RUN {}", commands::link(program)));
        match &self.user {
            Some(user) => ["USER root".to_owned()]
                .into_iter()
                .chain(links)
                .chain([format!("USER {user}")])
                .collect(),
            None => links.collect(),
        }
    }

    /// The line that names the environment of a linked server's path.
    fn environment_of(&self, program: &str) -> Option<String> {
        let prefix = supervisord::prefix_of(program)?;
        let is_named = |name: &str| name.starts_with("UWSGI_V") || name == "VIRTUAL_ENV";
        (!self.conversion.sets(is_named)).then(|| format!("ENV VIRTUAL_ENV={prefix}"))
    }

    /// The lines of a command that stays, behind the links that scripts need.
    fn with_links(&self, instruction: &Instruction<'_>) -> Option<Vec<String>> {
        // The last of both lines, so that no installation comes behind.
        let is_last = instruction.keyword == "CMD" || !self.has_command;
        if self.links.is_empty() || !is_last {
            return None;
        }
        let mut after = Vec::new();
        after.extend(self.run_links(self.links.iter()));
        for program in &self.links {
            after.extend(self.environment_of(program));
        }
        after.extend(instruction.lines.iter().map(|line| (*line).to_owned()));
        Some(after)
    }

    /// True if a script of the image starts here.
    fn is_script(&self, words: &[String]) -> bool {
        let mut words = words.iter().filter(|word| !word.starts_with('-'));
        let program = words.find(|word| !doubts::is_init(word));
        program.is_some_and(|word| word.ends_with(".sh"))
    }

    fn shell_form(&self, instruction: &Instruction<'_>) -> (Verdict, Option<Vec<String>>) {
        let Some(mut converted) = script::converted(&instruction.arguments, self.conversion) else {
            return (Verdict::Wrong("a quote is not closed".to_owned()), None);
        };
        if matches!(converted.became, Became::Dropped(_)) && converted.text.is_empty() {
            let became = self.alone(converted.became);
            let after = match &became {
                Became::Pyserve(words) => Some(vec![format!(
                    "{} {}",
                    instruction.keyword,
                    started(&[], words)
                )]),
                _ => None,
            };
            return (self.conversion.verdict(&became), after);
        }
        if converted.became == Became::Stays("") && self.is_script(&instruction.words()) {
            converted.became = Became::Stays(OF_SCRIPT);
        }
        let text = script::executed(&converted.text);
        let after = match &converted.became {
            Became::Pyserve(_) => Some(vec![format!("{} {text}", instruction.keyword)]),
            Became::Stays(_) => self.with_links(instruction),
            became => self.linked(became, format!("{} {text}", instruction.keyword)),
        };
        (self.conversion.verdict(&converted.became), after)
    }
}

const OF_SCRIPT: &str = "what it starts is said at the lines of the script";

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

/// The program of the command that an entry script looks for, if its command becomes something else.
fn awaited(
    entry: Option<Vec<String>>,
    command: Option<Vec<String>>,
    conversion: &Conversion<'_>,
) -> Option<String> {
    let command = command?;
    let program = command.get(shell::program(&command))?;
    let changes = !matches!(
        conversion.convert(&command),
        Became::Stays(_) | Became::Linked(..)
    );
    let text = script_of(&entry?, conversion).filter(|_| changes)?;
    doubts::looks_at_command(&text, program).then(|| program.clone())
}

/// The text of the script that these words start.
fn script_of(words: &[String], conversion: &Conversion<'_>) -> Option<String> {
    let mut words = words.iter();
    let name = words.find(|word| !word.starts_with('-') && !doubts::is_init(word))?;
    conversion.script_of(name)
}

/// The words for a command line that no shell reads.
fn without_shell(words: &[String]) -> Vec<String> {
    let plain = words.iter().map(|word| match word == WORKERS {
        true => "1".to_owned(),
        false => word.clone(),
    });
    plain.collect()
}

/// `["gosu", "web", "pyserve", "--ini", "x"]`.
fn started(before: &[String], words: &[String]) -> String {
    let before = before.iter().map(String::as_str);
    let words = words.iter().map(String::as_str);
    array(before.chain(std::iter::once("pyserve")).chain(words))
}

/// True if these instructions, those of one stage, say what starts, and not what the base image starts.
pub fn names_command(own: &[Instruction<'_>]) -> bool {
    let mut own = own.iter();
    own.any(|one| match &*one.keyword {
        "ENTRYPOINT" => true,
        "CMD" => {
            let words = one.words();
            let program = words.first().and_then(|word| word.rsplit('/').next());
            words.len() != 1 || !matches!(program, Some("supervisord" | "start.sh"))
        }
        _ => false,
    })
}

/// `["pyserve", "--ini", "x"]`.
pub fn json(words: &[String]) -> String {
    array(std::iter::once("pyserve").chain(words.iter().map(String::as_str)))
}

fn array<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words = words.map(|word| serde_json::to_string(word).unwrap_or_default());
    format!("[{}]", words.collect::<Vec<_>>().join(", "))
}
