//! A Dockerfile: what becomes of each instruction.

pub mod health;
mod start;

use self::start::{Start, json};
use super::commands::Conversion;
use super::instructions::{Instruction, instructions, with_arguments};
use super::{Report, base, packages, placement, tiangolo};
use crate::config::foreign::Verdict;
use crate::config::foreign::shell;
use crate::config::layers::Layer;

/// The line that brings pyserve into an image.
const BINARY: &str = "COPY --from=pyserve /usr/local/bin/pyserve /usr/local/bin/";

/// The words of the commands that the last stage starts.
pub fn commands(text: &str) -> Vec<Vec<String>> {
    let own = final_instructions(&instructions(text));
    let last = |keyword: &str| own.iter().rfind(|one| one.keyword == keyword);
    let mut commands = Vec::new();
    let mut whole = Vec::new();
    for instruction in [last("ENTRYPOINT"), last("CMD")].into_iter().flatten() {
        match instruction.exec_form() {
            Some(words) => match shell::script(&words) {
                Some(at) => {
                    let all = shell::commands(&words[at]).unwrap_or_default();
                    commands.extend(all.into_iter().map(|command| command.words));
                }
                None => whole.extend(words),
            },
            None => {
                let all = shell::commands(&instruction.arguments).unwrap_or_default();
                commands.extend(all.into_iter().map(|command| command.words));
            }
        }
    }
    commands.push(whole);
    commands
}

/// The layer of a start that an image inherits: its nginx passes requests to its uWSGI.
pub fn inherited_layer(text: &str) -> Option<Layer> {
    let all = instructions(text);
    let own = final_instructions(&all);
    let from = own.first().filter(|one| one.keyword == "FROM")?;
    let starts_itself = base::starts_itself(&with_arguments(&from.arguments, &all));
    (starts_itself && !start::names_command(&own)).then(tiangolo::layer)
}

/// True if the last stage sets PORT.
pub fn sets_port(text: &str) -> bool {
    start::sets_port(&final_instructions(&instructions(text)))
}

/// The instructions of the last stage, and before them those of the stages on which it is built.
fn final_instructions<'a>(all: &[Instruction<'a>]) -> Vec<Instruction<'a>> {
    let own = placement::final_stage(all).into_iter();
    own.map(|index| all[index].clone()).collect()
}

/// True if the last stage is an image of nginx alone.
pub fn is_proxy(text: &str) -> bool {
    let all = instructions(text);
    is_proxy_alone(&final_instructions(&all), &all)
}

fn is_proxy_alone(own: &[Instruction<'_>], all: &[Instruction<'_>]) -> bool {
    let from = own.first().filter(|one| one.keyword == "FROM");
    from.is_some_and(|from| base::of(&with_arguments(&from.arguments, all), true).goes_away)
        && !has_application(own)
}

/// True if these instructions bring Python or a server of applications into an image of nginx.
fn has_application(own: &[Instruction<'_>]) -> bool {
    own.iter().any(|one| {
        let has = |name: &&str| one.arguments.contains(*name);
        match &*one.keyword {
            "RUN" => ["python", "pip ", "uwsgi", "gunicorn", "supervisor"]
                .iter()
                .any(has),
            "CMD" | "ENTRYPOINT" => ["python", "uwsgi", "gunicorn", "supervisord"]
                .iter()
                .any(has),
            _ => false,
        }
    })
}

pub fn explain(text: &str, conversion: &Conversion<'_>, report: &mut Report) {
    let all = instructions(text);
    let positions = placement::final_stage(&all);
    let own = &*final_instructions(&all);
    let last_stage = all.iter().rposition(|one| one.keyword == "FROM");
    let start = Start::of(own, conversion);
    let is_unneeded = is_proxy_alone(own, &all);
    let inherited = start
        .is_inherited
        .then(|| tiangolo::command(own, conversion));
    let named = Named {
        words: inherited.clone().or_else(|| start.words()),
        is_tiangolo: start.is_inherited,
        is_of_base: own
            .first()
            .is_some_and(|from| base::starts_itself(&with_arguments(&from.arguments, &all))),
        reads_sites: start.reads_sites(),
    };
    for (index, instruction) in all.iter().enumerate() {
        let is_final = last_stage.is_none() || positions.contains(&index);
        let (line, lines) = (instruction.line, &instruction.lines);
        let (verdict, after) = match &*instruction.keyword {
            "FROM" => {
                let arguments = with_arguments(&instruction.arguments, &all);
                let mut found = match positions.first() {
                    Some(first) if is_final && *first != index => base::of_stage(),
                    _ => base::of(&arguments, is_final),
                };
                if found.goes_away && !is_unneeded {
                    found = base::of_mixed(&arguments);
                }
                let mut after = match found.instead {
                    Some(image) => vec![format!("FROM {image}")],
                    None => lines.iter().map(|line| (*line).to_owned()).collect(),
                };
                if Some(index) == last_stage && !found.goes_away {
                    after.push(BINARY.to_owned());
                    after.extend(start.lines_behind_base());
                    if start.is_inherited {
                        after.extend(tiangolo::lines_behind_base(own, conversion));
                    }
                }
                (found.verdict, Some(after))
            }
            _ if !is_final => (Verdict::Read("a stage of the build stays".to_owned()), None),
            _ if is_unneeded => (of_unneeded(instruction, conversion), None),
            "CMD" | "ENTRYPOINT" if named.is_of_base && tiangolo::is_of_base(instruction) => {
                (Verdict::Unsupported(tiangolo::NOT_HERE.to_owned()), None)
            }
            "CMD" | "ENTRYPOINT" => start.verdict(instruction),
            "USER" if instruction.arguments.starts_with("nginx") && !start.is_inherited => {
                let advice = "the user comes with nginx: `RUN useradd --system nginx` before it";
                (Verdict::Unsupported(advice.to_owned()), None)
            }
            "RUN" => packages::without_servers(instruction, &|path| named.reads(path)),
            "HEALTHCHECK" => health::of(instruction, start.ports().as_deref()),
            "COPY" | "ADD" => copied(instruction, conversion, &named),
            "ENV" if start.is_inherited => {
                tiangolo::of_variables(instruction, conversion, named.has("--ini"))
            }
            "ENV" if instruction.arguments.contains("UWSGI_") => (named.of_uwsgi(&start), None),
            keyword => (of_others(keyword, &instruction.arguments), None),
        };
        report.say(line, &lines.join("\n"), verdict);
        if let Some(after) = after {
            report.replace(line, lines, after);
        }
    }
    if let Some(words) = inherited {
        let number = text.lines().count();
        let note = format!("pyserve {}", words.join(" "));
        report.say(
            number,
            "(the command of the base image)",
            Verdict::Honoured(note),
        );
        report.replace(number + 1, &[], vec![format!("CMD {}", json(&words))]);
    }
}

/// An instruction of an image that goes away.
fn of_unneeded(instruction: &Instruction<'_>, conversion: &Conversion<'_>) -> Verdict {
    let words = instruction.words();
    let mut flags = words
        .iter()
        .filter_map(|word| conversion.flag_of(word.trim_start_matches("./")));
    match (&*instruction.keyword, flags.next()) {
        // By a name of the network, a start would take the application for another server.
        ("COPY" | "ADD", Some("--nginx")) => Verdict::Noted(
            "its settings belong in a pyserve.toml beside the application (`pyserve explain --write` with this file, and those that start the application)".to_owned(),
        ),
        ("COPY" | "ADD", Some(flag)) => Verdict::Noted(format!(
            "copy the file into the image of the application, and give it to pyserve with {flag}"
        )),
        _ => Verdict::NoEffect("not needed: pyserve is in the image of the application".to_owned()),
    }
}

fn of_others(keyword: &str, arguments: &str) -> Verdict {
    match keyword {
        "EXPOSE" => {
            let why = "a note for people; the port is that of `bind`, or PORT";
            Verdict::NoEffect(why.to_owned())
        }
        "STOPSIGNAL" if !matches!(arguments.trim_start_matches("SIG"), "TERM" | "15") => {
            Verdict::Unsupported("pyserve stops gracefully at SIGTERM: leave it out".to_owned())
        }
        _ if INSTRUCTIONS.contains(&keyword) => Verdict::Read("it stays".to_owned()),
        _ => Verdict::Wrong("no instruction of a Dockerfile".to_owned()),
    }
}

/// The instructions that a builder knows, beside those that are explained by themselves.
const INSTRUCTIONS: &[&str] = &[
    "ARG",
    "ENV",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// The words that start the image, with the files in them.
struct Named {
    /// `None` if a script starts it, or a program that stays.
    words: Option<Vec<String>>,
    /// True if the base image starts its servers.
    is_tiangolo: bool,
    /// True for an image of that kind, whatever starts it.
    is_of_base: bool,
    /// True if the start reads the directories of nginx for sites.
    reads_sites: bool,
}

impl Named {
    /// True if the command has this flag.
    fn has(&self, flag: &str) -> bool {
        let mut words = self.words.iter().flatten();
        words.any(|word| word == flag)
    }

    /// True if the place of this file of nginx or supervisord matters.
    fn reads(&self, path: &str) -> bool {
        let places = [
            "/etc/nginx/sites-enabled",
            "/etc/nginx/conf.d",
            "/etc/nginx/nginx.conf",
        ];
        let is_site = places.iter().any(|place| path.starts_with(place));
        self.reads_sites && is_site || self.words.iter().flatten().any(|word| word == path)
    }

    /// The verdict of variables of uWSGI.
    fn of_uwsgi(&self, start: &Start<'_>) -> Verdict {
        let is_read = self.has("--ini") || self.has("--supervisord") || start.is_linked();
        match is_read || self.words.is_none() && start.is_by_script() {
            true => Verdict::Read(
                "pyserve reads it through the link `uwsgi`, and where --ini or UWSGI_INI names a file".to_owned(),
            ),
            false => Verdict::Unsupported(
                "the command names no file of uWSGI, so pyserve does not read it: start pyserve through a link, `ln -sf pyserve /usr/local/bin/uwsgi`".to_owned(),
            ),
        }
    }

    /// The verdict of a file that pyserve reads with `flag`, by its name and its path in the image.
    fn verdict(&self, flag: &str, source: &str, path: Option<&str>) -> Verdict {
        let base = source.rsplit('/').next().unwrap_or(source);
        let is_it = |word: &String| path == Some(word) || word.rsplit('/').next() == Some(base);
        match &self.words {
            Some(words) if words.iter().any(is_it) => {
                Verdict::Read(format!("it stays: pyserve reads the file with {flag}"))
            }
            // Its programs name their files.
            Some(_) if self.has("--supervisord") || self.has("--nginx") && flag == "--nginx" => {
                Verdict::Read("it stays: pyserve reads it where another file names it".to_owned())
            }
            Some(_) if self.is_tiangolo && flag == "--nginx" => {
                let included = path.and_then(tiangolo::of_included);
                included.unwrap_or_else(|| Verdict::Noted(BESIDE_NGINX.to_owned()))
            }
            Some(_) if flag == "--nginx" => Verdict::Noted(BESIDE_NGINX.to_owned()),
            Some(_) => Verdict::Noted(format!(
                "it stays, and the command of the image does not name it: pyserve reads it with {flag}"
            )),
            None => Verdict::Read(format!("it stays: pyserve reads the file with {flag}")),
        }
    }
}

const BESIDE_NGINX: &str = "nginx does not run here: give the file to pyserve with --nginx";

/// `COPY nginx.conf /etc/nginx/`.
fn copied(
    instruction: &Instruction<'_>,
    conversion: &Conversion<'_>,
    named: &Named,
) -> (Verdict, Option<Vec<String>>) {
    let words = instruction.words();
    let paths: Vec<_> = words
        .iter()
        .filter(|word| !word.starts_with("--"))
        .collect();
    let sources = &paths[..paths.len().saturating_sub(1)];
    let files = sources.iter().filter_map(|source| {
        let source = source.trim_start_matches("./");
        let path = conversion.path_of(source);
        let flag = conversion.flag_of(source)?;
        Some(named.verdict(flag, source, path.as_deref()))
    });
    // Of several files, one that is not read is worth more words.
    let rank = |verdict: &Verdict| match verdict {
        Verdict::Unsupported(_) => 2,
        Verdict::Noted(_) => 1,
        _ => 0,
    };
    if let Some(verdict) = files.max_by_key(rank) {
        return (verdict, None);
    }
    for source in sources {
        let source = source.trim_start_matches("./");
        let base = source.rsplit('/').next().unwrap_or(source);
        if matches!(base, "uwsgi_params" | "mime.types" | "proxy_params") {
            let why = "not needed: pyserve knows them";
            return (Verdict::NoEffect(why.to_owned()), Some(Vec::new()));
        }
        let target = paths.last().map_or("", |target| target.as_str());
        if named.is_of_base && tiangolo::is_own(target) {
            return (Verdict::Unsupported(tiangolo::NOT_HERE.to_owned()), None);
        }
        if base == "nginx.conf" || target.contains("/nginx/") {
            return (Verdict::Noted(BESIDE_NGINX.to_owned()), None);
        }
        if base.starts_with("supervisord")
            || target.contains("/supervisor")
            || base.starts_with("supervisor") && base.ends_with(".conf")
        {
            if named.words.iter().flatten().any(|word| word == target) {
                let read = "it stays: pyserve reads the file with --supervisord";
                return (Verdict::Read(read.to_owned()), None);
            }
            let advice = "pyserve watches its processes itself; other programs of the file are [[companion]] tables";
            return (Verdict::Noted(advice.to_owned()), None);
        }
    }
    (Verdict::Read("it stays".to_owned()), None)
}
