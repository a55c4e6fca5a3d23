//! Files of uWSGI in all four forms: any text is read to an end, within bounds, and its settings read
//! back.
//!
//! The first byte chooses the form; the rest is the file, which can include itself.

use std::path::Path;

use pyserve::internals::Environment;
use pyserve::internals::foreign::surroundings::FileKind;
use pyserve::internals::foreign::uwsgi::{Form, Sources, read};
use pyserve::internals::foreign::{Files, Surroundings, equivalent};

/// Reads the file, and writes its equivalent.
pub fn run(input: &[u8]) {
    let Some((form, text)) = input.split_first() else {
        return;
    };
    let form = [Form::Ini, Form::Yaml, Form::Json, Form::Xml][usize::from(*form) % 4];
    let environment: Environment = [("UWSGI_THREADS", "2"), ("X", "$(X)"), ("PORT", "80")]
        .into_iter()
        .collect();
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
    let sources = Sources {
        variables: true,
        files: vec![("site.ini".to_owned(), form)],
        ..Sources::default()
    };
    let reading = read(&sources, &around);
    for line in &reading.lines {
        assert!(!line.verdict.detail().is_empty(), "{line}");
    }
    assert_eq!(reading.exit_code() == 2, has_wrong_line(&reading));
    // Written down, it is TOML.
    let text = equivalent::file(&reading.layer, false);
    assert!(text.parse::<toml::Table>().is_ok(), "{text}");
    let _ = equivalent::file(&reading.layer, true);
}

fn has_wrong_line(reading: &pyserve::internals::foreign::Reading) -> bool {
    let mut words = reading.lines.iter().map(|line| line.verdict.word());
    words.any(|word| word == "wrong")
}
