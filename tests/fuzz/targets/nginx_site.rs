//! Files of nginx: any text is read to an end, within bounds, every line has a verdict, and the settings
//! read back.
//!
//! The first byte chooses what is known of the application; the rest is the file, which can include
//! itself.

use std::path::Path;

use pyserve::internals::Environment;
use pyserve::internals::foreign::nginx::{Given, read};
use pyserve::internals::foreign::surroundings::FileKind;
use pyserve::internals::foreign::{Files, Reading, Surroundings, equivalent};

/// Reads the file, and writes its equivalent.
pub fn run(input: &[u8]) {
    let Some((known, text)) = input.split_first() else {
        return;
    };
    let environment: Environment = [("PORT", "80"), ("X", "${X}")].into_iter().collect();
    let read_file = |_: &Path, _: usize| Ok(text.to_vec());
    let kind = |path: &Path| {
        let is_dir = path.ends_with("dir");
        Some(FileKind {
            is_link: false,
            is_file: !is_dir,
            is_dir,
            inode: 1,
        })
    };
    let files = Files {
        read: &read_file,
        kind: &kind,
        real: &|path| Some(path.to_owned()),
        stand_in: &|_| None,
    };
    let around = Surroundings {
        environment: &environment,
        current_dir: Path::new("/srv"),
        hostname: "host".to_owned(),
        cpus: 4,
        user: (0, "root".to_owned()),
        group: (0, "root".to_owned()),
        is_root: true,
        is_explained: false,
        now: std::time::UNIX_EPOCH,
        files: &files,
    };
    let given = Given {
        app: known & 1 != 0,
        found_app: (known & 2 != 0).then(|| "site:app".to_owned()),
        binds: vec!["127.0.0.1:8000".to_owned()],
        sockets: vec!["/run/app.sock".to_owned(), ":3031".to_owned()],
        trusts: false,
        hosts: vec!["web".to_owned()],
        deadline: (known & 4 != 0).then_some(20),
        is_dir: &|_| known & 8 == 0,
        is_dir_here: &|_| known & 16 == 0,
        has_headers: false,
        bad_passwords: &|_| None,
        variable: &|name| environment.raw(name),
    };
    let reading = read("site.conf", &around, &given);
    for line in &reading.lines {
        assert!(!line.verdict.detail().is_empty(), "{line}");
    }
    assert_eq!(reading.exit_code() == 2, has_wrong_line(&reading));
    // Written down, it is TOML.
    let text = equivalent::file(&reading.layer, false);
    assert!(text.parse::<toml::Table>().is_ok(), "{text}");
    let _ = equivalent::file(&reading.layer, true);
}

fn has_wrong_line(reading: &Reading) -> bool {
    let mut words = reading.lines.iter().map(|line| line.verdict.word());
    words.any(|word| word == "wrong")
}
