//! `RUN` instructions without the packages whose work pyserve does.

use super::instructions::{Instruction, heredoc, instructions};
use super::server_files::is_about_servers;
use crate::config::foreign::Verdict;
use crate::config::foreign::shell;

/// Packages of distributions and of PyPI.
const SERVERS: &[&str] = &[
    "nginx",
    "nginx-core",
    "nginx-extras",
    "nginx-full",
    "nginx-light",
    "supervisor",
    "uwsgi",
    "uwsgi-core",
    "uwsgi-plugin-python",
    "uwsgi-plugin-python3",
    "uwsgi-python3",
    "gunicorn",
    "pyuwsgi",
];

/// The verdict of an instruction, and its lines without those packages; `is_read` tells whether the place of a file
/// of nginx or supervisord matters.
pub fn without_servers(
    instruction: &Instruction<'_>,
    is_read: &dyn Fn(&str) -> bool,
) -> (Verdict, Option<Vec<String>>) {
    let stays = || (Verdict::Read("it stays".to_owned()), None);
    if instruction.lines.len() > 1 && heredoc(&instruction.arguments).is_some() {
        return of_heredoc(instruction, is_read);
    }
    let Some(commands) = shell::commands(&instruction.arguments) else {
        return stays();
    };
    let (found, mut needless) = servers_in(&commands);
    let about = commands.iter().filter(|command| {
        let is_alone = !matches!(&*command.operator, "|" | "||" | "&");
        is_alone && is_about_servers(&command.words, is_read)
    });
    let about: Vec<_> = about.map(|command| command.span.start).collect();
    let rest = commands
        .iter()
        .filter(|command| !about.contains(&command.span.start));
    let rest: Vec<_> = rest
        .map(|command| &instruction.arguments[command.span.clone()])
        .collect();
    if found.is_empty() && !about.is_empty() {
        let is_clean = !["nginx", "supervisor"]
            .iter()
            .any(|text| rest.iter().any(|rest| rest.contains(text)));
        let verdict = Verdict::NoEffect(
            "not needed: files of nginx and supervisord, which are not here".to_owned(),
        );
        if is_clean {
            let after = commands_without(&instruction.arguments, &commands, &about, &[]);
            return (verdict, Some(after));
        }
    }
    needless.extend(about);
    if found.is_empty() {
        let is_of_server = ["nginx", "supervisor"]
            .iter()
            .any(|text| instruction.arguments.contains(text));
        // A user of this name may own files of the application.
        let is_user = commands.iter().all(|command| {
            let has_path = |word: &String| word.contains("/nginx") || word.contains("supervisor");
            let program = command.words.first().map(String::as_str);
            matches!(program, Some("chown" | "useradd" | "groupadd" | "usermod"))
                && !command.words.iter().any(has_path)
        });
        return match is_of_server && !is_user {
            true => {
                let why = "it prepares nginx or supervisord, which are not here: leave out that part, and COPY the site to /etc/nginx/conf.d/ if it puts one to its place";
                (Verdict::Unsupported(why.to_owned()), None)
            }
            false => stays(),
        };
    }
    let names = found.join(", ");
    let verdict = Verdict::NoEffect(format!("not needed: {names}; pyserve does their work"));
    let after = match needless.is_empty() {
        true => lines_without(instruction, &found),
        false => commands_without(&instruction.arguments, &commands, &needless, &found),
    };
    (verdict, Some(after))
}

/// The packages of servers that commands install, and where those commands begin that would install nothing else.
fn servers_in(commands: &[shell::Command]) -> (Vec<String>, Vec<usize>) {
    let installs = commands.iter().filter(|command| {
        let is_tool = |word: &String| {
            let base = word.rsplit('/').next().unwrap_or(word);
            matches!(base, "apt-get" | "apt" | "yum" | "dnf" | "apk" | "microdnf")
                || base.starts_with("pip")
        };
        command.words.iter().any(is_tool)
            && command
                .words
                .iter()
                .any(|word| word == "install" || word == "add")
    });
    let mut found = Vec::new();
    // Commands that would install nothing else.
    let mut needless = Vec::new();
    for command in installs {
        let at = command
            .words
            .iter()
            .position(|word| word == "install" || word == "add");
        let packages = &command.words[at.unwrap_or(0) + 1..];
        let names = packages.iter().enumerate().filter(|(index, word)| {
            // `-r requirements.txt` is a package as well.
            !word.starts_with('-')
                || packages.get(index + 1).is_some() && matches!(word.as_str(), "-r" | "-e")
        });
        let names: Vec<_> = names.map(|(_, word)| word).collect();
        let servers: Vec<_> = names.iter().filter(|word| is_server(word)).collect();
        if servers.len() == names.len() {
            needless.push(command.span.start);
        }
        found.extend(servers.into_iter().map(|word| (**word).clone()));
    }
    (found, needless)
}

/// `RUN <<EOF`: the commands of its lines, each as an instruction of its own.
fn of_heredoc(
    instruction: &Instruction<'_>,
    is_read: &dyn Fn(&str) -> bool,
) -> (Verdict, Option<Vec<String>>) {
    let lines = &instruction.lines;
    let mut after = vec![lines[0].to_owned()];
    let mut verdict = None;
    let mut group: Vec<&str> = Vec::new();
    for line in &lines[1..lines.len() - 1] {
        group.push(line);
        if line.trim_end().ends_with('\\') {
            continue;
        }
        let text = format!("RUN {}", group.join("\n"));
        let own = instructions(&text);
        let changed = own.first().map(|one| without_servers(one, is_read));
        match changed {
            Some((reason, Some(changed))) => {
                verdict = verdict.or(Some(reason));
                after.extend(changed.into_iter().map(|line| {
                    let rest = line.strip_prefix("RUN ").map(str::to_owned);
                    rest.unwrap_or(line)
                }));
            }
            _ => after.extend(group.iter().map(|line| (*line).to_owned())),
        }
        group.clear();
    }
    after.extend(group.iter().map(|line| (*line).to_owned()));
    let has_commands = after.iter().skip(1).any(|line| !line.trim().is_empty());
    match (verdict, has_commands) {
        (None, _) => (Verdict::Read("it stays".to_owned()), None),
        (Some(verdict), false) => (verdict, Some(Vec::new())),
        (Some(verdict), true) => {
            after.extend(lines.last().map(|line| (*line).to_owned()));
            (verdict, Some(after))
        }
    }
}

/// The instruction without whole commands; the others stand on a line each.
fn commands_without(
    text: &str,
    commands: &[shell::Command],
    needless: &[usize],
    removed: &[String],
) -> Vec<String> {
    let kept = commands
        .iter()
        .filter(|command| !needless.contains(&command.span.start));
    let mut kept: Vec<_> = kept.collect();
    // An update of the lists is for an installation that follows.
    while let Some(last) = kept.last() {
        let is_preparation = last
            .words
            .iter()
            .any(|word| word == "update" || word == "upgrade")
            || text[last.span.clone()].starts_with("rm -rf /var/lib/apt");
        let installs = kept
            .iter()
            .any(|command| command.words.iter().any(|word| word == "install"));
        match is_preparation && !installs {
            true => kept.pop(),
            false => break,
        };
    }
    let count = kept.len();
    let lines = kept.iter().enumerate().map(|(index, command)| {
        let words = text[command.span.clone()].split_whitespace();
        let words = words.filter(|word| {
            !removed
                .iter()
                .any(|gone| gone == word.trim_matches(['"', '\'']))
        });
        let start = match index {
            0 => "RUN ".to_owned(),
            _ => format!("    {} ", kept[index - 1].operator),
        };
        let end = if index + 1 < count { " \\" } else { "" };
        format!("{start}{}{end}", words.collect::<Vec<_>>().join(" "))
    });
    lines.collect()
}

fn is_server(word: &str) -> bool {
    let name = word.trim_matches(['"', '\'']);
    let name = &name[..name
        .find(['=', '<', '>', '~', '[', '!'])
        .unwrap_or(name.len())];
    SERVERS.contains(&&*name.to_ascii_lowercase())
}

/// The lines without these words; lines that become empty go away.
fn lines_without(instruction: &Instruction<'_>, removed: &[String]) -> Vec<String> {
    let mut after = Vec::new();
    for line in &instruction.lines {
        let indent = &line[..line.len() - line.trim_start().len()];
        let words = line.split_whitespace();
        let kept: Vec<_> = words
            .clone()
            .filter(|word| {
                !removed
                    .iter()
                    .any(|gone| gone == word.trim_matches(['"', '\'']))
            })
            .collect();
        match (kept.len() == words.count(), &kept[..]) {
            (true, _) => after.push((*line).to_owned()),
            (false, [] | ["\\"]) => {}
            (false, kept) => after.push(format!("{indent}{}", kept.join(" "))),
        }
    }
    // The last line of the instruction may have gone.
    if let Some(last) = after.last_mut()
        && let Some(rest) = last.strip_suffix('\\')
    {
        *last = rest.trim_end().to_owned();
    }
    after
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_of_servers_are_left_out() {
        let check = |text: &str, expected: Option<&[&str]>| {
            let all = instructions(text);
            let (_, after) = without_servers(&all[0], &|path| path.ends_with("read"));
            let after = after
                .as_ref()
                .map(|lines| lines.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(after.as_deref(), expected, "{text}");
        };
        check(
            "RUN apt-get update && apt-get install -y nginx supervisor gcc",
            Some(&["RUN apt-get update && apt-get install -y gcc"]),
        );
        check(
            "RUN apt-get install -y \\\n    nginx \\\n    gcc \\\n    supervisor",
            Some(&["RUN apt-get install -y \\", "    gcc"]),
        );
        check("RUN pip install uwsgi==2.0.20", Some(&[]));
        check(
            "RUN pip install -r requirements.txt uWSGI",
            Some(&["RUN pip install -r requirements.txt"]),
        );
        check("RUN apt-get update && apt-get install -y nginx", Some(&[]));
        check(
            "RUN apt-get update && apt-get install -y nginx && make && pip install uwsgi flask",
            Some(&[
                "RUN apt-get update \\",
                "    && make \\",
                "    && pip install flask",
            ]),
        );
        check(
            "RUN <<EOF\napt-get update\napt-get install -y nginx gcc\npip install uwsgi\nEOF",
            Some(&[
                "RUN <<EOF",
                "apt-get update",
                "apt-get install -y gcc",
                "EOF",
            ]),
        );
        check("RUN <<EOF\npip install uwsgi\nEOF", Some(&[]));
        check("RUN <<EOF\npip install flask\nEOF", None);
        check("RUN <<EOF\npip install uwsgi", None);
        check("RUN pip install flask", None);
        check("RUN rm -f /etc/nginx/sites-enabled/default", Some(&[]));
        check(
            "RUN ln -sf /dev/stdout /var/log/nginx/access.log && make",
            Some(&["RUN make"]),
        );
        check("RUN echo 'daemon off;' >> /etc/nginx/nginx.conf", Some(&[]));
        check(
            "RUN ln -s /etc/nginx/sites-available/a /etc/nginx/sites-enabled/read",
            None,
        );
        check("RUN ln -s /etc/nginx/a /etc/nginx/b || true", None);
        check("RUN ln -s /srv/site.conf /etc/nginx/b", None);
        check("RUN chown -R app /var/log/nginx /srv", None);
        check("RUN make nginx", None);
    }
}
