//! The commands of the manual for a container with a volume, run without a container.

use std::process::Command;

use rustix::process::Signal;

use super::{pebble, start, wait_for_certificate};
use crate::support::server::Pyserve;
use crate::support::{skipped, source, temp_dir};

/// The code blocks of the section, one after the other, with continued lines joined.
fn commands() -> Vec<String> {
    let text = std::fs::read_to_string(source("src/docs/tls.md")).unwrap();
    let (_, section) = text
        .split_once("### ACME in a container with a volume\n")
        .expect("the section");
    let (section, _) = section.split_once("\n## ").unwrap_or((section, ""));
    let blocks = section.split("```").skip(1).step_by(2);
    let lines = blocks.map(|block| block.replace("\\\n", " "));
    let lines: Vec<String> = lines
        .flat_map(|block| {
            let lines: Vec<_> = block.lines().map(str::to_owned).collect();
            lines
        })
        .collect();
    lines
}

/// The words behind `before` in the first command that has it.
fn words_behind(commands: &[String], before: &str) -> Vec<String> {
    let line = commands
        .iter()
        .find_map(|line| Some(line.split_once(before)?.1));
    let line = line.unwrap_or_else(|| panic!("no {before}: {commands:?}"));
    line.split_ascii_whitespace().map(str::to_owned).collect()
}

#[test]
fn the_commands_for_a_container_get_a_certificate_that_outlives_it() {
    if !rustix::process::geteuid().is_root() {
        return skipped(
            "ACME in a container",
            "only root can become the user of the image",
        );
    }
    let Some(mut pebble) = pebble("ACME in a container") else {
        return;
    };
    let commands = commands();
    let outer = temp_dir();
    std::fs::set_permissions(
        outer.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let volume = outer.path().join("volume");
    let place = |word: &str| word.replace("/var/lib/pyserve", &volume.to_string_lossy());
    // The volume, as the image makes it.
    let install = words_behind(&commands, "RUN install ");
    let made = Command::new("install")
        .args(install.iter().map(|word| place(word)))
        .status();
    assert!(made.unwrap().success());
    std::fs::create_dir(outer.path().join("static")).unwrap();
    let ca = outer.path().join("ca.pem");
    std::fs::copy(crate::support::tls::authority().root(), &ca).unwrap();
    let arguments = words_behind(&commands, " -p 443:8443 site ");
    let host = arguments
        .iter()
        .skip_while(|word| *word != "--acme")
        .nth(1)
        .unwrap()
        .clone();
    let run = |pebble: &crate::support::pebble::Pebble, binds: [String; 2]| {
        let [plain, tls] = binds;
        let arguments = arguments.iter().map(|word| match &**word {
            "0.0.0.0:8080" => plain.clone(),
            "https://0.0.0.0:8443" => tls.clone(),
            word => place(word),
        });
        let user = words_behind(&commands, "USER 1001:").remove(0);
        let server = Pyserve::new()
            .args(["--root".as_ref(), outer.path()])
            .args(["--uid", "1001", "--gid", &user])
            .args(arguments)
            .args(["--acme-directory", &pebble.directory()])
            .arg_file("--acme-ca", &ca)
            .env("PYSERVE_CONTROL", "off");
        server.listening()
    };
    let binds = ["127.0.0.1:0".to_owned(), "https://127.0.0.1:0".to_owned()];
    let mut first = run(&pebble, binds.clone());
    start(&mut pebble, &first);
    let certificate = wait_for_certificate(&first, &host, None);
    first.signal(Signal::TERM);
    assert_eq!(first.wait_exit(), 0);
    let orders = pebble.seen("/order-plz").len();
    let second = run(&pebble, binds);
    assert_eq!(wait_for_certificate(&second, &host, None), certificate);
    assert_eq!(pebble.seen("/order-plz").len(), orders);
}
