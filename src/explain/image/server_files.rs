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
