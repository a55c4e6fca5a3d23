//! Commands of an image about files that the packages of nginx and supervisord bring.

/// Programs that only change files, so that lines about files of nginx and supervisord can go away.
const OF_FILES: &[&str] = &[
    "chgrp", "chmod", "chown", "echo", "ln", "mkdir", "rm", "touch", "unlink",
];
/// Directories that packages of servers bring.
const OF_SERVERS: &[&str] = &[
    "/etc/nginx",
    "/etc/supervisor",
    "/run/nginx",
    "/var/cache/nginx",
    "/var/lib/nginx",
    "/var/log/nginx",
    "/var/log/supervisor",
    "/var/run/nginx",
    "/usr/share/nginx",
];

/// True if a command only changes files of nginx and supervisord, none of which is at one of the places that
/// `is_read` knows: `rm /etc/nginx/sites-enabled/default`.
pub fn is_about_servers(words: &[String], is_read: &dyn Fn(&str) -> bool) -> bool {
    let Some(program) = words.first() else {
        return false;
    };
    let paths = words[1..]
        .iter()
        .map(|word| word.trim_start_matches(['>', '&', '1', '2']));
    let paths: Vec<_> = paths.filter(|word| word.contains('/')).collect();
    let is_of_server = |path: &&str| {
        let is_below = |place: &&str| {
            let rest = path.strip_prefix(*place);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '.']))
        };
        OF_SERVERS.iter().any(is_below)
    };
    let is_device = |path: &str| path.starts_with("/dev/std") || path == "/dev/null";
    let all = paths
        .iter()
        .all(|path| is_of_server(path) || is_device(path));
    let is_harmless = match program.as_str() {
        "rm" | "unlink" => true,
        // Other texts may be a site.
        "echo" => words.iter().any(|word| word.contains("daemon off")),
        _ => !paths.last().is_some_and(|path| is_read(path)),
    };
    OF_FILES.contains(&program.as_str()) && paths.iter().any(is_of_server) && all && is_harmless
}

/// Main files that packages of supervisord bring, with the directory and the ending of the files that they include.
const MAINS: &[(&str, &str, &str)] = &[
    (
        "/etc/supervisor/supervisord.conf",
        "/etc/supervisor/conf.d/",
        ".conf",
    ),
    ("/etc/supervisord.conf", "/etc/supervisord.d/", ".ini"),
    ("/etc/supervisord.conf", "/etc/supervisor.d/", ".ini"),
];

/// True for a main file that a package of supervisord brings.
pub fn is_main_of_supervisord(path: &str) -> bool {
    MAINS.iter().any(|(main, ..)| *main == path)
}

/// True if such a main file includes this one.
pub fn is_included(path: &str, main: &str) -> bool {
    MAINS.iter().any(|(own, directory, ending)| {
        let inside = path.strip_prefix(directory).unwrap_or("/");
        *own == main && !inside.contains('/') && inside.ends_with(ending)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn main_files_of_packages_include_those_of_their_directory() {
        let check = |path: &str, main: &str, expected: bool| {
            assert_eq!(is_included(path, main), expected, "{path} of {main}");
        };
        let debian = "/etc/supervisor/supervisord.conf";
        check("/etc/supervisor/conf.d/app.conf", debian, true);
        check("/etc/supervisor/conf.d/app.ini", debian, false);
        check("/etc/supervisor/conf.d/sub/app.conf", debian, false);
        check("/etc/supervisor/app.conf", debian, false);
        check("/etc/supervisord.d/app.ini", "/etc/supervisord.conf", true);
        check("/etc/supervisord.d/app.ini", debian, false);
    }
}
